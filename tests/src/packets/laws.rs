//! What holds for every sequence of frames, whatever they are: the oracle of the fuzzer, and of its corpus.
//!
//! Knows nothing of how the data path does it: frames are taken apart here by the definitions.

use std::collections::BTreeMap;

use lb_common::abi::{BackendId, Mode, TCP, UDP};
use lb_common::decide::Verdict;
use lb_common::family::Address;
use lb_common::flow_table::{self, FlowKey, FlowMemory, Found, Loop, Rewrite, State, TO_CLIENT, Word};
use lb_common::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ether, transport};
use lb_common::wire::{Be32, Ip};

use super::builder::checksum;
use super::model::{Bytes, Model};
use super::world::{CLIENT_SIDE, mode_of, state};

/// Of a family: enough for several flows, few enough that they get in each other's way.
const ENTRIES: usize = 64;
/// Two bytes before each frame: its length, or how long nothing happens.
const LENGTH: u16 = 0x07ff;
const SILENCE: u16 = 0x8000;

thread_local! {
    /// Made once: that takes longer than an input.
    static MODEL: Model = Model::new(state(), ENTRIES);
}

/// Sends the frames of an input; panics where a law is broken.
pub fn hold(input: &[u8]) {
    MODEL.with(|model| {
        model.forget();
        for step in Steps(input) {
            match step {
                Step::Silence(ticks) => model.now.set(model.now.get().wrapping_add(ticks.into())),
                Step::Frame(frame) => frame_holds(model, frame),
            }
        }
    });
}

enum Step<'i> {
    Frame(&'i [u8]),
    Silence(u16),
}

struct Steps<'i>(&'i [u8]);

impl<'i> Iterator for Steps<'i> {
    type Item = Step<'i>;

    fn next(&mut self) -> Option<Step<'i>> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        let head = u16::from_be_bytes(*head);
        if head & SILENCE != 0 {
            self.0 = rest;
            return Some(Step::Silence(head & LENGTH));
        }
        let (frame, rest) = rest.split_at(rest.len().min((head & LENGTH).into()));
        self.0 = rest;
        Some(Step::Frame(frame))
    }
}

/// An input of these frames.
pub fn input<'f>(frames: impl IntoIterator<Item = &'f [u8]>) -> Vec<u8> {
    let fitting = frames.into_iter().filter(|frame| frame.len() <= LENGTH.into());
    let steps = fitting.map(|frame| [&(frame.len() as u16).to_be_bytes()[..], frame].concat());
    steps.collect::<Vec<_>>().concat()
}

fn frame_holds(model: &Model, frame: &[u8]) {
    let before = (Table::<Be32>::of(model), Table::<Ip>::of(model));
    let mut sent = frame.to_vec();
    let verdict = model.run(&mut sent, CLIENT_SIDE);
    let after = (Table::<Be32>::of(model), Table::<Ip>::of(model));

    let arrived = View::of(frame);
    match verdict {
        Verdict::Next(stage) => panic!("nobody went on with {}", stage.name()),
        Verdict::Stop(reason) if reason.passes() => assert_eq!(sent, frame, "{} passes untouched", reason.name()),
        Verdict::Stop(_) => {}
        Verdict::Send(_) => {
            let (arrived, left) = (arrived.expect("what is sent on is IP"), View::of(&sent));
            sent_on(&arrived, &left.expect("what was sent on is IP"), model.last_sent.get());
        }
        Verdict::Answer(_) => {
            let left = View::of(&sent).expect("an answer is IP");
            assert_eq!(left.checksums(), Checksums::right(), "of our own answer");
            assert_eq!(sent[..6], frame[6..12], "an answer goes back");
        }
    }
    before.0.others_are_as_they_were(&after.0, key_of(model, frame));
    before.1.others_are_as_they_were(&after.1, key_of(model, frame));
    let mut active = after.0.check(model);
    for (backend, flows) in after.1.check(model) {
        *active.entry(backend).or_default() += flows;
    }
    assert_eq!(active, model.active(), "active flows of each backend");
}

/// The tags, the TTL and the checksums of a packet that was sent on.
fn sent_on(arrived: &View, left: &View, last_sent: Option<(BackendId, bool)>) {
    assert_eq!(arrived.link, left.link, "tags and type");
    let (backend, _) = last_sent.expect("it was counted");
    let (inner, less) = match mode_of(backend) {
        Mode::Nat => (left.clone(), 1),
        Mode::DsrL2 => (left.clone(), 0),
        Mode::DsrIpip => {
            assert!(left.checksums().header, "of our own header");
            (left.within().expect("a packet in a packet"), 1)
        }
    };
    assert_eq!(inner.ttl() + less, arrived.ttl(), "time to live");
    assert_eq!(inner.packet.len(), arrived.packet.len(), "length of the packet");
    assert_eq!(
        inner.checksums(),
        arrived.checksums(),
        "right stays right, and wrong wrong"
    );
}

/// A packet by the definition, within its frame.
#[derive(Clone)]
struct View<'f> {
    /// EtherTypes and tags.
    link: &'f [u8],
    /// IP header and all that it counts.
    packet: &'f [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Checksums {
    /// Of IPv4's header.
    header: bool,
    /// Of TCP, UDP or ICMP where all of it is there, else true.
    transport: bool,
}

impl Checksums {
    const fn right() -> Self {
        Self {
            header: true,
            transport: true,
        }
    }
}

