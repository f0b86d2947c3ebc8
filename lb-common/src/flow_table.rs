//! The flow table: entries of one cache line, and the protocol by which CPUs and the daemon share them.
//!
//! Each flow has two entries, one for each direction, that name each other as partner. An entry's `word` is its
//! lock: it changes by compare-and-swap only, and all other fields are written by whoever holds it `Claimed`.
//! A reader copies what it needs and looks at the word again: the same serial means that nothing changed hands.
//! docs/flow-table.md tells the protocol whole. Tested here; under threads in `tests/it/flow_table.rs`.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::abi::{BackendId, NextHop};
use crate::wire::{Be16, Be32};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub source: Be32,
    pub destination: Be32,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub protocol: u8,
}

impl FlowKey {
    /// Spreads over the table and over slots; the same on every node and after every restart.
    #[inline(always)]
    pub const fn hash(&self) -> u64 {
        let addresses = (self.source.be as u64) << 32 | self.destination.be as u64;
        let ports = (self.source_port.be as u64) << 24 | (self.destination_port.be as u64) << 8 | self.protocol as u64;
        let mut h = (addresses ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 29) ^ ports).wrapping_mul(0x94d0_49bb_1331_11eb);
        h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^ (h >> 32)
    }
}

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

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Free = 0,
    /// Somebody is writing it.
    Claimed = 1,
    /// The backend has not answered, or the client has not confirmed the answer.
    HalfOpen = 2,
    Established = 3,
    /// Ended by FIN from both sides or by RST; kept a little for what is still on its way.
    Closing = 4,
}

/// Marks of a live entry.
pub const TO_CLIENT: u8 = 1;
pub const FIN_SEEN: u8 = 2;
pub const ANSWERED: u8 = 4;

/// `serial:16 | backend:16 | unused:8 | marks:8 | protocol:8 | state:8`; while claimed, `serial:16 | tag:32 | protocol:8 | state:8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    #[inline(always)]
    const fn claimed(serial: u16, protocol: u8, hash: u64) -> Self {
        Self((serial as u64) << 48 | (hash >> 32) << 16 | (protocol as u64) << 8 | State::Claimed as u64)
    }

    #[inline(always)]
    pub const fn live(serial: u16, backend: BackendId, marks: u8, protocol: u8, state: State) -> Self {
        Self(
            (serial as u64) << 48
                | (backend as u64) << 32
                | (marks as u64) << 16
                | (protocol as u64) << 8
                | state as u64,
        )
    }

    #[inline(always)]
    const fn free(serial: u16) -> Self {
        Self((serial as u64) << 48)
    }

    #[inline(always)]
    pub const fn state_byte(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub const fn is(self, state: State) -> bool {
        self.state_byte() == state as u8
    }

    #[inline(always)]
    pub const fn is_live(self) -> bool {
        self.state_byte() >= State::HalfOpen as u8
    }

    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    pub const fn has(self, mark: u8) -> bool {
        (self.0 >> 16) as u8 & mark != 0
    }

    #[inline(always)]
    pub const fn backend(self) -> BackendId {
        (self.0 >> 32) as BackendId
    }

    #[inline(always)]
    pub const fn serial(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline(always)]
    pub const fn with_mark(self, mark: u8) -> Self {
        Self(self.0 | (mark as u64) << 16)
    }

    #[inline(always)]
    pub const fn with_state(self, state: State) -> Self {
        Self(self.0 & !0xff | state as u64)
    }

    /// Still the same flow's, whatever state it went to.
    #[inline(always)]
    pub const fn same_tenant(self, other: Self) -> bool {
        (self.0 ^ other.0) >> 48 == 0 && self.is_live() && other.is_live()
    }
}

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

    /// Points a live flow at another next hop. A packet in between may leave with half of the old one.
    pub fn set_next_hop(&self, next_hop: NextHop) {
        // SAFETY: by `new`.
        unsafe { (&raw mut (*self.at).rewrite.next_hop).write_volatile(next_hop) }
    }
}

/// The memory of a flow table: a power of two of entries.
pub trait FlowMemory {
    fn mask(&self) -> u32;
    /// Some for every index up to the mask; the option is for the kernel's verifier.
    fn entry(&self, index: u32) -> Option<Entry>;
}

/// How many places a key may stand in: eight pairs of neighbouring lines.
pub const PROBES: u32 = 16;

#[inline(always)]
const fn place(hash: u64, probe: u32, mask: u32) -> u32 {
    let stride = ((hash >> 32) as u32) << 1 | 2;
    ((hash as u32).wrapping_add((probe >> 1).wrapping_mul(stride)) ^ (probe & 1)) & mask
}

