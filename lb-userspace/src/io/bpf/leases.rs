//! The leases as memory shared with the XDP program: a lease is extended without a system call.
//!
//! Decides nothing of who holds one. Tested by the packet table and the lab.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_common::lease::{ELSEWHERE, LeaseId};
use rustix::time::{ClockId, clock_gettime};

use super::mapped::MappedArray;

pub struct Leases(MappedArray<u64>);

impl Leases {
    pub(super) const fn new(cells: MappedArray<u64>) -> Self {
        Self(cells)
    }

    /// `until` is in ns of CLOCK_MONOTONIC, or one of the words in `lb_common::lease`.
    pub fn set(&self, lease: LeaseId, until: u64) {
        if let Some(cell) = self.cell(lease) {
            cell.store(until, Ordering::Release);
        }
    }

    /// Whether addresses with this lease are served here at this moment.
    pub fn is_held(&self, lease: LeaseId) -> bool {
        let until = self.cell(lease).map_or(ELSEWHERE, |cell| cell.load(Ordering::Acquire));
        let clock = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(clock.tv_sec.cast_unsigned(), clock.tv_nsec as u32).as_nanos();
        u128::from(until) > now
    }

    fn cell(&self, lease: LeaseId) -> Option<&AtomicU64> {
        // SAFETY: an aligned element of the mapping, which the program only reads.
        self.0
            .get(usize::from(lease))
            .map(|cell| unsafe { AtomicU64::from_ptr(cell) })
    }
}