impl View<'_> {
    fn of(frame: &[u8]) -> Option<View<'_>> {
        let mut l3 = 14;
        while let [0x81, 0x00] | [0x88, 0xa8] = frame.get(l3 - 2..l3)? {
            l3 += 4;
        }
        let length = match frame.get(l3 - 2..l3)? {
            [0x08, 0x00] => number(frame, l3 + 2)?,
            [0x86, 0xdd] => 40 + number(frame, l3 + 4)?,
            _ => return None,
        };
        Some(View {
            link: &frame[12..l3],
            packet: frame.get(l3..l3 + length)?,
        })
    }

    const fn is_ipv4(&self) -> bool {
        self.packet[0] >> 4 == 4
    }

    const fn ttl(&self) -> u8 {
        self.packet[if self.is_ipv4() { 8 } else { 7 }]
    }

    /// The packet in this one.
    fn within(&self) -> Option<Self> {
        Some(Self {
            link: self.link,
            packet: self.packet.get(if self.is_ipv4() { 20 } else { 40 }..)?,
        })
    }

    fn checksums(&self) -> Checksums {
        let header = if self.is_ipv4() {
            self.packet.get(..self.ipv4_header())
        } else {
            None
        };
        Checksums {
            header: header.is_none_or(|header| checksum(header) == 0),
            transport: self.transport_is_right().unwrap_or(true),
        }
    }

    const fn ipv4_header(&self) -> usize {
        (self.packet[0] & 0x0f) as usize * 4
    }

    /// None where there is no checksum, or not all that it covers.
    fn transport_is_right(&self) -> Option<bool> {
        let (protocol, at) = self.transport()?;
        let segment = self.packet.get(at..)?;
        let covers_addresses = match protocol {
            TCP if segment.len() >= 20 => true,
            UDP if segment.len() >= 8 && segment[6..8] != [0, 0] => true,
            1 if self.is_ipv4() => false,
            58 => true,
            _ => return None,
        };
        let mut covered = Vec::new();
        if covers_addresses {
            covered.extend(&self.packet[if self.is_ipv4() { 12..20 } else { 8..40 }]);
            covered.extend((segment.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, protocol]);
        }
        covered.extend(segment);
        Some(checksum(&covered) == 0)
    }

    /// The protocol of a packet that is no fragment, and where its header is.
    fn transport(&self) -> Option<(u8, usize)> {
        if self.is_ipv4() {
            let whole = number(self.packet, 6)? & 0x3fff == 0;
            return whole.then(|| (self.packet[9], self.ipv4_header()));
        }
        let (mut next, mut at) = (self.packet[6], 40);
        while let 0 | 44 | 60 = next {
            let length = match next {
                44 if number(self.packet, at + 2)? & 0xfff9 != 0 => return None,
                44 => 8,
                _ => 8 * (usize::from(*self.packet.get(at + 1)?) + 1),
            };
            next = *self.packet.get(at)?;
            at += length;
        }
        Some((next, at))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?).into())
}

/// The live entries of a flow table, by index.
struct Table<A>(BTreeMap<u32, Held<A>>);

/// All of an entry but the time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held<A> {
    word: Word,
    key: FlowKey<A>,
    rewrite: Rewrite<A>,
    partner: u32,
    acknowledged: u32,
}

impl<A: Address> Table<A> {
    fn of(memory: &impl FlowMemory<A>) -> Self {
        let indices = 0..=memory.mask();
        let live = indices.filter_map(|index| flow_table::at(memory, index));
        let held = live.map(|Found { entry, word, index }| {
            let held = Held {
                word,
                key: entry.key(word.protocol()),
                rewrite: *entry.rewrite(),
                partner: entry.partner(),
                acknowledged: entry.acknowledged(),
            };
            (index, held)
        });
        Self(held.collect())
    }

    /// A packet changes no established flow but its own.
    fn others_are_as_they_were(&self, after: &Self, packet: Option<FlowKey<A>>) {
        for (index, held) in &self.0 {
            let other = self.0.get(&held.partner);
            let own = packet.is_some_and(|key| held.key == key || other.is_some_and(|other| other.key == key));
            if held.word.is(State::Established) && !own {
                assert_eq!(after.0.get(index), Some(held), "the flow of another packet");
            }
        }
    }

    /// Both directions of a flow are there, or none, and nothing is left half done. How many active flows each backend
    /// has.
    fn check(&self, memory: &impl FlowMemory<A>) -> BTreeMap<BackendId, i64> {
        let mut active = BTreeMap::new();
        for index in 0..=memory.mask() {
            let word = memory.entry(index).expect("an entry for every index").word();
            assert!(!word.is(State::Claimed), "an entry stayed claimed");
        }
        for (index, held) in &self.0 {
            let partner = self.0.get(&held.partner).expect("a live partner");
            assert_eq!(partner.partner, *index, "partners name each other");
            let both = partner.word.has(TO_CLIENT) != held.word.has(TO_CLIENT);
            assert_eq!(both, held.word.mode() == Mode::Nat, "two directions with NAT, else one");
            *active.entry(held.word.backend()).or_default() += i64::from(held.word.is_active());
        }
        active.retain(|_, flows| *flows != 0);
        active
    }
}

/// Of TCP or UDP; errors and later fragments have none of their own, and change nothing.
fn key_of<A: Address>(loops: &impl Loop, frame: &[u8]) -> Option<FlowKey<A>> {
    let mut copy = frame.to_vec();
    let frame = Bytes(&mut copy);
    let (ether_type, l3) = ether(&frame).ok()?;
    let family = if ether_type == ETHER_TYPE_IPV4 {
        Be32::ICMP
    } else {
        Ip::ICMP
    };
    if !matches!(ether_type, ETHER_TYPE_IPV4 | ETHER_TYPE_IPV6) || family != A::ICMP {
        return None;
    }
    let envelope = A::envelope(&frame, loops, l3).ok()?;
    let parsed = transport(&frame, &envelope).ok()?;
    (envelope.fragment.offset == 0).then_some(parsed.key)
}
