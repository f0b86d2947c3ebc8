//! Services that have nobody up: their names are asked about sooner, and a new file that makes one is told of it.
//!
//! A file that takes the last backend away is a valid file, so it is applied all the same. Tested by the scenarios
//! `reload_*` and `dns_nobody_*`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::abi::ServiceId;

use super::{Moment, World};
use crate::core::condition::State;
use crate::core::journal::What;

/// Of more services a new file tells no more than the status does.
const TOLD: usize = 100;
/// So many backends are named in one sentence.
const NAMED: usize = 8;

impl World {
    /// Services that have had nobody up since the last new file, and why.
    pub fn emptied(&self) -> &BTreeMap<String, String> {
        &self.emptied
    }

    /// By name, of the file in force.
    pub(super) fn unserved(&self) -> BTreeSet<String> {
        let up = self
            .conditions
            .iter()
            .filter(|(_, condition)| condition.state == State::Up);
        let service = |id| Some(self.members.backends.get(id)?.service);
        let served: BTreeSet<ServiceId> = up.filter_map(|(id, _)| service(id)).collect();
        let services = self
            .applied
            .iter()
            .flat_map(|applied| applied.file.config.services.keys());
        services
            .filter(|name| self.members.services.get(*name).is_none_or(|id| !served.contains(id)))
            .cloned()
            .collect()
    }

    /// Names of services that have nobody up may have moved for that.
    pub(super) fn tell_needs(&mut self) {
        let unserved = self.unserved();
        let Some(applied) = &self.applied else { return };
        let services = &applied.file.config.services;
        let needed = unserved.iter().flat_map(|name| services[name].questions()).collect();
        self.names.need(needed);
    }

    /// A new file is carried out; `before` had nobody up under the one before.
    pub(super) fn tell_emptied(&mut self, before: &BTreeSet<String>, now: Moment) {
        let unserved = self.unserved();
        let emptied = unserved.difference(before).take(TOLD);
        self.emptied = emptied.map(|name| (name.clone(), self.why_nobody(name))).collect();
        for (service, text) in &self.emptied {
            let (service, text) = (service.clone(), text.clone());
            self.journal.write(now.wall, What::File { service, text });
        }
    }

    fn why_nobody(&self, service: &str) -> String {
        let id = self.members.services.get(service);
        let goes_on = id.is_some_and(|id| !self.slots(*id).is_empty());
        let outcome = match goes_on {
            true => "new flows go to those that were up last",
            false => "new flows are refused",
        };
        let mut backends = self.backends_told(service);
        let more = match backends.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        backends.truncate(NAMED);
        let backends = backends.join("; ");
        format!("nobody is up since the new file, so {outcome}: {backends}{more}")
    }

    /// How each backend of a service stands, at each of its addresses; in the file's order.
    fn backends_told(&self, service: &str) -> Vec<String> {
        let applied = self.applied.as_ref();
        let Some(settings) = applied.and_then(|applied| applied.file.config.services.get(service)) else {
            return Vec::new();
        };
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (id, member) in &self.members.backends {
            let name = member.name.as_ref().filter(|_| member.leaving.is_none());
            let (Some(name), Some(condition)) = (name, self.conditions.get(id)) else {
                continue;
            };
            if name.service == service {
                let state = condition.state.word();
                let why = match condition.reason.as_str() {
                    "" => String::new(),
                    reason => format!(" ({reason})"),
                };
                let at = format!("{} is {state}{why}", told_place(&name.backend, member.address));
                told.entry(&name.backend).or_default().push(at);
            }
        }
        let unresolved = |name: &str| vec![format!("{name} is {}", State::Unresolved.word())];
        let names = settings.backends.iter().map(|backend| backend.name.as_str());
        names
            .flat_map(|name| told.remove(name).unwrap_or_else(|| unresolved(name)))
            .collect()
    }
}

/// A backend by its name, and its address where that is not its name.
fn told_place(name: &str, address: SocketAddr) -> String {
    match address.to_string() {
        address if address == name => address,
        address => format!("{name} at {address}"),
    }
}