/// A live entry as it was found.
#[derive(Clone, Copy)]
pub struct Found {
    pub entry: Entry,
    pub word: Word,
    pub index: u32,
}

#[inline(always)]
pub fn find<M: FlowMemory>(memory: &M, key: &FlowKey) -> Option<Found> {
    let hash = key.hash();
    let mut probe = 0;
    while probe < PROBES {
        let index = place(hash, probe, memory.mask());
        let entry = memory.entry(index)?;
        let word = entry.word();
        if word.is_live() && word.protocol() == key.protocol && entry.matches(key) {
            return Some(Found { entry, word, index });
        }
        probe += 1;
    }
    None
}

/// An entry that is ours to write, until `publish` or `abandon`.
#[derive(Clone, Copy)]
pub struct Claim {
    entry: Entry,
    word: Word,
    pub index: u32,
}

pub enum Claimed {
    Ours(Claim),
    /// The key is there already, as seen.
    Taken(Found),
    /// Another CPU is about to open the same key.
    Busy,
    Full,
}

/// Takes a free place for `key`, unless the key is in the table.
///
/// First a free place is swapped to `Claimed`, with a tag of the key; then the whole window is read again. Two
/// CPUs that claim for one key each see the other's tag in that second reading, or the later one sees the
/// earlier one's: at most one goes on, and both may give up, which costs their packets a retry.
#[inline(always)]
pub fn claim<M: FlowMemory>(memory: &M, key: &FlowKey) -> Claimed {
    let hash = key.hash();
    let Some(claim) = take_free(memory, key, hash) else {
        return Claimed::Full;
    };
    let mut probe = 0;
    while probe < PROBES {
        let index = place(hash, probe, memory.mask());
        let Some(entry) = memory.entry(index) else { break };
        let word = entry.word();
        if index != claim.index {
            if word.is_live() && word.protocol() == key.protocol && entry.matches(key) {
                claim.abandon();
                return Claimed::Taken(Found { entry, word, index });
            }
            if word.0 << 16 == claim.word.0 << 16 {
                claim.abandon();
                return Claimed::Busy;
            }
        }
        probe += 1;
    }
    Claimed::Ours(claim)
}

#[inline(always)]
fn take_free<M: FlowMemory>(memory: &M, key: &FlowKey, hash: u64) -> Option<Claim> {
    let mut probe = 0;
    while probe < PROBES {
        let index = place(hash, probe, memory.mask());
        let entry = memory.entry(index)?;
        let old = entry.word();
        if old.is(State::Free) {
            let word = Word::claimed(old.serial(), key.protocol, hash);
            if entry.swap(old, word) {
                return Some(Claim { entry, word, index });
            }
        }
        probe += 1;
    }
    None
}

impl Claim {
    #[inline(always)]
    pub fn abandon(&self) {
        self.entry.swap(self.word, Word::free(self.word.serial()));
    }

    /// Writes the entry, still invisible to readers.
    #[inline(always)]
    pub fn fill(&self, key: &FlowKey, rewrite: &Rewrite, partner: u32, now: u32) {
        // SAFETY: by `Entry::new`, and while claimed nobody else writes.
        let entry = unsafe { &mut *self.entry.at };
        entry.source = key.source;
        entry.destination = key.destination;
        entry.source_port = key.source_port;
        entry.destination_port = key.destination_port;
        entry.rewrite = *rewrite;
        entry.partner = partner;
        entry.last_seen = now;
    }

    /// Makes it live, under a new serial.
    #[inline(always)]
    pub fn publish(&self, backend: BackendId, marks: u8) -> Found {
        let serial = self.word.serial().wrapping_add(1);
        let word = Word::live(serial, backend, marks, self.word.protocol(), State::HalfOpen);
        self.entry.swap(self.word, word);
        Found {
            entry: self.entry,
            word,
            index: self.index,
        }
    }
}

/// The other direction of a live flow, if it is live and names this one.
#[inline(always)]
pub fn partner<M: FlowMemory>(memory: &M, of: &Found) -> Option<Found> {
    let index = of.entry.partner() & memory.mask();
    let entry = memory.entry(index)?;
    let word = entry.word();
    (word.is_live() && entry.partner() == of.index && word.has(TO_CLIENT) != of.word.has(TO_CLIENT)).then_some(Found {
        entry,
        word,
        index,
    })
}

/// Frees both directions. False where this direction changed since it was found; then nothing is freed.
#[inline(always)]
pub fn release<M: FlowMemory>(memory: &M, flow: &Found) -> bool {
    let other = partner(memory, flow);
    if !flow.entry.swap(flow.word, Word::free(flow.word.serial())) {
        return false;
    }
    if let Some(other) = other {
        other.entry.swap(other.word, Word::free(other.word.serial()));
    }
    true
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
