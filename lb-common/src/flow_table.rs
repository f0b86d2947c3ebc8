//! The flow table: entries of one cache line, and the protocol by which CPUs and the daemon share them.
//!
//! Each flow has two entries, one for each direction, that name each other as partner. An entry's `word` is its
//! lock: it changes by compare-and-swap only, and all other fields are written by whoever holds it `Claimed`.
//! A reader copies what it needs and looks at the word again: the same serial means that nothing changed hands.
//! docs/flow-table.md tells the protocol whole. Tested by the packet table, and under threads in `tests/it/flow_table.rs`.

mod entry;
mod key;
mod word;

use crate::abi::BackendId;

pub use entry::{Entry, FlowEntry, Rewrite, TICK_SHIFT};
pub use key::FlowKey;
pub use word::{ANSWERED, FIN_SEEN, RESET, State, TO_CLIENT, Word};

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

/// How often a step is tried anew when another CPU changed the word meanwhile. Two directions make few steps.
const CHANGES: u32 = 3;

impl Found {
    /// Takes a step of the flow's life; false where it is another's entry by now.
    #[inline(always)]
    pub fn change(&self, step: impl Fn(Word) -> Word) -> bool {
        let mut word = self.entry.word();
        let mut tried = 0;
        while tried < CHANGES && word.same_tenant(self.word) {
            if self.entry.swap(word, step(word)) {
                return true;
            }
            word = self.entry.word();
            tried += 1;
        }
        false
    }
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
        // SAFETY: while claimed nobody else writes it, nor believes what is in it.
        unsafe { self.entry.write(key, rewrite, partner, now) }
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
        other.change(|word| Word::free(word.serial()));
    }
    true
}
