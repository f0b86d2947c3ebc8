//! One entry: its layout in the map, and access to it while others read and change it.
//!
//! Knows nothing of the table around it.

use core::sync::atomic::{Ordering, compiler_fence};

use super::key::FlowKey;
use super::word::Word;
use crate::abi::NextHop;
use crate::checksum::Delta;
use crate::family::Address;
use crate::shared;
use crate::wire::{Be16, Be32, Ip};

/// What becomes of a packet of the flow: every value is final, nothing is looked up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<A> {
    pub source: A,
    pub destination: A,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub next_hop: NextHop,
    pub ip_delta: u16,
    /// Of `Mode::DsrIpip`, which touches no checksum, the longest packet that the way to the backend takes. Of a flow
    /// marked `SHIFTED` the shift, as in `port_rest`; its delta comes from `Entry::l4_delta`.
    pub l4_delta: u16,
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowEntry<A> {
    pub word: u64,
    pub source: A,
    pub destination: A,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub rewrite: Rewrite<A>,
    /// In ticks.
    pub last_seen: u32,
    /// Index of the other direction's entry.
    pub partner: u32,
    /// The last TCP acknowledgment number of this direction: what its sender expects next.
    pub acknowledged: u32,
}

const _: () = {
    assert!(size_of::<FlowEntry<Be32>>() == 64 && align_of::<FlowEntry<Be32>>() == 64);
    assert!(size_of::<FlowEntry<Ip>>() == 128 && align_of::<FlowEntry<Ip>>() == 64);
};

/// The clock of `last_seen`: 2^27 ns, about an eighth of a second, of CLOCK_MONOTONIC.
pub const TICK_SHIFT: u32 = 27;

/// An entry in memory that others may read and change at the same time.
#[derive(Clone, Copy)]
pub struct Entry<A> {
    at: *mut FlowEntry<A>,
}

// SAFETY: all sharing goes through the word, as the protocol says.
unsafe impl<A: Send> Send for Entry<A> {}
// SAFETY: as above.
unsafe impl<A: Sync> Sync for Entry<A> {}

/// Fields other than the word may change under a reader, who finds out by the word.
macro_rules! read {
    ($entry:ident.$($field:ident).+) => {
        // SAFETY: by `new`.
        unsafe { shared::read(&raw const (*$entry.at).$($field).+) }
    };
}

macro_rules! write {
    ($entry:ident.$($field:ident).+, $value:expr) => {
        // SAFETY: by `new`; whoever calls has claimed the entry.
        unsafe { shared::write(&raw mut (*$entry.at).$($field).+, $value) }
    };
}

impl<A: Address> Entry<A> {
    /// # Safety
    /// `at` points to an entry of a flow table that outlives this value.
    #[inline(always)]
    pub const unsafe fn new(at: *mut FlowEntry<A>) -> Self {
        Self { at }
    }

    #[inline(always)]
    pub fn word(&self) -> Word {
        compiler_fence(Ordering::AcqRel);
        // SAFETY: by `new`.
        let word = Word(unsafe { shared::load(&raw mut (*self.at).word) });
        compiler_fence(Ordering::AcqRel);
        word
    }

    /// Compare-and-swap; true if it was `old` and is `new` now.
    #[inline(always)]
    pub fn swap(&self, old: Word, new: Word) -> bool {
        compiler_fence(Ordering::AcqRel);
        // SAFETY: by `new`.
        let done = unsafe { shared::compare_exchange(&raw mut (*self.at).word, old.0, new.0) };
        compiler_fence(Ordering::AcqRel);
        done
    }

    #[inline(always)]
    pub fn matches(&self, key: &FlowKey<A>) -> bool {
        // One expression without branches: chained comparisons become a call to memcmp.
        let ports = (read!(self.source_port).be ^ key.source_port.be)
            | (read!(self.destination_port).be ^ key.destination_port.be);
        let source = read!(self.source).difference(&key.source);
        source | read!(self.destination).difference(&key.destination) | ports as u32 == 0
    }

