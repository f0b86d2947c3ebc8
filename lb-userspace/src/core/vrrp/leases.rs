//! Which lease each instance has: the one that flows of its addresses hang on already, else the one that has been nobody's
//! for the longest, since flows of whose addresses it was may still hang on it.
//!
//! How long that is, is not kept over a restart: then those behind the highest in use come first. Tested here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::lease::{LeaseId, MAX_LEASES};

use super::settings::Settings;

/// As many as there are leases.
pub const MAX_INSTANCES: usize = MAX_LEASES as usize - 1;

#[derive(Debug)]
pub struct LeaseIds {
    /// The lease that flows of an address hang on, be it shared or no longer.
    last: BTreeMap<IpAddr, LeaseId>,
    /// Nobody's, the longest first.
    idle: VecDeque<LeaseId>,
}

impl LeaseIds {
    /// `last`: the leases that addresses had, as an earlier daemon left them.
    pub fn new(last: BTreeMap<IpAddr, LeaseId>) -> Self {
        let highest = last.values().max().copied().unwrap_or_default();
        let (behind, before): (Vec<_>, Vec<_>) = (1..MAX_LEASES as LeaseId).partition(|lease| *lease > highest);
        let is_known = |lease: &LeaseId| last.values().any(|had| had == lease);
        let (known, unknown): (Vec<_>, Vec<_>) = before.into_iter().partition(is_known);
        Self {
            last,
            idle: behind.into_iter().chain(unknown).chain(known).collect(),
        }
    }

    /// No more instances than `MAX_INSTANCES`; those that were assigned before and are not named now have none.
    pub fn assign(&mut self, instances: &[Settings]) -> BTreeMap<Arc<str>, LeaseId> {
        let mut leases = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for instance in instances {
            let had = instance.addresses.iter().filter_map(|own| self.last.get(&own.address));
            let had = had.copied().filter(|lease| !taken.contains(lease));
            // One in use rather than one of long ago.
            if let Some(lease) = had.min_by_key(|lease| self.idle.contains(lease)) {
                taken.insert(lease);
                leases.insert(instance.name.clone(), lease);
            }
        }
        let in_use = (1..MAX_LEASES as LeaseId).filter(|lease| !self.idle.contains(lease));
        let left: Vec<_> = in_use.filter(|lease| !taken.contains(lease)).collect();
        self.idle.extend(left);
        self.idle.retain(|lease| !taken.contains(lease));
        for instance in instances {
            if !leases.contains_key(&instance.name)
                && let Some(lease) = self.idle.pop_front()
            {
                self.last.retain(|_, last| *last != lease);
                leases.insert(instance.name.clone(), lease);
            }
        }
        self.last.extend(by_address(instances, &leases));
        leases
    }
}

/// The lease of each address.
pub fn by_address(instances: &[Settings], leases: &BTreeMap<Arc<str>, LeaseId>) -> BTreeMap<IpAddr, LeaseId> {
    let with_leases = instances.iter().filter_map(|one| Some((one, *leases.get(&one.name)?)));
    let addresses = with_leases.flat_map(|(one, lease)| one.addresses.iter().map(move |own| (own.address, lease)));
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::vrrp::settings::Address;
    use crate::core::vrrp::tests::settings;

    fn address(host: u8) -> IpAddr {
        [198, 18, 0, host].into()
    }

    /// Named after its first address.
    fn instance(hosts: &[u8]) -> Settings {
        let address = |&host: &u8| Address {
            address: address(host),
            length: 32,
        };
        Settings {
            addresses: hosts.iter().map(address).collect(),
            ..settings(&hosts[0].to_string(), hosts[0], None)
        }
    }

    fn assigned(ids: &mut LeaseIds, instances: &[&[u8]]) -> Vec<LeaseId> {
        let instances: Vec<_> = instances.iter().map(|hosts| instance(hosts)).collect();
        let leases = ids.assign(&instances);
        instances.iter().map(|one| leases[&one.name]).collect()
    }

    #[test]
    fn one_that_was_left_is_given_out_last() {
        let mut ids = LeaseIds::new(BTreeMap::new());
        assert_eq!(assigned(&mut ids, &[&[1], &[2]]), [1, 2]);
        assert_eq!(assigned(&mut ids, &[&[2]]), [2]);
        // As many as there are besides, each for a while.
        for host in 3..64 {
            assert_eq!(assigned(&mut ids, &[&[2], &[host]]), [2, host]);
        }
        assert_eq!(assigned(&mut ids, &[&[2], &[64]]), [2, 1], "the longest unused");
        assert_eq!(assigned(&mut ids, &[&[2], &[65]]), [2, 3]);
    }

    #[test]
    fn an_address_that_comes_back_has_the_lease_its_flows_hang_on() {
        let mut ids = LeaseIds::new(BTreeMap::new());
        assert_eq!(assigned(&mut ids, &[&[1], &[2]]), [1, 2]);
        assert_eq!(assigned(&mut ids, &[&[2]]), [2]);
        assert_eq!(assigned(&mut ids, &[&[3], &[2], &[1]]), [3, 2, 1]);
        // It joins another: that one keeps its own.
        assert_eq!(assigned(&mut ids, &[&[3], &[2]]), [3, 2]);
        assert_eq!(assigned(&mut ids, &[&[1, 2], &[3]]), [2, 3]);
    }

    #[test]
    fn nobody_has_one_twice_and_all_that_fit_have_one() {
        let mut ids = LeaseIds::new(BTreeMap::new());
        let full: Vec<Vec<u8>> = (1..64).map(|host| vec![host]).collect();
        let others: Vec<Vec<u8>> = (101..164).map(|host| vec![host]).collect();
        for instances in [full, others] {
            let instances: Vec<&[u8]> = instances.iter().map(Vec::as_slice).collect();
            let leases = assigned(&mut ids, &instances);
            assert_eq!(BTreeSet::from_iter(&leases).len(), MAX_INSTANCES);
        }
        // What the first had is nobody's now, and forgotten.
        assert_eq!(assigned(&mut ids, &[&[1], &[101]])[1], 1);
    }

    #[test]
    fn what_an_earlier_daemon_assigned_holds() {
        let mut ids = LeaseIds::new(BTreeMap::from([(address(1), 7), (address(2), 3)]));
        assert_eq!(assigned(&mut ids, &[&[2], &[9]]), [3, 8], "behind the highest");
        for host in 10..70 {
            assert_ne!(assigned(&mut ids, &[&[2], &[host]])[1], 7, "flows may hang on it");
        }
        assert_eq!(assigned(&mut ids, &[&[2], &[70]]), [3, 7], "the last of all");
    }
}
