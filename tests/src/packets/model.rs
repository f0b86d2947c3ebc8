//! The data path on the host: `lb_common::decide` over ordinary collections instead of maps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lb_common::abi::{Backend, BackendId, Listen, Route, Service, ServiceId, Traffic, slot_of};
use lb_common::decide::{Tables, Verdict, decide};
use lb_common::flow_table::{Entry, FlowEntry, FlowMemory};
use lb_common::parse::{Field, Frame};
use lb_common::verdict::Reason;
use lb_common::wire::Be32;
use lb_userspace::core::kernel::KernelState;

pub struct Model {
    pub(super) state: KernelState,
    flows: Box<[Cell<FlowEntry>]>,
    pub now: Cell<u32>,
    pub traffic: RefCell<BTreeMap<BackendId, Traffic>>,
    pub verdicts: RefCell<BTreeMap<Reason, u64>>,
}

impl Model {
    /// `entries` is a power of two.
    pub fn new(state: KernelState, entries: usize) -> Self {
        Self {
            state,
            flows: (0..entries).map(|_| Cell::default()).collect(),
            now: Cell::new(1),
            traffic: RefCell::default(),
            verdicts: RefCell::default(),
        }
    }

    pub fn run(&self, frame: &mut Vec<u8>, ingress: u32) -> Verdict {
        let verdict = decide(&mut Bytes(frame), self, ingress);
        if let Verdict::Stop(reason) = verdict {
            *self.verdicts.borrow_mut().entry(reason).or_default() += 1;
        }
        verdict
    }
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl Frame for Bytes<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn read<T: Field>(&self, at: usize) -> Option<T> {
        let bytes = self.0.get(at..at + size_of::<T>())?;
        // SAFETY: as many bytes as T has, and any bytes are a `Field`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn write<T: Field>(&mut self, at: usize, value: T) -> Option<()> {
        let bytes = self.0.get_mut(at..at + size_of::<T>())?;
        // SAFETY: as above.
        unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(value) };
        Some(())
    }
}

impl FlowMemory for Model {
    fn mask(&self) -> u32 {
        self.flows.len() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        // SAFETY: an element of a table that outlives the decision.
        self.flows
            .get(index as usize)
            .map(|entry| unsafe { Entry::new(entry.as_ptr()) })
    }
}

impl Tables for Model {
    fn listen(&self, listen: &Listen) -> Option<Service> {
        self.state.listens.get(listen).copied()
    }

    fn slot(&self, service: ServiceId, hash: u64) -> Option<BackendId> {
        let slots = self.state.slots.get(&service)?;
        slots.get(slot_of(hash, slots.len() as u64) as usize).copied()
    }

    fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.state.backends.get(&id)
    }

    fn route(&self, address: Be32) -> Option<Route> {
        let address = Ipv4Addr::from(address).to_bits();
        let holds = |prefix: Ipv4Addr, length: u8| {
            (address ^ prefix.to_bits())
                .checked_shr(32 - u32::from(length))
                .is_none_or(|rest| rest == 0)
        };
        let matching = self
            .state
            .routes
            .iter()
            .filter(|(prefix, _)| holds(prefix.address, prefix.length));
        matching
            .max_by_key(|(prefix, _)| prefix.length)
            .map(|(_, route)| *route)
    }

    fn now(&self) -> u32 {
        self.now.get()
    }

    fn count_new_flow(&self, backend: BackendId) {
        self.traffic.borrow_mut().entry(backend).or_default().new_flows += 1;
    }

    fn count_packet(&self, backend: BackendId, to_client: bool, bytes: u64) {
        let mut traffic = self.traffic.borrow_mut();
        traffic.entry(backend).or_default().count(to_client, bytes);
    }
}
