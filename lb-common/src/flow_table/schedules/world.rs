//! What does not change while CPUs take their steps: a service with two backends, and what must be true of the memory.
//!
//! What happens in it, `cases` say.

use std::boxed::Box;
use std::format;
use std::net::Ipv4Addr;
use std::ptr::without_provenance_mut;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::machine::{BASE, Machine, alone, peek, shared};
use crate::abi::{Backend, BackendId, MAX_SNAT, Mode, NextHop};
use crate::decide::{Verdict, decide};
use crate::flow_table::upkeep::{expire, live};
use crate::flow_table::{ANSWERED, DOUBTED, FIN_SEEN, FlowEntry, FlowKey, Found, RESET, State, TO_CLIENT, Word};
use crate::lifetime::sever;
use crate::wire::{Be16, Be32, Ether, Ip};

mod here;

pub use here::Bytes;
use here::Here;

pub type Key = FlowKey<Be32>;
/// What a CPU does; it tells how that went.
pub type Story = Box<dyn Fn(&World) -> String>;

pub const LISTEN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 100);
pub const SNAT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
pub const BACKENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 1, 11), Ipv4Addr::new(198, 18, 1, 12)];
const ENTRY: usize = size_of::<FlowEntry<Be32>>();
/// How many ports are tried for a new flow.
const TRIES: u32 = 3;
/// In ticks: how long a flow is kept that is closing, or that nobody confirmed.
pub const SOON: u32 = 50;
/// How long any other is.
const LATE: u32 = 1 << 20;

#[derive(Clone)]
pub struct World {
    now: u32,
    /// Who gets new flows.
    chosen: BackendId,
    mode: Mode,
    /// Each as it is, and as it is after everybody's next hop moved.
    backends: [[Backend; 2]; 2],
    /// In the beginning: entries, counts of active flows, and whether next hops have moved.
    memory: Vec<u8>,
}

/// Of whoever has the address, before and after it moved.
fn next_hop(of: Be32, moved: bool) -> NextHop {
    let [.., last] = Ipv4Addr::from(of).octets();
    NextHop {
        ether: Ether::new([2, 0, 0, 0, u8::from(moved), last], [2, 0, 0, 0, 0, 1]),
        ifindex: 2,
    }
}

/// Of packets that answer those.
fn reversed(key: &Key) -> Key {
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        protocol: key.protocol,
    }
}

/// A live entry.
struct Live {
    index: usize,
    word: Word,
    key: Key,
    /// Of what answers the packets that leave by it.
    answer: Key,
    partner: usize,
    next_hop: NextHop,
}

impl Live {
    fn to_client(&self) -> bool {
        self.word.has(TO_CLIENT)
    }

    /// The same for both directions.
    fn flow(&self) -> (Key, Key) {
        let keys = (self.key, self.answer);
        if self.to_client() { (keys.1, keys.0) } else { keys }
    }

    fn is_partner_of(&self, other: &Self) -> bool {
        self.partner == other.index && other.partner == self.index
    }

    fn is_astray(&self, moved: bool) -> bool {
        self.next_hop != next_hop(self.answer.source, moved)
    }
}

impl World {
    /// With so many entries, and a backend that keeps its flows.
    pub fn of(entries: usize) -> Self {
        let mut snat = [Ip::UNSPECIFIED; MAX_SNAT];
        snat[0] = Be32::from(SNAT).into();
        let backend = |address: Ipv4Addr, moved| Backend {
            address: Be32::from(address).into(),
            snat,
            snat_count: 1,
            port: Be16::new(8080),
            service: 1,
            weight: 1,
            next_hop: next_hop(address.into(), moved),
            fingerprint: 1,
            ..Backend::NOBODY
        };
        Self {
            now: 1000,
            chosen: 1,
            mode: Mode::Nat,
            backends: [false, true].map(|moved| BACKENDS.map(|address| backend(address, moved))),
            memory: vec![0; entries * ENTRY + 8 * (BACKENDS.len() + 1)],
        }
    }

    pub fn memory(&self) -> Vec<u8> {
        self.memory.clone()
    }

    /// After this has happened, and told that.
    pub fn after(mut self, story: &Story, told: &str) -> Self {
        let mut memory = self.memory();
        assert_eq!(alone(&mut memory, || story(&self)), told);
        self.memory = memory;
        self
    }

    pub fn later(mut self) -> Self {
        self.now += 2 * SOON;
        self
    }

