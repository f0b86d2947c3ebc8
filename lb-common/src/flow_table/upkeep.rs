//! What the daemon does on its way along a flow table: it visits live entries and frees flows that are over.
//!
//! How long a flow may be silent the daemon says.

use core::ops::Range;

use super::{FlowMemory, Found, TO_CLIENT, at, free, partner, release};
use crate::family::Address;

pub fn live<A: Address, M: FlowMemory<A>>(memory: &M, range: Range<u32>) -> impl Iterator<Item = Found<A>> {
    range.filter_map(|index| at(memory, index))
}

/// Since the last packet in this direction, in ticks.
fn silence<A: Address>(found: &Found<A>, now: u32) -> u32 {
    now.wrapping_sub(found.entry.last_seen())
        .cast_signed()
        .max(0)
        .cast_unsigned()
}

/// Since the last packet in either direction, in ticks.
pub fn idle<A: Address, M: FlowMemory<A>>(memory: &M, found: &Found<A>, now: u32) -> u32 {
    let own = silence(found, now);
    partner(memory, found).map_or(own, |other| own.min(silence(&other, now)))
}

/// Frees a flow that has been silent for more ticks than `limit`; true if that was so just now.
///
/// Looks at the other direction only where this one has been silent for long enough.
pub fn expire<A: Address, M: FlowMemory<A>>(memory: &M, found: &Found<A>, now: u32, limit: u32) -> bool {
    if silence(found, now) <= limit {
        return false;
    }
    if found.word.has(TO_CLIENT) {
        // Its flow is looked at from the other side; alone it is what a lost race left.
        partner(memory, found).is_none() && free(memory, found)
    } else {
        idle(memory, found, now) > limit && release(memory, found)
    }
}
