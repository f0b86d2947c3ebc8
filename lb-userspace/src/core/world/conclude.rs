//! What follows from all that is known: how each backend stands, who serves, and the slot tables.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{BackendId, ServiceId};

use super::{Moment, World, tables};
use crate::core::alarm::shift::Shifted;
use crate::core::condition::{Condition, State, Way};
use crate::core::interfaces::{satisfying, wanted};
use crate::core::members::{Member, Name};
use crate::core::next_hops::NextHops;
use crate::core::selection::{Candidate, Tier};
use crate::core::sharing::{Shared, divided, parts};
use crate::core::steering::Share;

impl World {
    /// Nothing does before there is a config and a network.
    pub(super) fn conclude(&mut self, now: Moment) {
        let (Some(applied), Some(network)) = (&self.applied, &self.network) else {
            return;
        };
        let config = &applied.file.config;
        self.kept
            .get_or_insert_with(|| satisfying(&self.adopted, &config.node, network));
        let resolved = self.addresses_of_names();
        self.called = wanted(config, &resolved, network, &self.called);
        self.interfaces = self.called.keys().copied().collect();
        let mut shifted = self.shifted();
        let mut conditions = self.standing_alone(&shifted, now);
        let unheeded = self.without_anybody(&conditions);
        if !unheeded.is_empty() {
            shifted.retain(|id, _| !unheeded.contains(&self.members.backends[id].service));
            conditions = self.standing_alone(&shifted, now);
        }
        self.unheeded = unheeded;
        self.select(&mut conditions, now);
        for (id, condition) in &mut conditions {
            if let Some(before) = self.conditions.get(id) {
                condition.continue_from(before);
            }
        }
        self.conditions = conditions;
        self.tell_needs();
        self.make_tables();
        self.write_down(now.wall);
    }

    /// How each backend stands, whatever the others do.
    fn standing_alone(&self, shifted: &BTreeMap<BackendId, Shifted>, now: Moment) -> BTreeMap<BackendId, Condition> {
        let Some((applied, network)) = self.settled() else {
            return BTreeMap::new();
        };
        let hops = NextHops {
            network,
            interfaces: &self.interfaces,
        };
        let stand = |(&id, member): (&BackendId, &Member)| {
            let said = member.name.as_ref().and_then(|name| self.overrides.get(name));
            let judge = self.health.judge(id);
            let by = |way: &Way| Condition::conclude(member, said, shifted.get(&id), way, judge, now);
            let mut way = Way::to(member, &applied.file.config, &hops);
            let condition = by(&way);
            let before = self.conditions.get(&id).filter(|_| self.suspects_itself().is_some());
            let Some(before) = before.filter(|before| condition.is_lost_beside(before)) else {
                return (id, condition);
            };
            // What the network forgets about those it does not hear is no news while we hear nobody.
            way.next_hop = Ok(before.next_hop);
            if way.snat.is_empty() {
                way.snat.clone_from(&before.snat);
            }
            (id, by(&way))
        };
        self.members.backends.iter().map(stand).collect()
    }

