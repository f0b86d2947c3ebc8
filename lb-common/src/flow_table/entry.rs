//! One entry: its layout in the map, and access to it while others read and change it.
//!
//! Knows nothing of the table around it.

use core::sync::atomic::{Ordering, compiler_fence};

use super::key::FlowKey;
use super::word::Word;
use crate::abi::NextHop;
use crate::wire::{Be16, Be32};

/// What becomes of a packet of the flow: every value is final, nothing is looked up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    pub source: Be32,
    pub destination: Be32,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub next_hop: NextHop,
    pub ip_delta: u16,
    pub l4_delta: u16,
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowEntry {
    pub word: u64,
    pub source: Be32,
    pub destination: Be32,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub rewrite: Rewrite,
    /// In ticks.
    pub last_seen: u32,
    /// Index of the other direction's entry.
    pub partner: u32,
    pub unused: u32,
}

const _: () = assert!(size_of::<FlowEntry>() == 64 && align_of::<FlowEntry>() == 64);

/// The clock of `last_seen`: 2^27 ns, about an eighth of a second, of CLOCK_MONOTONIC.
pub const TICK_SHIFT: u32 = 27;

/// An entry in memory that others may read and change at the same time.
#[derive(Clone, Copy)]
pub struct Entry {
    at: *mut FlowEntry,
}

// SAFETY: all sharing goes through the word, as the protocol says.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl Entry {
    /// # Safety
    /// `at` points to an entry of a flow table that outlives this value.
    #[inline(always)]
    pub const unsafe fn new(at: *mut FlowEntry) -> Self {
        Self { at }
    }

    #[inline(always)]
    fn entry(&self) -> &FlowEntry {
        // SAFETY: by `new`. Fields other than the word may change under a reader, who finds out by the word.
        unsafe { &*self.at }
    }

    #[inline(always)]
    pub fn word(&self) -> Word {
        compiler_fence(Ordering::AcqRel);
        // SAFETY: by `new`.
        let word = Word(unsafe { atomic::load(&raw mut (*self.at).word) });
        compiler_fence(Ordering::AcqRel);
        word
    }

    /// Compare-and-swap; true if it was `old` and is `new` now.
    #[inline(always)]
    pub fn swap(&self, old: Word, new: Word) -> bool {
        compiler_fence(Ordering::AcqRel);
        // SAFETY: by `new`.
        let done = unsafe { atomic::compare_exchange(&raw mut (*self.at).word, old.0, new.0) };
        compiler_fence(Ordering::AcqRel);
        done
    }

    #[inline(always)]
    pub fn matches(&self, key: &FlowKey) -> bool {
        let entry = self.entry();
        // One expression without branches: chained comparisons become a call to memcmp.
        let ports = (entry.source_port.be ^ key.source_port.be) | (entry.destination_port.be ^ key.destination_port.be);
        (entry.source.be ^ key.source.be) | (entry.destination.be ^ key.destination.be) | ports as u32 == 0
    }

    #[inline(always)]
    pub fn key(&self, protocol: u8) -> FlowKey {
        let FlowEntry {
            source,
            destination,
            source_port,
            destination_port,
            ..
        } = *self.entry();
        FlowKey {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
        }
    }

    #[inline(always)]
    pub fn rewrite(&self) -> &Rewrite {
        &self.entry().rewrite
    }

    #[inline(always)]
    pub fn partner(&self) -> u32 {
        self.entry().partner
    }

    #[inline(always)]
    pub fn last_seen(&self) -> u32 {
        self.entry().last_seen
    }

    /// Written only when it changes, so that a busy flow's line is not dirtied by every packet.
    #[inline(always)]
    pub fn touch(&self, now: u32) {
        if self.entry().last_seen != now {
            // SAFETY: by `new`; a u32 of its own, where a lost race costs one tick.
            unsafe { (&raw mut (*self.at).last_seen).write_volatile(now) }
        }
    }

    /// Writes all but the word.
    ///
    /// # Safety
    /// The entry is claimed, by the caller.
    #[inline(always)]
    pub(super) unsafe fn write(&self, key: &FlowKey, rewrite: &Rewrite, partner: u32, now: u32) {
        // SAFETY: by `new`, and the caller alone writes.
        let entry = unsafe { &mut *self.at };
        entry.source = key.source;
        entry.destination = key.destination;
        entry.source_port = key.source_port;
        entry.destination_port = key.destination_port;
        entry.rewrite = *rewrite;
        entry.partner = partner;
        entry.last_seen = now;
    }

    /// Points a live flow at another next hop. A packet in between may leave with half of the old one.
    pub fn set_next_hop(&self, next_hop: NextHop) {
        // SAFETY: by `new`.
        unsafe { (&raw mut (*self.at).rewrite.next_hop).write_volatile(next_hop) }
    }
}

#[cfg(target_arch = "bpf")]
mod atomic {
    use core::intrinsics::{AtomicOrdering, atomic_cxchg};

    #[inline(always)]
    pub unsafe fn load(at: *mut u64) -> u64 {
        // SAFETY: the caller's. An aligned 64-bit load is one instruction.
        unsafe { at.read_volatile() }
    }

    #[inline(always)]
    pub unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> bool {
        // SAFETY: the caller's.
        unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new).1 }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod atomic {
    use core::sync::atomic::{AtomicU64, Ordering};

    pub unsafe fn load(at: *mut u64) -> u64 {
        // SAFETY: the caller's; the word is aligned and changed by atomics only.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }

    pub unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> bool {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(at) }
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