    /// Whose backends answer clients themselves.
    pub fn one_way(self) -> Self {
        Self {
            mode: Mode::DsrL2,
            ..self
        }
    }

    /// New flows go to the other backend from now on, and the first one takes no more.
    pub fn moved_on(mut self) -> Self {
        self.chosen = 2;
        self.backends
            .as_flattened_mut()
            .iter_mut()
            .for_each(|backend| backend.weight = 0);
        self
    }

    /// A packet on its whole way. A first one asks for the port of its client.
    pub fn packet(&self, mut frame: Bytes) -> String {
        let key = frame.key();
        let tables = Here::of(self).wanting(key.source_port.get());
        match decide(&mut frame, &tables, 1) {
            Verdict::Send(_) => {
                peek(|memory| self.judge(memory, &key, &frame));
                "sent".into()
            }
            Verdict::Stop(reason) | Verdict::Answer(reason) => reason.name().into(),
            Verdict::Next(_) => panic!("decide runs all stages"),
        }
    }

    /// It leaves as an entry of its key tells at that very moment.
    fn judge(&self, memory: &[u8], key: &Key, sent: &Bytes) {
        let live = self.live(memory);
        let entry = live
            .iter()
            .find(|entry| entry.key == *key)
            .expect("a packet left without a flow");
        if entry.word.mode() == Mode::Nat {
            assert_eq!(sent.key(), reversed(&entry.answer), "a packet left by another flow");
        }
        assert_eq!(
            sent.0[5],
            entry.next_hop.ether.destination()[5],
            "a packet left for somebody else"
        );
    }

    /// The daemon's way through the table; tells how many it freed.
    pub fn sweep(&self) -> String {
        let limit = |found: &Found<Be32>| {
            let lasts = found.word.is(State::Established) && !found.word.has(TO_CLIENT);
            if lasts { LATE } else { SOON }
        };
        let tables = Here::of(self);
        let entries = live(&tables, 0..self.entries() as u32);
        let freed = entries.filter(|found| expire(&tables, found, self.now, limit(found)));
        format!("{} freed", freed.count())
    }

    /// Everybody's next hop moves, and the daemon points flows there, as far as it sees them on its way.
    pub fn moves(&self) -> String {
        let tables = Here::of(self);
        // SAFETY: a word of the memory.
        unsafe { shared::compare_exchange(self.moved(), 0, 1) };
        for found in live(&tables, 0..self.entries() as u32) {
            let rewrite = *found.entry.rewrite();
            let wanted = next_hop(rewrite.destination, true);
            if rewrite.next_hop != wanted {
                found.entry.set_next_hop(wanted);
            }
        }
        "moved".into()
    }

    /// The backends are lost, and the daemon ends their flows; tells how many it severed.
    pub fn severs(&self) -> String {
        let tables = Here::of(self);
        let entries = live(&tables, 0..self.entries() as u32).filter(|found: &Found<Be32>| !found.word.has(TO_CLIENT));
        let severed = entries.filter(|found| sever(&tables, found, self.now));
        format!("{} severed", severed.count())
    }

    /// What is true after every step.
    pub fn look(&self, before: &Machine, after: &mut Machine, cpu: usize) {
        let live = self.live(&after.memory);
        for was in self.live(&before.memory) {
            let word = self.entry(&after.memory, was.index).word;
            if word == was.word.0 {
                continue;
            }
            if Word(word).is_live() {
                let first = *after.moves[cpu].get_or_insert(was.flow());
                assert_eq!(first, was.flow(), "one packet changes two flows");
            }
            let lasts = was.word.is(State::Established) && !was.word.has(FIN_SEEN) && !was.to_client();
            assert!(!lasts || Word(word).is_live(), "an established flow is evicted");
        }
        for (number, one) in live.iter().enumerate() {
            for other in &live[number + 1..] {
                assert_ne!(one.key, other.key, "a key is in the table twice");
                // What a backend answers to one flow is never taken for another's.
                let takes = |one: &Live, other: &Live| {
                    let answers = if other.to_client() { other.key } else { other.answer };
                    !one.to_client() && !one.is_partner_of(other) && one.answer == answers
                };
                let both = one.word.mode() == Mode::Nat && other.word.mode() == Mode::Nat;
                assert!(
                    !both || !takes(one, other) && !takes(other, one),
                    "two flows have one port"
                );
            }
        }
    }

