//! The flow table: entries of one cache line, and the protocol by which CPUs and the daemon share them.
//!
//! Each flow has two entries, one for each direction, that name each other as partner. An entry's `word` is its
//! lock: it changes by compare-and-swap only, and all other fields are written by whoever holds it `Claimed`.
//! A reader copies what it needs and looks at the word again: the same serial means that nothing changed hands.
//! docs/flow-table.md tells the protocol whole. Tested by the packet table, and under threads in `tests/it/flow_table.rs`.

mod entry;
mod key;
#[cfg(test)]
pub mod schedules;
pub mod upkeep;
mod word;

use crate::abi::{BackendId, NextHop};
use crate::family::Address;
use crate::wire::Be32;

pub use entry::{Entry, FlowEntry, Rewrite, TICK_SHIFT};
pub use key::FlowKey;
pub use word::{ANSWERED, DOUBTED, FIN_SEEN, Manner, RESET, SHIFTED, State, TO_CLIENT, Word};

/// The memory of a flow table: a power of two of entries.
pub trait FlowMemory<A>: Loop {
    fn mask(&self) -> u32;
    /// Some for every index up to the mask; the option is for the kernel's verifier.
    fn entry(&self, index: u32) -> Option<Entry<A>>;
    /// Adds to the number of active flows of a backend.
    fn count_active(&self, backend: BackendId, change: i64);
}

/// What keeps the kernel's verifier from walking more paths than matter. Elsewhere it is what it looks like.
pub trait Loop {
    /// The same number, of which the verifier then knows nothing: paths that differ in it only are one.
    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        number
    }

    /// Calls `step` with 0, 1, … until that says false, or `times` have passed.
    #[inline(always)]
    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> bool) {
        let mut number = 0;
        while number < times && step(number) {
            number += 1;
        }
    }
}

/// How many places a key may stand in: ten pairs of neighbouring lines.
pub const PROBES: u32 = 20;
/// They lie together: a line of another page costs a walk through page tables besides.
const PAIRS_TOGETHER: u32 = 4096 / size_of::<FlowEntry<Be32>>() as u32 / 2;

#[inline(always)]
const fn place(hash: u64, probe: u32, mask: u32) -> u32 {
    // An odd one, which visits each pair once.
    let stride = ((hash >> 32) as u32) | 1;
    let pair = (probe >> 1).wrapping_mul(stride) % PAIRS_TOGETHER;
    (hash as u32 ^ (pair << 1 | (probe & 1))) & mask
}

/// A live entry as it was found.
#[derive(Clone, Copy)]
pub struct Found<A> {
    pub entry: Entry<A>,
    pub word: Word,
    pub index: u32,
}

/// How often a step is tried anew when another CPU changed the word meanwhile. Two directions make few steps.
const CHANGES: u32 = 3;

impl<A: Address> Found<A> {
    /// Takes a step of the flow's life; false where it is another's entry by now.
    #[inline(always)]
    pub fn change<M: FlowMemory<A>>(&self, memory: &M, step: impl Fn(Word) -> Word) -> bool {
        let mut word = self.entry.word();
        let mut tried = 0;
        while tried < CHANGES && word.same_tenant(self.word) {
            if swap(memory, &self.entry, word, step(word)) {
                return true;
            }
            word = self.entry.word();
            tried += 1;
        }
        false
    }
}

/// Changes the word of a live entry, and the count of active flows with it.
#[inline(always)]
fn swap<A: Address, M: FlowMemory<A>>(memory: &M, entry: &Entry<A>, old: Word, new: Word) -> bool {
    if !entry.swap(old, new) {
        return false;
    }
    if old.is_active() != new.is_active() {
        memory.count_active(old.backend(), if new.is_active() { 1 } else { -1 });
    }
    true
}

/// The first places are looked at without the cost of a `Loop`: most flows stand there.
const NEAR: u32 = 4;

