//! What operators get to hear over the control socket, and what they may change.

use std::fs;
use std::path::Path;
use std::time::Instant;

use lb_common::abi::{BackendId, TCP};
use serde::Serialize;
use serde_json::json;
use tracing::info;

use super::{DISK_WAITS, Daemon, now};
use crate::core::config::MAX_WEIGHT;
use crate::core::dns::document::documents;
use crate::core::explain::{self, Explanation};
use crate::core::keeping::Kept;
use crate::core::members::{Member, Name};
use crate::core::overrides::Change;
use crate::core::status::{About, Counters, Status};
use crate::core::sysctls;
use crate::core::vrrp::document::InstanceDocument;
use crate::core::world::{Applied, Event};
use crate::io::control::{Call, FlowRow, Flows, Reply, Request, Target};
use crate::io::flows::Flow;
use crate::io::neighbour_tables;
use crate::io::sysctls::read as read_sysctl;

/// More rows than anybody reads; the loop has other things to do than to write them.
const FLOWS_LISTED: usize = 10_000;

/// An operator's word that is in force, and may still be on its way to the disk.
pub struct Promise {
    call: Call,
    name: Name,
    said: Instant,
}

impl Promise {
    /// When it is answered at the latest.
    pub fn due(&self) -> Instant {
        self.said + DISK_WAITS
    }
}

impl Daemon {
    pub(super) async fn answer(&mut self, call: Call) {
        let answer = match call.request.clone() {
            Request::Status {} => document(self.status(self.vrrp().await.instances)),
            Request::Reload {} => self.reload().await.and_then(document),
            Request::Flows { service, backend } => {
                self.flows(service.as_deref(), backend.as_deref()).and_then(document)
            }
            Request::Explain { target } => self.explain(target).and_then(document),
            Request::Events {} => document(explain::events(&self.world)),
            Request::Vrrp {} => document(self.vrrp().await),
            Request::Failover { name } => self.failover(name).await.and_then(document),
            Request::Failback { name } => self.failback(name).await.and_then(document),
            Request::Dns {} => document(documents(&self.world, now())),
            Request::Disable { target } => return self.change(call, target, Change::Disable),
            Request::Enable { target } => return self.change(call, target, Change::Enable),
            Request::Drain { target } => return self.change(call, target, Change::Drain),
            Request::Undrain { target } => return self.change(call, target, Change::Undrain),
            Request::Weight { weight, .. } if weight > MAX_WEIGHT => {
                Err(format!("weight {weight} is not in 0..={MAX_WEIGHT}"))
            }
            Request::Weight { target, weight } => return self.change(call, target, Change::Weight(weight)),
        };
        call.reply(match answer {
            Ok(value) => Reply::Done(value),
            Err(reason) => Reply::Refused(reason),
        });
    }

    pub(super) fn pin_dir(&self) -> &Path {
        self.world.node().map_or(Path::new(""), |node| &node.pin_dir)
    }

    pub(super) fn status(&self, vrrp: Vec<InstanceDocument>) -> Status {
        let members = self.world.members().backends.keys();
        let counters = Counters {
            // A counter that cannot be read is shown as nothing counted, beside all that is known.
            traffic: members
                .filter_map(|id| Some((*id, self.kernel.traffic(*id).ok()?)))
                .collect(),
            verdicts: self.kernel.verdicts().unwrap_or_default(),
            flow_capacity: self.kernel.flows().capacity(),
            native_refused: self.kernel.native_refused().clone(),
        };
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let about = About {
            host: host.trim(),
            version: env!("CARGO_PKG_VERSION"),
            config: &self.path,
        };
        let mut status = Status::of(&self.world, &self.actual, &counters, &about, Instant::now());
        status.warnings.extend(self.sysctls());
        status.warnings.extend(self.secret_files.warnings());
        status.warnings.extend(vrrp.iter().flat_map(InstanceDocument::warnings));
        Status { vrrp, ..status }
    }

    /// What of the host's settings harms the addresses that this node shares, as they are now, or all that it has to reach.
    pub(super) fn sysctls(&self) -> Vec<String> {
        let settled = self.world.settled();
        let troubles =
            |(applied, network): (&Applied, _)| sysctls::troubles(&applied.file.config, network, read_sysctl);
        let mut troubles = settled.map(troubles).unwrap_or_default();
        troubles.extend(neighbour_tables::warnings());
        troubles
    }

    /// One line for the service manager.
    pub(super) fn summary(&self) -> String {
        let services = self.actual.slots.len();
        match self.world.refused() {
            None => format!("services served: {services}"),
            Some(_) => format!("services served: {services}; the file has errors, see `naru status`"),
        }
    }

    fn explain(&self, Target { service, backend }: Target) -> Result<Explanation, String> {
        let name = Name { service, backend };
        self.world.find(&name).map_err(|unknown| unknown.to_string())?;
        explain::explain(&self.world, &name).ok_or_else(|| "the network is not known yet".to_owned())
    }

