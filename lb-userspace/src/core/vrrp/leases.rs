//! Which lease each instance has: the one that flows of its addresses hang on already, else one that none do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::lease::{LeaseId, MAX_LEASES};

use super::settings::Settings;

/// As many as there are leases.
pub const MAX_INSTANCES: usize = MAX_LEASES as usize - 1;

/// `before`: the leases that addresses had. No more than `MAX_INSTANCES`.
pub fn assign(instances: &[Settings], before: &BTreeMap<IpAddr, LeaseId>) -> BTreeMap<Arc<str>, LeaseId> {
    let mut leases = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for instance in instances {
        let had = instance.addresses.iter().filter_map(|own| before.get(&own.address));
        if let Some(lease) = had.copied().find(|lease| !taken.contains(lease)) {
            taken.insert(lease);
            leases.insert(instance.name.clone(), lease);
        }
    }
    // One that no flow hangs on rather than one that some do.
    let had: BTreeSet<LeaseId> = before.values().copied().collect();
    let (new, old): (Vec<LeaseId>, _) = (1..MAX_LEASES as LeaseId).partition(|lease| !had.contains(lease));
    let mut free = new.into_iter().chain(old).filter(|lease| !taken.contains(lease));
    for instance in instances {
        if !leases.contains_key(&instance.name)
            && let Some(lease) = free.next()
        {
            leases.insert(instance.name.clone(), lease);
        }
    }
    leases
}

/// The lease of each address.
pub fn by_address(instances: &[Settings], leases: &BTreeMap<Arc<str>, LeaseId>) -> BTreeMap<IpAddr, LeaseId> {
    let with_leases = instances.iter().filter_map(|one| Some((one, *leases.get(&one.name)?)));
    let addresses = with_leases.flat_map(|(one, lease)| one.addresses.iter().map(move |own| (own.address, lease)));
    addresses.collect()
}
