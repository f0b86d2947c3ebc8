//! Leases: whether this node serves an address that it shares with a peer, at this very moment.
//!
//! The daemon extends a lease for as long as it lives, is on time, and owns the address. A daemon that is dead, stopped
//! or late lets it lapse, and the program falls silent before the peer takes the address over. Tested by the packet table.

use crate::decide::Tables;
use crate::verdict::Reason;

/// 0: no lease is needed, the address is served by this node alone.
pub type LeaseId = u8;

/// As many as fit the word of an entry.
pub const MAX_LEASES: u32 = 64;

/// What a cell of `LEASES` holds: the end of the lease in ns of CLOCK_MONOTONIC, or one of these.
///
/// The address is not on this node.
pub const ELSEWHERE: u64 = 0;
/// It is still on this node, which must not serve it.
pub const ENDED: u64 = 1;
/// For what is shared no longer.
pub const FOR_GOOD: u64 = u64::MAX;

#[inline(always)]
pub fn held<T: Tables>(tables: &T, id: LeaseId) -> Result<(), Reason> {
    if id == 0 {
        return Ok(());
    }
    match tables.lease(id) {
        ELSEWHERE => Err(Reason::NotMaster),
        until if until > tables.clock() => Ok(()),
        _ => Err(Reason::Fenced),
    }
}
