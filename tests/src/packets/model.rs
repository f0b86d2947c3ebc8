//! The data path on the host: `lb_common::decide` over ordinary collections instead of maps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use lb_common::abi::{Backend, BackendId, FragmentKey, Listen, Ports, Route, Service, ServiceId, Traffic};
use lb_common::decide::{Tables, Verdict, decide, first};
use lb_common::flow_table::{Entry, FlowEntry, FlowMemory, Loop, TICK_SHIFT};
use lb_common::frame::Frame;
use lb_common::lease::{FOR_GOOD, LeaseId, MAX_LEASES};
use lb_common::open::{Opening, Scratch};
use lb_common::port_rest::{ENTRIES_PER_LINE, Notes};
use lb_common::signs::Signal;
use lb_common::verdict::Reason;
use lb_common::wire::{Be32, Ip};
use lb_userspace::core::kernel::KernelState;

#[derive(Clone)]
pub struct Model {
    pub(super) state: KernelState,
    ipv4: Box<[Cell<FlowEntry<Be32>>]>,
    ipv6: Box<[Cell<FlowEntry<Ip>>]>,
    openings: (Cell<Opening<Be32>>, Cell<Opening<Ip>>),
    pub(super) exhausted: Box<[Cell<u32>]>,
    pub(super) signed: Box<[Cell<u32>]>,
    pub(super) signs: RefCell<Vec<Signal>>,
    pub(super) leases: [Cell<u64>; MAX_LEASES as usize],
    active: RefCell<BTreeMap<BackendId, i64>>,
    turns: RefCell<BTreeMap<ServiceId, u64>>,
    pub(super) port_turns: RefCell<BTreeMap<u16, u64>>,
    pub(super) port_notes: Box<[Cell<Notes>]>,
    fragments: RefCell<BTreeMap<FragmentKey, Ports>>,
    /// Not set: later stages are not loaded.
    pub stages: Cell<bool>,
    pub now: Cell<u32>,
    /// Backend and direction, true towards the client, of the last packet that was sent on.
    pub last_sent: Cell<Option<(BackendId, bool)>>,
    pub traffic: RefCell<BTreeMap<BackendId, Traffic>>,
    pub verdicts: RefCell<BTreeMap<Reason, u64>>,
}

impl Model {
    /// `entries` of each family, a power of two.
    pub fn new(state: KernelState, entries: usize) -> Self {
        Self {
            state,
            ipv4: (0..entries).map(|_| Cell::default()).collect(),
            ipv6: (0..entries).map(|_| Cell::default()).collect(),
            openings: Default::default(),
            exhausted: (0..=BackendId::MAX).map(|_| Cell::default()).collect(),
            signed: (0..=BackendId::MAX).map(|_| Cell::default()).collect(),
            signs: RefCell::default(),
            leases: std::array::from_fn(|_| Cell::new(FOR_GOOD)),
            active: RefCell::default(),
            turns: RefCell::default(),
            port_turns: RefCell::default(),
            port_notes: (0..entries / ENTRIES_PER_LINE as usize)
                .map(|_| Cell::default())
                .collect(),
            fragments: RefCell::default(),
            stages: Cell::new(true),
            now: Cell::new(1),
            last_sent: Cell::default(),
            traffic: RefCell::default(),
            verdicts: RefCell::default(),
        }
    }

    pub fn run(&self, frame: &mut Vec<u8>, ingress: u32) -> Verdict {
        let mut frame = Bytes(frame);
        let verdict = if self.stages.get() {
            decide(&mut frame, self, ingress)
        } else {
            match first(&mut frame, self) {
                Verdict::Next(_) => Verdict::Stop(Reason::StageMissing),
                verdict => verdict,
            }
        };
        if let Verdict::Stop(reason) | Verdict::Answer(reason) = verdict {
            *self.verdicts.borrow_mut().entry(reason).or_default() += 1;
        }
        verdict
    }

    /// As it was made: nothing of what packets did is left.
    pub(super) fn forget(&self) {
        self.ipv4.iter().for_each(|entry| entry.set(FlowEntry::default()));
        self.ipv6.iter().for_each(|entry| entry.set(FlowEntry::default()));
        self.exhausted.iter().for_each(|tick| tick.set(0));
        self.signed.iter().for_each(|tick| tick.set(0));
        self.signs.take();
        self.leases.iter().for_each(|lease| lease.set(FOR_GOOD));
        self.active.take();
        self.turns.take();
        self.port_turns.take();
        self.port_notes.iter().for_each(|line| line.set(Notes::default()));
        self.fragments.take();
        self.now.set(1);
        self.last_sent.take();
        self.traffic.take();
        self.verdicts.take();
    }

    /// How many active flows each backend has that has any.
    pub(super) fn active(&self) -> BTreeMap<BackendId, i64> {
        let active = self.active.borrow();
        active
            .iter()
            .filter(|(_, flows)| **flows != 0)
            .map(|(id, flows)| (*id, *flows))
            .collect()
    }

    /// What the daemon would have been told, in order.
    pub fn signs(&self) -> Vec<Signal> {
        self.signs.borrow().clone()
    }

    pub fn new_flows(&self) -> u64 {
        self.traffic.borrow().values().map(|traffic| traffic.new_flows).sum()
    }
}

pub(super) struct Bytes<'a>(pub &'a mut Vec<u8>);

impl Frame for Bytes<'_> {
    fn holds(&self, bytes: usize) -> bool {
        bytes <= self.0.len()
    }

    fn bytes(&self, at: usize, length: usize) -> Option<*mut u8> {
        let bytes = self.0.get(at..at + length)?;
        Some(bytes.as_ptr().cast_mut())
    }

    fn truncate(&mut self, length: usize) -> Option<()> {
        self.0.resize(length, 0);
        Some(())
    }

    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        self.0.splice(0..0, std::iter::repeat_n(0, bytes));
        Some(())
    }
}

