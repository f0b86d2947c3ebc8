//! Chooses the backend of a new flow, as the service's algorithm has it. Who may be chosen, and how often, the daemon
//! has put into the slots.

use core::num::NonZeroU64;

use crate::abi::{Algorithm, BackendId, Service, slot_of};
use crate::decide::{Flows, Tables};
use crate::family::Address;
use crate::flow_table::FlowKey;

/// How many backends are compared for a new flow at most.
pub const MAX_COMPARED: u32 = 256;

/// A function of its own in the kernel too: the stack of its caller is short.
#[inline(never)]
pub fn steer<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    service: &Service,
    key: &FlowKey<A>,
    hash: u64,
) -> Option<BackendId> {
    let count = tables.slot_count(service.id)?;
    let number = match Algorithm::of(service.algorithm) {
        Algorithm::Maglev => slot_of(hash, count),
        Algorithm::Source => slot_of(A::mix(&key.source, &A::default()), count),
        Algorithm::RoundRobin => tables.turn(service.id) % NonZeroU64::new(count)?,
        Algorithm::LeastConnections => return least_active(tables, service, count, hash),
    };
    tables.slot(service.id, number)
}

/// Of those with equally few the first after a place that the hash decides.
#[inline(always)]
fn least_active<T: Tables>(tables: &T, service: &Service, count: u64, hash: u64) -> Option<BackendId> {
    let count = count as u32;
    let start = slot_of(hash, count as u64) as u32;
    // Of nobody yet. VERIFIER (6.1): walks through a loop's step once, and believes what it knows of these then.
    let nobody = tables.forget(0) as u64;
    let (mut best, mut least, mut of) = (nobody as BackendId, nobody, nobody);
    tables.repeat(count.min(MAX_COMPARED), |step| {
        let number = start + step;
        let number = if number >= count { number - count } else { number };
        let Some(id) = tables.slot(service.id, number as u64) else {
            return true;
        };
        let weight = tables.backend(id).map_or(0, |backend| backend.weight as u64);
        let active = tables.active_flows(id);
        // Active flows for each unit of weight, compared without dividing.
        if weight > 0 && (of == 0 || active * of < least * weight) {
            (best, least, of) = (id, active, weight);
        }
        true
    });
    (of != 0).then_some(best)
}
