//! Services that have nobody up: their names are asked about sooner. Tested by the scenarios `dns_nobody_*`.

use std::collections::BTreeSet;

use lb_common::abi::ServiceId;

use super::World;
use crate::core::condition::State;

impl World {
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
}