    /// When all is done nothing is claimed, flows are whole and counted, and in time the sweep frees them all. Tells what
    /// there is before it does; a flow is astray where it leaves by another's next hop, or by what was its own.
    pub fn settled(&self, machine: &Machine) -> String {
        let memory = &machine.memory;
        let claimed = |index| Word(self.entry(memory, index).word).is(State::Claimed);
        assert!(!(0..self.entries()).any(claimed), "an entry stays claimed");
        let live = self.live(memory);
        let moved = self.count(memory, self.moved()) != 0;
        let mut flows = Vec::new();
        for entry in &live {
            let other = live.iter().find(|other| other.is_partner_of(entry));
            let other = other.expect("an entry stands alone");
            let one_way = entry.word.mode() != Mode::Nat;
            assert!(
                entry.to_client() != other.to_client() || one_way,
                "both lead the same way"
            );
            if entry.to_client() {
                continue;
            }
            let [.., client] = Ipv4Addr::from(entry.key.source).octets();
            let back = if one_way {
                String::new()
            } else {
                format!("/{}", name(other.word))
            };
            let astray = entry.is_astray(moved) || other.is_astray(moved) && !one_way;
            let astray = if astray { " astray" } else { "" };
            flows.push(format!("{client} {}{back}{astray}", name(entry.word)));
        }
        for id in 1..=BACKENDS.len() as BackendId {
            let counts = |entry: &&Live| {
                let goes_on = entry.word.is(State::HalfOpen) || entry.word.is(State::Established);
                goes_on && !entry.to_client() && entry.word.backend() == id
            };
            let active = live.iter().filter(counts);
            assert_eq!(
                self.count(memory, self.active(id)),
                active.count() as u64,
                "active flows are miscounted"
            );
        }
        let mut then = self.clone();
        (then.now, then.memory) = (self.now + 2 * LATE, memory.clone());
        alone(&mut then.memory.clone(), || {
            then.sweep();
            peek(|memory| assert!(self.live(memory).is_empty(), "a flow is never freed"));
            peek(|memory| assert!((1..=2).all(|id| self.count(memory, self.active(id)) == 0)));
        });
        flows.sort();
        flows.join(", ")
    }

    fn entries(&self) -> usize {
        self.memory.len() / ENTRY
    }

    fn entry(&self, memory: &[u8], index: usize) -> FlowEntry<Be32> {
        let bytes = &memory[index * ENTRY..][..ENTRY];
        // SAFETY: as many bytes as it has, and any are one.
        unsafe { bytes.as_ptr().cast::<FlowEntry<Be32>>().read_unaligned() }
    }

    fn live(&self, memory: &[u8]) -> Vec<Live> {
        let entries = (0..self.entries()).map(|index| (index, self.entry(memory, index)));
        let live = entries.filter(|(_, entry)| Word(entry.word).is_live());
        live.map(|(index, entry)| {
            let (word, rewrite) = (Word(entry.word), entry.rewrite);
            let key = |source, destination, source_port, destination_port| FlowKey {
                source,
                destination,
                source_port,
                destination_port,
                protocol: word.protocol(),
            };
            Live {
                index,
                word,
                key: key(
                    entry.source,
                    entry.destination,
                    entry.source_port,
                    entry.destination_port,
                ),
                answer: key(
                    rewrite.destination,
                    rewrite.source,
                    rewrite.destination_port,
                    rewrite.source_port,
                ),
                partner: entry.partner as usize,
                next_hop: rewrite.next_hop,
            }
        })
        .collect()
    }

    fn active(&self, id: BackendId) -> *mut u64 {
        without_provenance_mut(BASE + self.entries() * ENTRY + 8 * (usize::from(id) - 1))
    }

    fn moved(&self) -> *mut u64 {
        self.active(BACKENDS.len() as BackendId + 1)
    }

    fn count(&self, memory: &[u8], at: *const u64) -> u64 {
        let bytes = memory[at.addr() - BASE..][..8].try_into();
        u64::from_ne_bytes(bytes.expect("eight bytes"))
    }
}

/// The state, and the marks.
fn name(word: Word) -> String {
    let states = ["free", "claimed", "half-open", "established", "closing", "severed"];
    let marks = [
        (ANSWERED, " answered"),
        (FIN_SEEN, " fin"),
        (RESET, " rst"),
        (DOUBTED, " doubted"),
    ];
    let marks = marks.iter().filter(|(mark, _)| word.has(*mark)).map(|(_, name)| *name);
    [states[usize::from(word.state_byte())]]
        .into_iter()
        .chain(marks)
        .collect()
}
