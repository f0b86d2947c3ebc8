//! The document of `naru status --json`: what is served, by whom, and what is wrong.
//!
//! Its fields are a contract with tools outside: they may be added to, never renamed. Built from what is known and
//! counted; never asks anybody.

mod interfaces;
mod render;
mod services;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use lb_common::abi::{self, BackendId};
use lb_common::verdict::Reason;
use serde::{Deserialize, Serialize};

pub use self::render::render;
use super::alarm;
use super::condition::State;
use super::kernel::KernelState;
use super::timestamp::rfc3339;
use super::vrrp::document::InstanceDocument;
use super::world::World;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub config: ConfigStatus,
    pub interfaces: Vec<Interface>,
    pub vrrp: Vec<InstanceDocument>,
    pub services: Vec<Service>,
    pub drops: BTreeMap<String, u64>,
    /// Packets left to the host's own stack.
    pub passes: BTreeMap<String, u64>,
    pub flows: Flows,
    pub overrides: Vec<OverrideStatus>,
    pub alarms: Vec<AlarmStatus>,
    /// Backends that the file, or their name, no longer has and that still have flows.
    pub leaving: Vec<Leaving>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub path: String,
    /// 0: none yet.
    pub generation: u64,
    pub applied_at: Option<String>,
    /// Why the newest file is not the one applied.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    /// `native` or `generic`; null in the moment before the kernel says which.
    pub xdp: Option<String>,
    /// `card`, `veth`, or the kernel's word for a device in software.
    pub device: String,
    /// Why it has this mode; empty in the moment before the kernel says which.
    pub reason: String,
    /// Frames of native XDP that the driver has lost, since the daemon looks.
    pub lost_frames: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub listen: Vec<String>,
    pub protocol: String,
    pub mode: String,
    pub algorithm: String,
    pub state: ServiceState,
    pub backends: Vec<Backend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    Up,
    /// Served, but a backend is down or unresolved, an interface is without the program, or a listen is out of clients' reach.
    Degraded,
    /// Nobody takes new flows, or no client gets here.
    Down,
}

/// Packets and bytes are those of both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub name: String,
    /// `host:port` where it has a name; then each address of it has an entry, and they share the weight.
    pub host: Option<String>,
    /// Of one that is unresolved, its `host:port`.
    pub address: String,
    /// In the file.
    pub weight: u16,
    pub effective_weight: u16,
    pub state: State,
    pub reason: String,
    pub since: String,
    pub active_flows: u64,
    pub new_flows: u64,
    pub packets: u64,
    pub bytes: u64,
    /// New flows refused for want of a source port.
    pub snat_ports_exhausted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub active: u64,
    /// Of these, by address family.
    pub ipv4: u64,
    pub ipv6: u64,
    /// Of each family's table.
    pub capacity: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideStatus {
    pub service: String,
    pub backend: String,
    /// `disable`, `drain`, or `weight N`.
    pub what: String,
    pub by: String,
    pub at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmStatus {
    pub name: String,
    pub service: String,
    /// Null: all of the service.
    pub backend: Option<String>,
    pub metric: String,
    pub above: f64,
    /// `quiet`, `ringing`, or `returning`: the weights are on their way back.
    pub state: String,
    pub since: String,
    /// The last data point; null without data.
    pub value: Option<f64>,
    /// How many of the last data points were above, and how many make it ring: `2 of 3`.
    pub over: u32,
    pub datapoints: String,
    /// Why it changes no weight though it is not quiet.
    pub without_effect: Option<String>,
    /// All of it in a sentence.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Null for what an earlier daemon left behind.
    pub service: Option<String>,
    pub name: Option<String>,
    pub address: String,
    pub reason: String,
    pub since: String,
    pub active_flows: u64,
}

/// What the world does not know of this daemon.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The node's name where the file gives none.
    pub host: &'a str,
    pub version: &'a str,
    pub config: &'a Path,
}

/// What the kernel counts.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub traffic: BTreeMap<BackendId, abi::Traffic>,
    pub verdicts: BTreeMap<Reason, u64>,
    pub flow_capacity: u64,
    /// Why drivers refused native XDP, by interface index.
    pub native_refused: BTreeMap<u32, String>,
}

impl Status {
    pub fn of(world: &World, actual: &KernelState, counters: &Counters, about: &About, now: Instant) -> Self {
        let applied = world.applied();
        let name = applied.and_then(|applied| applied.file.config.node.name.clone());
        let (ipv4, ipv6) = world.flows_by_family();
        let flows = Flows {
            active: ipv4 + ipv6,
            ipv4,
            ipv6,
            capacity: counters.flow_capacity,
        };
        let reasons = |passes| {
            let counted = |reason: &&Reason| reason.passes() == passes;
            let count = |reason: &Reason| counters.verdicts.get(reason).copied().unwrap_or_default();
            Reason::ALL
                .iter()
                .filter(counted)
                .map(|reason| (reason.name().to_owned(), count(reason)))
                .collect()
        };
        Self {
            node: name.unwrap_or_else(|| about.host.to_owned()),
            version: about.version.to_owned(),
            config: ConfigStatus {
                path: about.config.display().to_string(),
                generation: applied.map_or(0, |applied| applied.generation),
                applied_at: applied.map(|applied| rfc3339(applied.at)),
                error: world.refused().map(str::to_owned),
            },
            interfaces: interfaces::interfaces(world, actual, counters),
            vrrp: Vec::new(),
            services: services::services(world, actual, counters),
            drops: reasons(false),
            passes: reasons(true),
            overrides: overrides(world),
            alarms: alarms(world),
            leaving: leaving(world),
            warnings: warnings::warnings(world, actual, counters, &flows, now),
            flows,
        }
    }
}

fn overrides(world: &World) -> Vec<OverrideStatus> {
    let mut list = Vec::new();
    for (name, said) in world.overrides().iter() {
        list.extend(said.sayings().map(|(what, said)| OverrideStatus {
            service: name.service.clone(),
            backend: name.backend.clone(),
            what,
            by: said.by.clone(),
            at: rfc3339(said.at),
        }));
    }
    list
}

fn alarms(world: &World) -> Vec<AlarmStatus> {
    let alarms = world.alarms().iter().map(|(name, watch)| AlarmStatus {
        name: name.to_owned(),
        service: watch.rule.service.clone(),
        backend: watch.rule.backend.clone(),
        metric: alarm::word(watch.rule.metric).to_owned(),
        above: watch.rule.above.0,
        state: watch.bell.state().word().to_owned(),
        since: rfc3339(watch.since.wall),
        value: watch.bell.last(),
        over: watch.bell.over(),
        datapoints: watch.rule.datapoints.to_string(),
        without_effect: world.without_effect(name),
        text: format!(
            "{watch} in {} periods of {:?}, {}",
            watch.rule.datapoints,
            watch.rule.period,
            watch.last()
        ),
    });
    alarms.collect()
}

fn leaving(world: &World) -> Vec<Leaving> {
    // Before there is a file, everything waits for one that names it.
    if world.settled().is_none() {
        return Vec::new();
    }
    let leaving = world.members().backends.iter().filter_map(|(&id, member)| {
        let name = member.name.clone();
        Some(Leaving {
            service: name.as_ref().map(|name| name.service.clone()),
            name: name.map(|name| name.backend),
            address: member.address.to_string(),
            reason: member.leaving?.why().to_owned(),
            since: rfc3339(member.leaving?.since),
            active_flows: world.flows(id),
        })
    });
    leaving.collect()
}
