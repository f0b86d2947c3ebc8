//! The world's part in the addresses that this node shares with others: which lease each hangs on, and how well the node
//! is, which decides who shall have them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::lease::LeaseId;

use super::World;
use crate::core::config::{Config, Vrrp};
use crate::core::kernel::Action;
use crate::core::vrrp::leases::{LeaseIds, MAX_INSTANCES, by_address};
use crate::core::vrrp::track::{Tracked, Watched, tracked};

/// Taken from the priority of a node that hears nobody: more than between any two nodes that are well.
const SUSPECT: i32 = -100;

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// None: before the first file.
    ids: Option<LeaseIds>,
    leases: BTreeMap<Arc<str>, LeaseId>,
    by_address: BTreeMap<IpAddr, LeaseId>,
    /// As told last, by instance.
    weighed: BTreeMap<String, Tracked>,
}

impl World {
    /// Names of the instances of the file.
    pub fn sharing(&self) -> impl Iterator<Item = &str> {
        let applied = self.applied.iter();
        applied.flat_map(|applied| applied.file.config.vrrp.keys().map(String::as_str))
    }

    pub fn leases(&self) -> &BTreeMap<Arc<str>, LeaseId> {
        &self.shared.leases
    }

    pub fn leases_by_address(&self) -> &BTreeMap<IpAddr, LeaseId> {
        &self.shared.by_address
    }

    pub(super) fn share(&mut self, config: &Config) {
        let instances: Vec<_> = config.vrrp.values().map(|instance| instance.settings.clone()).collect();
        let earlier = || LeaseIds::new(self.adopted.shared.clone());
        self.shared.leases = self.shared.ids.get_or_insert_with(earlier).assign(&instances);
        self.shared.by_address = by_address(&instances, &self.shared.leases);
    }

    /// What instances make of what they watch, where that is news; each is told once.
    pub fn take_weighed(&mut self) -> Vec<(String, Tracked)> {
        let weighed = self.weigh();
        let news = weighed
            .iter()
            .filter(|(name, tracked)| self.shared.weighed.get(*name) != Some(tracked));
        let news = news.map(|(name, tracked)| (name.clone(), tracked.clone())).collect();
        self.shared.weighed = weighed;
        news
    }

    fn weigh(&self) -> BTreeMap<String, Tracked> {
        let Some((applied, _)) = self.settled() else {
            return BTreeMap::new();
        };
        let instances = applied.file.config.vrrp.iter();
        let weigh = |(name, instance): (&String, &Vrrp)| {
            let mut sum = tracked(&instance.track, |watched| self.is_well(watched));
            if self.suspects_itself() {
                sum.sum += SUSPECT;
                sum.why = list([sum.why, "this node hears none of the backends".to_owned()]);
            }
            sum.fault = sum.fault.or_else(|| self.crippled());
            (name.clone(), sum)
        };
        instances.map(weigh).collect()
    }

    fn is_well(&self, watched: &Watched) -> bool {
        match watched {
            Watched::Service(name) => {
                let id = self.members.services.get(name);
                id.is_some_and(|id| !self.slots(*id).is_empty())
            }
            Watched::Interface(name) => {
                let mut links = self.network.iter().flat_map(|network| network.links.values());
                links.any(|link| link.name == *name && link.up)
            }
            Watched::Program(program) => self.fitness.is_well(program),
        }
    }

    /// Why clients would find nobody here who serves them.
    fn crippled(&self) -> Option<String> {
        let lacks = |action: &Action| {
            matches!(
                action,
                Action::Attach(..) | Action::PutShared(..) | Action::PutListen(..)
            )
        };
        let failure = self.failures.iter().find(|failure| lacks(&failure.action))?;
        Some(format!("{}: {}", failure.action, failure.error))
    }
}

pub(super) fn has_room(config: &Config) -> Result<(), String> {
    let count = config.vrrp.len();
    if count > MAX_INSTANCES {
        return Err(format!(
            "{count} sections [vrrp.NAME], and there is room for {MAX_INSTANCES}"
        ));
    }
    Ok(())
}

fn list(words: [String; 2]) -> String {
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join(", ")
}