    #[inline(always)]
    pub fn key(&self, protocol: u8) -> FlowKey<A> {
        FlowKey {
            source: read!(self.source),
            destination: read!(self.destination),
            source_port: read!(self.source_port),
            destination_port: read!(self.destination_port),
            protocol,
        }
    }

    #[inline(always)]
    pub fn rewrite(&self) -> &Rewrite<A> {
        // SAFETY: by `new`. As for the fields above.
        unsafe { shared::borrow(&raw const (*self.at).rewrite) }
    }

    #[inline(always)]
    pub fn partner(&self) -> u32 {
        read!(self.partner)
    }

    #[inline(always)]
    pub fn last_seen(&self) -> u32 {
        read!(self.last_seen)
    }

    /// Written only when it changes, so that a busy flow's line is not dirtied by every packet.
    #[inline(always)]
    pub fn touch(&self, now: u32) {
        if self.last_seen() != now {
            // SAFETY: by `new`; a u32 of its own, where a lost race costs one tick.
            unsafe { shared::write_live(&raw mut (*self.at).last_seen, now) }
        }
    }

    #[inline(always)]
    pub fn acknowledged(&self) -> u32 {
        read!(self.acknowledged)
    }

    /// Written only when it changes, as by `touch`; true where it did.
    #[inline(always)]
    pub fn acknowledge(&self, number: u32) -> bool {
        let is_news = self.acknowledged() != number;
        if is_news {
            // SAFETY: by `new`; a u32 of its own, where a lost race leaves an older number.
            unsafe { shared::write_live(&raw mut (*self.at).acknowledged, number) }
        }
        is_news
    }

    /// Writes all but the word: packets of `key` become ones that those of `answer` answer.
    ///
    /// # Safety
    /// The entry is claimed, by the caller.
    #[inline(never)]
    pub(super) unsafe fn write(&self, key: &FlowKey<A>, answer: &FlowKey<A>, next_hop: &NextHop) {
        write!(self.source, key.source);
        write!(self.destination, key.destination);
        write!(self.source_port, key.source_port);
        write!(self.destination_port, key.destination_port);
        write!(self.acknowledged, 0);
        write!(self.rewrite.source, answer.destination);
        write!(self.rewrite.destination, answer.source);
        write!(self.rewrite.source_port, answer.destination_port);
        write!(self.rewrite.destination_port, answer.source_port);
        write!(self.rewrite.next_hop, *next_hop);
        let addresses = A::replace(Delta::NONE, &key.source, &answer.destination);
        let addresses = A::replace(addresses, &key.destination, &answer.source);
        write!(self.rewrite.ip_delta, addresses.plus(Delta::TTL_DECREMENT).fold());
        let ports = addresses.replace16(key.source_port.be, answer.destination_port.be);
        let ports = ports.replace16(key.destination_port.be, answer.source_port.be);
        write!(self.rewrite.l4_delta, ports.fold());
    }

    /// The rest of what `write` writes, for the same caller.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(super) unsafe fn write_rest(&self, partner: u32, now: u32) {
        write!(self.partner, partner);
        write!(self.last_seen, now);
    }

    /// See `Rewrite::l4_delta`.
    ///
    /// # Safety
    /// As `write`.
    #[inline(always)]
    pub(super) unsafe fn write_for_l4_delta(&self, number: u16) {
        write!(self.rewrite.l4_delta, number);
    }

    /// What the rewrite changes of a TCP checksum, where the field of that name says something else.
    #[inline(always)]
    pub fn l4_delta(&self) -> Delta {
        let new = self.rewrite();
        let addresses = Delta::NONE
            .add16(new.ip_delta)
            .replace16(Delta::TTL_DECREMENT.fold(), 0);
        addresses
            .replace16(read!(self.source_port).be, new.source_port.be)
            .replace16(read!(self.destination_port).be, new.destination_port.be)
    }

    /// Points a live flow at another next hop. A packet in between may leave with half of the old one.
    pub fn set_next_hop(&self, next_hop: NextHop) {
        // SAFETY: by `new`.
        unsafe { shared::write_live(&raw mut (*self.at).rewrite.next_hop, next_hop) }
    }
}