#[inline(always)]
pub fn find<A: Address, M: FlowMemory<A>>(memory: &M, key: &FlowKey<A>) -> Option<Found<A>> {
    let hash = key.hash();
    let mut probe = 0;
    while probe < NEAR {
        let found = look(memory, place(hash, probe, memory.mask()), key);
        if found.is_some() {
            return found;
        }
        probe += 1;
    }
    let mut at = 0;
    memory.repeat(PROBES - NEAR, |probe| {
        at = place(hash, NEAR + probe, memory.mask());
        look(memory, at, key).is_none()
    });
    look(memory, at, key)
}

/// The entry of `key`, where it is at `index`.
#[inline(always)]
pub fn look<A: Address, M: FlowMemory<A>>(memory: &M, index: u32, key: &FlowKey<A>) -> Option<Found<A>> {
    let entry = memory.entry(index)?;
    let word = entry.word();
    let found = word.is_live() && word.protocol() == key.protocol && entry.matches(key);
    found.then_some(Found { entry, word, index })
}

/// An entry that is ours to write, until `publish` or `abandon`.
//
// VERIFIER (6.1): numbers only, since a pointer does not come out of a `Loop` as one.
#[derive(Clone, Copy)]
pub struct Claim {
    word: Word,
    pub index: u32,
}

pub enum Claimed<A> {
    Ours(Claim),
    /// The key is there already, as seen.
    Taken(Found<A>),
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
pub fn claim<A: Address, M: FlowMemory<A>>(memory: &M, key: &FlowKey<A>) -> Claimed<A> {
    let hash = key.hash();
    let taken = take_free(memory, key, hash).or_else(|| {
        evict(memory, hash);
        take_free(memory, key, hash)
    });
    let Some(claim) = taken else {
        return Claimed::Full;
    };
    let mut at = claim.index;
    let mut busy = false;
    memory.repeat(PROBES, |probe| {
        let index = place(hash, probe, memory.mask());
        let Some(entry) = memory.entry(index).filter(|_| index != claim.index) else {
            return true;
        };
        let word = entry.word();
        busy = word.0 << 16 == claim.word.0 << 16;
        if busy || look(memory, index, key).is_some() {
            at = index;
        }
        at == claim.index
    });
    if at == claim.index {
        return Claimed::Ours(claim);
    }
    claim.abandon(memory);
    match look(memory, at, key) {
        Some(found) if !busy => Claimed::Taken(found),
        _ => Claimed::Busy,
    }
}

#[inline(always)]
fn take_free<A: Address, M: FlowMemory<A>>(memory: &M, key: &FlowKey<A>, hash: u64) -> Option<Claim> {
    let mut taken = None;
    memory.repeat(PROBES, |probe| {
        let index = place(hash, probe, memory.mask());
        if let Some(entry) = memory.entry(index) {
            let old = entry.word();
            let word = Word::claimed(old.serial(), key.protocol, hash);
            if old.is(State::Free) && entry.swap(old, word) {
                taken = Some(Claim { word, index });
            }
        }
        taken.is_none()
    });
    taken
}

/// Frees a half-open or severed flow that has an entry where the hash may stand: none is worth a new one's place. Each
/// hash begins at another place, lest the newest be the first to go.
#[inline(always)]
fn evict<A: Address, M: FlowMemory<A>>(memory: &M, hash: u64) {
    memory.repeat(PROBES, |probe| {
        let index = place(hash, (probe + (hash >> 60) as u32) % PROBES, memory.mask());
        let Some(entry) = memory.entry(index) else { return true };
        let word = entry.word();
        let gives_way = word.is(State::HalfOpen) || word.is(State::Severed);
        !(gives_way && release(memory, &Found { entry, word, index }))
    });
}

impl Claim {
    #[inline(always)]
    pub fn abandon<A: Address, M: FlowMemory<A>>(&self, memory: &M) {
        if let Some(entry) = memory.entry(self.index) {
            entry.swap(self.word, Word::free(self.word.serial()));
        }
    }