    fn change(&mut self, call: Call, Target { service, backend }: Target, change: Change) {
        let name = Name { service, backend };
        if let Err(unknown) = self.world.find(&name) {
            return call.reply(Reply::Refused(unknown.to_string()));
        }
        let by = call.caller.clone();
        info!(service = name.service, backend = name.backend, by, ?change, "override");
        self.happened(Event::Override {
            name: name.clone(),
            change,
            by,
        });
        self.write_records();
        let said = Instant::now();
        self.promised.push(Promise { call, name, said });
        self.keep_promises();
    }

    pub(super) fn recorded(&mut self, kept: Kept, outcome: Result<(), String>) {
        let failed = outcome.is_err();
        self.happened(Event::Recorded(kept, outcome));
        if failed {
            self.tell_all();
        }
        self.keep_promises();
    }

    /// Who has the answer may count on it after a restart, or is told that it may not hold.
    pub(super) fn keep_promises(&mut self) {
        let now = Instant::now();
        let is_writing = self.records.is_writing(Kept::Overrides);
        for promise in std::mem::take(&mut self.promised) {
            if is_writing && now < promise.due() {
                self.promised.push(promise);
                continue;
            }
            let but = match self.world.keeping().failure() {
                _ if is_writing => "; in force, not written yet: a restart before that would lose it".to_owned(),
                Some(why) => format!("; this will not hold after a restart: {why}"),
                None => String::new(),
            };
            let standing = self.standing(&promise.name) + &but;
            promise.call.reply(Reply::Done(json!(standing)));
        }
    }

    /// How a backend is doing now, in a sentence for each of its addresses.
    fn standing(&self, name: &Name) -> String {
        let Name { service, backend } = name;
        let members = self.world.members().backends.iter();
        let own = members.filter(|(_, member)| member.name.as_ref() == Some(name) && member.leaving.is_none());
        let sentence = |(id, member): (&BackendId, &Member)| {
            let condition = self.world.conditions().get(id)?;
            let at = self.world.question_of(name).map(|_| format!(" at {}", member.address));
            let at = at.unwrap_or_default();
            let reason = match &condition.reason {
                none if none.is_empty() => String::new(),
                reason => format!(" ({reason})"),
            };
            let state = condition.state.word();
            let (weight, flows) = (condition.effective_weight, self.world.flows(*id));
            Some(format!(
                "{service}/{backend}{at} is {state}{reason}, effective weight {weight}, {flows} flows"
            ))
        };
        let sentences: Vec<String> = own.filter_map(sentence).collect();
        match (sentences.is_empty(), self.world.network().is_some()) {
            (false, _) => sentences.join("\n"),
            (true, true) => format!("{service}/{backend} takes effect when its name is resolved"),
            (true, false) => format!("{service}/{backend} takes effect when the network is known"),
        }
    }

    fn flows(&self, service: Option<&str>, backend: Option<&str>) -> Result<Flows, String> {
        self.check_filter(service, backend)?;
        let mut listed = Flows::default();
        for flow in self.kernel.flows().iter() {
            let name = self.name_of(flow.backend);
            let fits = |wanted: Option<&str>, own: fn(&Name) -> &str| wanted.is_none_or(|w| name.map(own) == Some(w));
            if !fits(service, |name| &name.service) || !fits(backend, |name| &name.backend) {
                continue;
            }
            if listed.flows.len() < FLOWS_LISTED {
                listed.flows.push(row(&flow, name));
            } else {
                listed.more += 1;
            }
        }
        Ok(listed)
    }

    /// A misspelt name must not look like a service without flows.
    fn check_filter(&self, service: Option<&str>, backend: Option<&str>) -> Result<(), String> {
        let names = || {
            self.world
                .members()
                .backends
                .values()
                .filter_map(|member| member.name.as_ref())
        };
        if let Some(service) = service
            && !names().any(|name| name.service == service)
        {
            return Err(format!("no service {service:?}"));
        }
        if let Some(backend) = backend
            && !names().any(|name| name.backend == backend && service.is_none_or(|service| name.service == service))
        {
            return Err(format!("no backend {backend:?}"));
        }
        Ok(())
    }

    fn name_of(&self, id: BackendId) -> Option<&Name> {
        self.world.members().backends.get(&id)?.name.as_ref()
    }
}

fn row(flow: &Flow, name: Option<&Name>) -> FlowRow {
    FlowRow {
        service: name.map(|name| name.service.clone()),
        backend: name.map(|name| name.backend.clone()),
        protocol: if flow.protocol == TCP { "tcp" } else { "udp" }.to_owned(),
        client: flow.client,
        listen: flow.listen,
        snat: flow.snat,
        backend_address: flow.backend_address,
        state: flow.state.to_owned(),
        idle_seconds: flow.idle.as_secs(),
    }
}

fn document(value: impl Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(value).map_err(|error| format!("cannot write the answer: {error}"))
}
