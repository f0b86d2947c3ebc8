//! The documents of `naru vrrp`, and of `vrrp` in the status: how each instance stands, and how it came to that.
//!
//! Their fields may be added to, never renamed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Vrrp;
use super::machine::{Machine, Peer};
use super::refusal::Refused;
use super::virtual_link::virtual_mac;
use crate::core::timestamp::{rfc3339, rfc3339_millis};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VrrpDocument {
    pub instances: Vec<InstanceDocument>,
    /// Adverts that were for no instance, by cause.
    pub refused: BTreeMap<String, u64>,
    /// The newest first.
    pub transitions: Vec<TransitionDocument>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceDocument {
    pub name: String,
    pub interface: String,
    pub id: u8,
    pub version: u8,
    /// `master`, `backup`, or `fault`.
    pub role: String,
    /// Why it is at fault.
    pub fault: Option<String>,
    /// As it is now, with what is tracked.
    pub priority: u8,
    /// In the file.
    pub configured_priority: u8,
    /// Why they differ; empty: they do not.
    #[serde(default)]
    pub lowered_by: String,
    pub interval_ms: u64,
    pub addresses: Vec<String>,
    /// The MAC that the master has for them, where it is not its interface's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_mac: Option<String>,
    pub since: String,
    /// An operator sent it aside: it takes over only if nobody else does.
    pub aside: bool,
    /// Null: it is master itself, or nobody is heard.
    pub master: Option<MasterDocument>,
    /// It has a key, and hears nobody without.
    pub authenticated: bool,
    /// Other nodes that have proven to have it.
    pub acquaintances: Vec<AcquaintanceDocument>,
    /// Nodes whose adverts are refused for something an operator has to put right, lately: their addresses, and why.
    #[serde(default)]
    pub unheard: BTreeMap<String, String>,
    pub sent: u64,
    pub unsent: u64,
    pub received: u64,
    /// By cause.
    pub refused: BTreeMap<String, u64>,
    pub other_addresses: u64,
    pub claims_in_vain: u64,
    pub late: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasterDocument {
    pub address: String,
    pub priority: u8,
    pub heard_seconds_ago: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcquaintanceDocument {
    pub address: String,
    pub heard_seconds_ago: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionDocument {
    pub at: String,
    pub instance: String,
    pub from: String,
    pub to: String,
    pub why: String,
}

impl VrrpDocument {
    pub fn of(vrrp: &Vrrp, now: Instant) -> Self {
        let transitions = vrrp.transitions().map(|moved| TransitionDocument {
            at: rfc3339_millis(moved.at.wall),
            instance: moved.instance.to_string(),
            from: moved.from.to_string(),
            to: moved.to.to_string(),
            why: moved.why.clone(),
        });
        Self {
            instances: vrrp.instances().map(|machine| instance(machine, now)).collect(),
            refused: by_cause(vrrp.refused()),
            transitions: transitions.collect(),
        }
    }
}

impl InstanceDocument {
    /// What an operator has to put right, for the status.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let unheard = self.unheard.iter();
        unheard.map(|(address, why)| format!("[vrrp.{}] {address} {why}", self.name))
    }
}

fn instance(machine: &Machine, now: Instant) -> InstanceDocument {
    let (settings, counters) = (machine.settings(), machine.counters());
    let ago = |heard| now.saturating_duration_since(heard).as_secs_f64();
    let master = |peer: &Peer| MasterDocument {
        address: peer.address.to_string(),
        priority: peer.priority,
        heard_seconds_ago: ago(peer.heard),
    };
    let acquaintance = |(address, heard): (IpAddr, Instant)| AcquaintanceDocument {
        address: address.to_string(),
        heard_seconds_ago: ago(heard),
    };
    InstanceDocument {
        name: settings.name.to_string(),
        interface: settings.interface.to_string(),
        id: settings.id,
        version: settings.format.version.number(),
        role: machine.role().to_string(),
        fault: machine.fault().map(str::to_owned),
        priority: machine.priority(),
        configured_priority: settings.priority,
        lowered_by: machine.lowered_by().to_owned(),
        interval_ms: u64::try_from(settings.interval.as_millis()).unwrap_or(u64::MAX),
        addresses: settings.addresses.iter().map(ToString::to_string).collect(),
        virtual_mac: settings.virtual_mac.then(|| {
            let mac = virtual_mac(settings.family(), settings.id);
            mac.map(|byte| format!("{byte:02x}")).join(":")
        }),
        since: rfc3339(machine.since().wall),
        aside: machine.is_aside(),
        master: machine.peer().map(master),
        authenticated: settings.secrets.is_some(),
        acquaintances: machine.acquaintances(now).map(acquaintance).collect(),
        unheard: machine
            .unheard(now)
            .map(|(address, why)| (address.to_string(), why.to_owned()))
            .collect(),
        sent: counters.sent,
        unsent: counters.unsent,
        received: counters.heard,
        refused: by_cause(&counters.refused),
        other_addresses: counters.other_addresses,
        claims_in_vain: counters.claims_in_vain,
        late: counters.late,
    }
}

fn by_cause(refused: &Refused) -> BTreeMap<String, u64> {
    let causes = refused.iter();
    causes
        .map(|(refusal, count)| (refusal.words().to_owned(), count))
        .collect()
}

/// For people.
pub fn render(document: &VrrpDocument) -> String {
    if document.instances.is_empty() {
        return "no address is shared: the file has no [vrrp]".to_owned();
    }
    let mut text = String::new();
    for instance in &document.instances {
        text += &render_instance(instance);
    }
    if !document.refused.is_empty() {
        let _infallible = writeln!(text, "Adverts for nobody here: {}", counts(&document.refused));
    }
    if !document.transitions.is_empty() {
        text += "Transitions, the newest first:\n";
        for moved in &document.transitions {
            let TransitionDocument {
                at,
                instance,
                from,
                to,
                why,
            } = moved;
            let _infallible = writeln!(text, "  {at} {instance}: {from} -> {to}: {why}");
        }
    }
    text.trim_end().to_owned()
}

fn render_instance(instance: &InstanceDocument) -> String {
    let InstanceDocument {
        name,
        role,
        interface,
        id,
        since,
        ..
    } = instance;
    let mut text = format!("{name}: {role} since {since}, id {id} on {interface}\n");
    let mut line = |key: &str, value: &str| {
        let _infallible = writeln!(text, "  {key:<9} {value}");
    };
    if let Some(fault) = &instance.fault {
        line("fault", fault);
    }
    line("addresses", &instance.addresses.join(", "));
    if let Some(mac) = &instance.virtual_mac {
        line("MAC", &format!("{mac}, of whoever is master"));
    }
    let priority = match (instance.priority, instance.configured_priority) {
        (now, configured) if now == configured => now.to_string(),
        (now, configured) => format!("{now}, in the file {configured}: {}", instance.lowered_by),
    };
    line("priority", &priority);
    if instance.aside {
        line("aside", "an operator sent it there; `naru failback` takes it back");
    }
    if let Some(MasterDocument {
        address,
        priority,
        heard_seconds_ago,
    }) = &instance.master
    {
        line(
            "master",
            &format!("{address}, priority {priority}, heard {heard_seconds_ago:.3} s ago"),
        );
    }
    line("key", &key(instance));
    let InstanceDocument {
        sent,
        unsent,
        received,
        interval_ms,
        ..
    } = instance;
    line(
        "adverts",
        &format!("every {interval_ms} ms; {sent} sent, {unsent} not, {received} received"),
    );
    if !instance.refused.is_empty() {
        line("refused", &counts(&instance.refused));
    }
    for (address, why) in &instance.unheard {
        line("unheard", &format!("{address} {why}"));
    }
    let troubles = [
        (
            instance.other_addresses,
            "adverts with other addresses than ours: the nodes are not configured alike",
        ),
        (instance.claims_in_vain, "times somebody seemed dead and was not"),
        (instance.late, "times late"),
    ];
    for (count, words) in troubles.iter().filter(|(count, _)| *count > 0) {
        line("trouble", &format!("{count} {words}"));
    }
    text + "\n"
}

/// Who speaks with it.
fn key(instance: &InstanceDocument) -> String {
    if !instance.authenticated {
        return "none: whoever is on the link can say adverts".to_owned();
    }
    let others = instance.acquaintances.iter().map(|other| {
        let AcquaintanceDocument {
            address,
            heard_seconds_ago,
        } = other;
        format!("{address} has it, heard {heard_seconds_ago:.1} s ago")
    });
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return "nobody else has shown to have it; nobody without is heard".to_owned();
    }
    others.join("; ")
}

fn counts(refused: &BTreeMap<String, u64>) -> String {
    let words: Vec<_> = refused
        .iter()
        .map(|(cause, count)| format!("{count} {cause}"))
        .collect();
    words.join(", ")
}