    /// Writes the entry, still invisible to readers.
    #[inline(always)]
    pub fn fill<A: Address, M: FlowMemory<A>>(
        &self,
        memory: &M,
        (key, answer): (&FlowKey<A>, &FlowKey<A>),
        next_hop: &NextHop,
        partner: u32,
        now: u32,
    ) {
        if let Some(entry) = memory.entry(self.index) {
            // SAFETY: while claimed nobody else writes it, nor believes what is in it.
            unsafe {
                entry.write(key, answer, next_hop);
                entry.write_rest(partner, now);
            }
        }
    }

    /// Puts an MTU, or a shift, where most entries have the change of a checksum.
    #[inline(always)]
    pub fn put_for_l4_delta<A: Address, M: FlowMemory<A>>(&self, memory: &M, number: u16) {
        if let Some(entry) = memory.entry(self.index) {
            // SAFETY: as in `fill`.
            unsafe { entry.write_for_l4_delta(number) }
        }
    }

    /// Makes it live, under a new serial.
    #[inline(always)]
    pub fn publish<A: Address, M: FlowMemory<A>>(&self, memory: &M, backend: BackendId, manner: Manner, marks: u8) {
        let Some(entry) = memory.entry(self.index) else { return };
        let serial = self.word.serial().wrapping_add(1);
        let word = Word::live(serial, backend, manner, marks, self.word.protocol(), State::HalfOpen);
        entry.swap(self.word, word);
        if word.is_active() {
            memory.count_active(backend, 1);
        }
    }
}

/// The live entry at `index`.
#[inline(always)]
pub fn at<A: Address, M: FlowMemory<A>>(memory: &M, index: u32) -> Option<Found<A>> {
    let entry = memory.entry(index)?;
    let word = entry.word();
    word.is_live().then_some(Found { entry, word, index })
}

/// The other direction of a flow, while both are live.
#[inline(always)]
pub fn partner<A: Address, M: FlowMemory<A>>(memory: &M, of: &Found<A>) -> Option<Found<A>> {
    let index = of.entry.partner() & memory.mask();
    let entry = memory.entry(index)?;
    let word = entry.word();
    let names_it = word.is_live() && entry.partner() == of.index && word.has(TO_CLIENT) != of.word.has(TO_CLIENT);
    // INVARIANT: the flow was still there after all that was read, else this is the partner of whoever came after it.
    (names_it && of.entry.word().same_tenant(of.word)).then_some(Found { entry, word, index })
}

/// Frees both directions. False where the flow has changed since it was found; then nothing is freed.
#[inline(always)]
pub fn release<A: Address, M: FlowMemory<A>>(memory: &M, flow: &Found<A>) -> bool {
    // The direction towards the backend goes first. By it the flow goes on to another state, so it tells whether that has
    // happened meanwhile; and as long as packets leave by it, the other one keeps the port from others.
    let (first, second) = match partner(memory, flow) {
        Some(other) if flow.word.has(TO_CLIENT) => (other, Some(*flow)),
        // Its flow is just being opened.
        None if flow.word.has(TO_CLIENT) => return false,
        other => (*flow, other),
    };
    let unchanged = first.word.state_byte() == flow.word.state_byte();
    if !unchanged || !free(memory, &first) {
        return false;
    }
    if let Some(second) = second {
        second.change(memory, |word| Word::free(word.serial()));
    }
    true
}

/// Frees this direction alone. False where it changed since it was found.
#[inline(always)]
fn free<A: Address, M: FlowMemory<A>>(memory: &M, found: &Found<A>) -> bool {
    swap(memory, &found.entry, found.word, Word::free(found.word.serial()))
}

#[cfg(test)]
mod tests {
    use proptest::proptest;
    use std::vec::Vec;

    use super::*;

    proptest! {
        #[test]
        fn a_key_has_places_of_its_own_in_one_page(hash: u64) {
            let mask = 0xf_ffff;
            let mut places: Vec<u32> = (0..PROBES).map(|probe| place(hash, probe, mask)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), PROBES as usize);
            assert!(places.iter().all(|place| place / 64 == places[0] / 64));
        }
    }
}