impl Loop for Model {}

impl Scratch<Be32> for Model {
    fn opening(&self) -> Option<&mut Opening<Be32>> {
        // SAFETY: one decision at a time, which asks for it once in each stage.
        Some(unsafe { &mut *self.openings.0.as_ptr() })
    }
}

impl Scratch<Ip> for Model {
    fn opening(&self) -> Option<&mut Opening<Ip>> {
        // SAFETY: as above.
        Some(unsafe { &mut *self.openings.1.as_ptr() })
    }
}

impl FlowMemory<Be32> for Model {
    fn mask(&self) -> u32 {
        self.ipv4.len() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry<Be32>> {
        // SAFETY: an element of a table that outlives the decision.
        let entry = |cell: &Cell<_>| unsafe { Entry::new(cell.as_ptr()) };
        self.ipv4.get(index as usize).map(entry)
    }

    fn count_active(&self, backend: BackendId, change: i64) {
        *self.active.borrow_mut().entry(backend).or_default() += change;
    }
}

impl FlowMemory<Ip> for Model {
    fn mask(&self) -> u32 {
        self.ipv6.len() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry<Ip>> {
        // SAFETY: as above.
        let entry = |cell: &Cell<_>| unsafe { Entry::new(cell.as_ptr()) };
        self.ipv6.get(index as usize).map(entry)
    }

    fn count_active(&self, backend: BackendId, change: i64) {
        *self.active.borrow_mut().entry(backend).or_default() += change;
    }
}

fn bits(address: &Ip) -> u128 {
    let words = address.words.map(|word| u128::from(u32::from_be(word)));
    words.into_iter().fold(0, |bits, word| bits << 32 | word)
}

fn count_up<K: Ord>(turns: &RefCell<BTreeMap<K, u64>>, of: K) -> u64 {
    let mut turns = turns.borrow_mut();
    let turn = turns.entry(of).or_default();
    *turn = turn.wrapping_add(1);
    *turn
}

impl Tables for Model {
    fn listen(&self, listen: &Listen) -> Option<Service> {
        self.state.listens.get(listen).copied()
    }

    fn slot_count(&self, service: ServiceId) -> Option<u64> {
        self.state.slots.get(&service).map(|slots| slots.len() as u64)
    }

    fn slot(&self, service: ServiceId, number: u64) -> Option<BackendId> {
        self.state.slots.get(&service)?.get(number as usize).copied()
    }

    fn turn(&self, service: ServiceId) -> u64 {
        count_up(&self.turns, service)
    }

    fn port_turn(&self, endpoint: u16) -> u64 {
        count_up(&self.port_turns, endpoint)
    }

    fn port_notes(&self, line: u32) -> Option<&mut Notes> {
        // SAFETY: one decision at a time, which asks for it once in each stage.
        self.port_notes
            .get(line as usize)
            .map(|notes| unsafe { &mut *notes.as_ptr() })
    }

    fn active_flows(&self, id: BackendId) -> u64 {
        let active = self.active.borrow();
        active.get(&id).copied().unwrap_or_default().cast_unsigned()
    }

    fn signed_at(&self, id: BackendId) -> u32 {
        self.signed[usize::from(id)].get()
    }

    fn signal(&self, signal: Signal, now: u32) {
        self.signed[usize::from(signal.backend())].set(now);
        self.signs.borrow_mut().push(signal);
    }

    fn exhausted_at(&self, id: BackendId) -> u32 {
        self.exhausted[usize::from(id)].get()
    }

    fn note_exhausted(&self, id: BackendId, now: u32) {
        self.exhausted[usize::from(id)].set(now);
    }

    fn remember(&self, key: &FragmentKey, ports: &Ports) {
        self.fragments.borrow_mut().insert(*key, *ports);
    }

    fn recall(&self, key: &FragmentKey) -> Option<Ports> {
        self.fragments.borrow().get(key).copied()
    }

    fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.state.backends.get(&id)
    }

    /// As the kernel's trie does, which knows nothing of families.
    fn route(&self, address: &Ip) -> Option<Route> {
        let routes = self.state.routes.iter().map(|(prefix, route)| (prefix.key(), route));
        let holds = |prefix: &Ip, length: u32| {
            (bits(address) ^ bits(prefix))
                .checked_shr(128 - length)
                .is_none_or(|rest| rest == 0)
        };
        let matching = routes.filter(|((prefix, length), _)| holds(prefix, *length));
        matching.max_by_key(|((_, length), _)| *length).map(|(_, route)| *route)
    }

    fn shared_address(&self, address: &Ip) -> Option<LeaseId> {
        self.state.shared.get(&(*address).into()).copied()
    }

    fn lease(&self, id: LeaseId) -> u64 {
        self.leases[usize::from(id)].get()
    }

    fn clock(&self) -> u64 {
        u64::from(self.now.get()) << TICK_SHIFT
    }

    fn now(&self) -> u32 {
        self.now.get()
    }

    fn count_new_flow(&self, backend: BackendId) {
        self.traffic.borrow_mut().entry(backend).or_default().new_flows += 1;
    }

    fn count_ports_exhausted(&self, backend: BackendId) {
        self.traffic.borrow_mut().entry(backend).or_default().ports_exhausted += 1;
    }

    fn count_packet(&self, backend: BackendId, to_client: bool, bytes: u64) {
        self.last_sent.set(Some((backend, to_client)));
        let mut traffic = self.traffic.borrow_mut();
        traffic.entry(backend).or_default().count(to_client, bytes);
    }
}
