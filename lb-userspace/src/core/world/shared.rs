//! The world's part in the addresses that this node shares with others: which lease each hangs on, and how well the node
//! is, which decides who shall have them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use lb_common::abi::{BackendId, ServiceId};
use lb_common::lease::LeaseId;

use super::{Doubt, World};
use crate::core::condition::{Condition, State};
use crate::core::config::{Config, Vrrp};
use crate::core::health::judge::Standing;
use crate::core::kernel::Action;
use crate::core::members::Member;
use crate::core::network::Network;
use crate::core::vrrp::leases::{LeaseIds, MAX_INSTANCES, by_address};
use crate::core::vrrp::track::{Tracked, Watched, tracked};

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// None: before the first file.
    ids: Option<LeaseIds>,
    leases: BTreeMap<Arc<str>, LeaseId>,
    by_address: BTreeMap<IpAddr, LeaseId>,
    /// By instance, the services that decide whether this node is fit to be its master.
    carried: BTreeMap<String, BTreeSet<ServiceId>>,
    /// Since when each interface has been up.
    up_since: BTreeMap<u32, Instant>,
    /// As told last, by instance.
    weighed: BTreeMap<String, Tracked>,
}

impl Shared {
    pub(super) fn see_links(&mut self, network: &Network, now: Instant) {
        let before = std::mem::take(&mut self.up_since);
        let up = network.links.iter().filter(|(_, link)| link.up);
        let since = up.map(|(ifindex, _)| (*ifindex, before.get(ifindex).copied().unwrap_or(now)));
        self.up_since = since.collect();
    }
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
        let carried = config.vrrp.iter().map(|(name, instance)| {
            let services = config.carried_by(&instance.settings);
            let ids = services.filter_map(|service| self.members.services.get(service).copied());
            (name.clone(), ids.collect())
        });
        self.shared.carried = carried.collect();
    }

    pub(super) fn see_network(&mut self, network: Network, now: Instant) {
        self.shared.see_links(&network, now);
        self.network = Some(network);
    }

    /// Neighbours to resolve, and the peers that adverts go to.
    pub fn to_keep(&self) -> BTreeSet<(u32, IpAddr)> {
        let peers = self.settled().into_iter().flat_map(|(applied, network)| {
            let sections = applied.file.config.vrrp.values().map(|instance| &instance.settings);
            let index = |name: &str| {
                network
                    .links
                    .iter()
                    .find(|(_, link)| link.name == name)
                    .map(|(index, _)| *index)
            };
            let indexed = sections.filter_map(move |section| Some((index(&section.interface)?, section)));
            indexed.flat_map(|(ifindex, section)| section.peers.iter().map(move |peer| (ifindex, *peer)))
        });
        self.to_resolve().into_iter().chain(peers).collect()
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
            if let Some(why) = self.unfit(name) {
                sum.is_unfit = true;
                sum.why = list([sum.why, why.to_owned()]);
            }
            sum.fault = sum.fault.or_else(|| self.crippled());
            (name.clone(), sum)
        };
        instances.map(weigh).collect()
    }

    /// Why clients of an instance would find nobody here, while they may elsewhere.
    fn unfit(&self, instance: &str) -> Option<&'static str> {
        // A flood would follow the address to the peer.
        if self.suspects_itself() == Some(Doubt::Silence) {
            return Some("this node hears none of the backends");
        }
        let services = self.shared.carried.get(instance)?;
        let members = self.members.backends.iter();
        let own = members.filter(|(_, member)| member.leaving.is_none() && services.contains(&member.service));
        if own.clone().any(|(id, _)| self.is_known_to_serve(*id)) {
            return None;
        }
        // What operators took out is out on every node.
        let is_out = |(id, _): &(&BackendId, &Member)| {
            let condition = self.conditions.get(id);
            condition.is_some_and(|condition| matches!(condition.state, State::Draining | State::Disabled))
        };
        let service = |(_, member): (&BackendId, &Member)| member.service;
        let known: BTreeSet<ServiceId> = own.clone().map(service).collect();
        let wanted: BTreeSet<ServiceId> = own.filter(|one| !is_out(one)).map(service).collect();
        // A service without a member has a name that is not resolved.
        let lacks = |service: &ServiceId| wanted.contains(service) || !known.contains(service);
        let is_unfit = services.iter().any(lacks);
        is_unfit.then_some("no backend of its services is known to be up")
    }

    /// Up, and heard since the interface towards it came up: what was known before may be true no longer.
    fn is_known_to_serve(&self, id: BackendId) -> bool {
        let is_up = |condition: &&Condition| condition.state == State::Up;
        let Some(condition) = self.conditions.get(&id).filter(is_up) else {
            return false;
        };
        // Nobody asks it.
        let Some(judge) = self.health.judge(id) else {
            return true;
        };
        if judge.standing() == Standing::Presumed {
            // By what this daemon knew, not by what an earlier one did.
            return self.applied.as_ref().is_some_and(|applied| applied.generation > 1);
        }
        let up_since = self.shared.up_since.get(&condition.next_hop.ifindex);
        up_since.is_some_and(|since| judge.heard().is_some_and(|heard| heard >= *since))
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
