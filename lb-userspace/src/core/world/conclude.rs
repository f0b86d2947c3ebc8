//! What follows from all that is known: how each backend stands, who serves, and the slot tables.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{BackendId, ServiceId};

use super::{Moment, World, tables};
use crate::core::alarm::shift::Shifted;
use crate::core::condition::{Condition, State, Way};
use crate::core::interfaces::{satisfying, wanted};
use crate::core::members::{Member, Name};
use crate::core::next_hops::NextHops;
use crate::core::selection::Candidate;
use crate::core::sharing::{Shared, divided};
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
        self.interfaces = wanted(config, &resolved, network, &self.interfaces);
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
            let before = self.conditions.get(&id).filter(|_| self.suspects_itself());
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
                backup: backups.contains(&(&*name.service, &*name.backend)),
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
        let all = self.members.backends.iter();
        let members = all.filter(|(_, member)| member.leaving.is_none());
        // Of several addresses one that was never judged has no part yet: until it has, others keep theirs.
        let is_awaited =
            |id: &BackendId, member: &Member| member.sharers > 1 && self.conditions[id].state == State::Checking;
        let mut sharers: BTreeMap<&Name, u16> = BTreeMap::new();
        for (id, member) in members.clone().filter(|(_, member)| member.sharers > 1) {
            if let Some(name) = member.name.as_ref().filter(|_| !is_awaited(id, member)) {
                *sharers.entry(name).or_default() += 1;
            }
        }
        for (id, member) in members {
            let several = member.name.as_ref().and_then(|name| sharers.get(name));
            let sharers = several.copied().unwrap_or(1);
            let weight = if is_awaited(id, member) { 0 } else { member.weight };
            let shares = shares.entry(member.service).or_default();
            shares.backends.push((*id, member.fingerprint));
            shares.weights.push((weight, sharers));
            shares.now.push((self.conditions[id].share, sharers));
        }
        let services = applied.file.config.services.iter();
        let algorithms = services
            .map(|(name, service)| (self.members.services[name], service.algorithm))
            .collect();
        let shares = shares.into_iter().map(|(service, shares)| (service, shares.divided()));
        tables::update(&mut self.tables, shares.collect(), &algorithms);
    }
}

/// Of a service, before the addresses of a name have their part of its weight.
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