    fn select(&mut self, conditions: &mut BTreeMap<BackendId, Condition>, now: Moment) {
        let Some(applied) = &self.applied else { return };
        let mut by_service: BTreeMap<&str, (ServiceId, Vec<Candidate<'_>>)> = BTreeMap::new();
        let services = &applied.file.config.services;
        let backups = services.iter().flat_map(|(service, settings)| {
            let backups = settings.backends.iter().filter(|backend| backend.backup);
            backups.map(move |backend| (service.as_str(), backend.name.as_str()))
        });
        let backups: BTreeSet<(&str, &str)> = backups.collect();
        for (&id, condition) in conditions.iter_mut() {
            let member = &self.members.backends[&id];
            let (Some(name), None) = (&member.name, member.leaving) else {
                continue;
            };
            if !services.contains_key(&name.service) {
                continue;
            }
            let candidate = Candidate {
                id,
                name: &name.backend,
                fingerprint: member.fingerprint,
                address: member.address,
                tier: Tier {
                    backup: backups.contains(&(&*name.service, &*name.backend)),
                    of_name: member.part.tier,
                },
                facts: self.health.judge(id).map(|judge| judge.facts()),
                condition,
            };
            let of_service = by_service.entry(&name.service);
            of_service
                .or_insert_with(|| (member.service, Vec::new()))
                .1
                .push(candidate);
        }
        self.selection.begin(|id| self.members.backends.contains_key(&id));
        for (name, (id, mut candidates)) in by_service {
            self.selection
                .choose(id, name, &services[name], &mut candidates, now.monotonic);
        }
    }

    fn make_tables(&mut self) {
        let Some(applied) = &self.applied else { return };
        let ids = self.members.services.values();
        let mut shares: BTreeMap<ServiceId, Shares> = ids.map(|&service| (service, Shares::default())).collect();
        let shared = self.shared();
        let members = self.members.backends.iter();
        for (id, member) in members.filter(|(_, member)| member.leaving.is_none()) {
            let own = shared.get(id).copied();
            let of = |weight| own.map_or(Shared::whole(weight), |own| Shared { weight, ..own });
            let weight = if self.is_awaited(*id, member) { 0 } else { member.weight };
            let shares = shares.entry(member.service).or_default();
            shares.backends.push((*id, member.fingerprint));
            shares.weights.push(of(weight));
            shares.now.push(of(self.conditions[id].share));
        }
        let services = applied.file.config.services.iter();
        let algorithms = services
            .map(|(name, service)| (self.members.services[name], service.algorithm))
            .collect();
        let shares: BTreeMap<ServiceId, Vec<Share>> = shares
            .into_iter()
            .map(|(service, shares)| (service, shares.divided()))
            .collect();
        // Without names they are as they were.
        for share in shares.values().flatten().filter(|_| !shared.is_empty()) {
            if let Some(condition) = self.conditions.get_mut(&share.backend) {
                condition.share = share.effective_weight;
            }
        }
        tables::update(&mut self.tables, shares, &algorithms);
    }

    /// Of several that a name leads to, one that was never judged has no part yet: until it has, others keep theirs.
    fn is_awaited(&self, id: BackendId, member: &Member) -> bool {
        member.part.others > 0 && self.conditions[&id].state == State::Checking
    }

    /// Which part of the weight each of those has that a name leads to, by tier.
    fn shared(&self) -> BTreeMap<BackendId, Shared> {
        let mut together: BTreeMap<(&Name, u16), Vec<(BackendId, u16)>> = BTreeMap::new();
        for (id, member) in &self.members.backends {
            let name = member
                .name
                .as_ref()
                .filter(|_| member.leaving.is_none() && member.part.others > 0);
            if let Some(name) = name.filter(|_| !self.is_awaited(*id, member)) {
                let tier = together.entry((name, member.part.tier)).or_default();
                tier.push((*id, member.part.weight));
            }
        }
        let divided = together.into_values().flat_map(|sharers| {
            let (ids, weights): (Vec<BackendId>, Vec<u16>) = sharers.into_iter().unzip();
            let parts = parts(&weights);
            let of = parts.iter().sum();
            ids.into_iter()
                .zip(parts)
                .map(move |(id, part)| (id, Shared { weight: 0, part, of }))
        });
        divided.collect()
    }
}

/// Of a service, before those that a name leads to have their part of its weight.
#[derive(Default)]
struct Shares {
    backends: Vec<(BackendId, u64)>,
    weights: Vec<Shared>,
    now: Vec<Shared>,
}

impl Shares {
    fn divided(self) -> Vec<Share> {
        let weights = divided(&self.weights).into_iter().zip(divided(&self.now));
        let backends = self.backends.into_iter().zip(weights);
        let share = |((backend, fingerprint), (weight, effective_weight))| Share {
            backend,
            fingerprint,
            weight,
            effective_weight,
        };
        backends.map(share).collect()
    }
}
