//! What `decide` asks for, from the world: a frame, and tables as one CPU has them.

use std::cell::UnsafeCell;
use std::ptr::without_provenance_mut;
use std::vec;
use std::vec::Vec;

use super::{ENTRY, Key, LISTEN, TRIES, World, next_hop};
use crate::abi::{Backend, BackendId, FragmentKey, Listen, Ports, Route, SNAT_PORTS_LOW, Service, ServiceId};
use crate::decide::Tables;
use crate::flow_table::schedules::machine::{BASE, shared};
use crate::flow_table::{Entry, FlowKey, FlowMemory, Loop, PROBES, TICK_SHIFT};
use crate::frame::Frame;
use crate::lease::{FOR_GOOD, LeaseId};
use crate::open::{Opening, Scratch};
use crate::port_rest::Notes;
use crate::signs::Signal;
use crate::wire::{Be32, Ip};

/// The shortest frame that `decide` takes.
#[derive(Clone)]
pub struct Bytes(pub(super) Vec<u8>);

impl Bytes {
    pub fn new(key: &Key, flags: u8, sequence: u32) -> Self {
        let mut frame = Self(vec![0; 54]);
        let addresses = [key.source.be, key.destination.be].map(u32::to_ne_bytes).concat();
        let ports = [key.source_port.be, key.destination_port.be]
            .map(u16::to_ne_bytes)
            .concat();
        frame.0[12..17].copy_from_slice(&[8, 0, 0x45, 0, 0]);
        (frame.0[17], frame.0[22], frame.0[23]) = (40, 64, key.protocol);
        frame.0[26..34].copy_from_slice(&addresses);
        frame.0[34..38].copy_from_slice(&ports);
        frame.0[38..42].copy_from_slice(&sequence.to_be_bytes());
        (frame.0[45], frame.0[47]) = (1, flags);
        frame
    }

    /// From where to where it goes.
    pub fn key(&self) -> Key {
        let get = |at| self.read(at).expect("within the frame");
        let port = |at| self.read(at).expect("within the frame");
        FlowKey {
            source: get(26),
            destination: get(30),
            source_port: port(34),
            destination_port: port(36),
            protocol: self.0[23],
        }
    }
}

impl Frame for Bytes {
    fn holds(&self, bytes: usize) -> bool {
        bytes <= self.0.len()
    }

    fn bytes(&self, at: usize, length: usize) -> Option<*mut u8> {
        Some(self.0.get(at..at + length)?.as_ptr().cast_mut())
    }

    fn truncate(&mut self, length: usize) -> Option<()> {
        self.0.resize(length, 0);
        Some(())
    }

    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        self.0.splice(0..0, vec![0; bytes]);
        Some(())
    }
}

/// The world as one CPU has it.
pub struct Here<'a> {
    world: &'a World,
    scratch: UnsafeCell<Opening<Be32>>,
    /// The port of ours that a new flow wants.
    port: u16,
}

impl<'a> Here<'a> {
    pub fn of(world: &'a World) -> Self {
        Self {
            world,
            scratch: UnsafeCell::default(),
            port: SNAT_PORTS_LOW.0,
        }
    }

    pub fn wanting(self, port: u16) -> Self {
        Self { port, ..self }
    }
}

impl Loop for Here<'_> {
    /// Windows end where they have come round a small table. A search for a port is the only longer one.
    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> bool) {
        let most = if times > PROBES {
            TRIES
        } else {
            self.world.entries() as u32
        };
        let times = times.min(most);
        let _ = (0..times).all(&mut step);
    }
}

impl Scratch<Be32> for Here<'_> {
    fn opening(&self) -> Option<&mut Opening<Be32>> {
        // SAFETY: one decision at a time, which asks for it once in each stage.
        Some(unsafe { &mut *self.scratch.get() })
    }
}

impl Scratch<Ip> for Here<'_> {
    fn opening(&self) -> Option<&mut Opening<Ip>> {
        None
    }
}

impl FlowMemory<Be32> for Here<'_> {
    fn mask(&self) -> u32 {
        self.world.entries() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry<Be32>> {
        let at = without_provenance_mut(BASE + index as usize * ENTRY);
        // SAFETY: an entry of the memory, which only `shared` touches.
        Some(unsafe { Entry::new(at) })
    }

    fn count_active(&self, backend: BackendId, change: i64) {
        // SAFETY: a word of the memory.
        unsafe { shared::add(self.world.active(backend), change.cast_unsigned()) }
    }
}

impl FlowMemory<Ip> for Here<'_> {
    fn mask(&self) -> u32 {
        0
    }

    fn entry(&self, _: u32) -> Option<Entry<Ip>> {
        None
    }

    fn count_active(&self, _: BackendId, _: i64) {}
}

impl Tables for Here<'_> {
    fn listen(&self, listen: &Listen) -> Option<Service> {
        (listen.address == Be32::from(LISTEN).into()).then_some(Service {
            id: 1,
            mode: self.world.mode as u8,
            algorithm: 0,
            lease: 0,
            unused: [0; 3],
            fingerprint: 1,
        })
    }

    fn slot_count(&self, _: ServiceId) -> Option<u64> {
        Some(1)
    }

    fn slot(&self, _: ServiceId, _: u64) -> Option<BackendId> {
        Some(self.world.chosen)
    }

    fn turn(&self, _: ServiceId) -> u64 {
        0
    }

    fn backend(&self, id: BackendId) -> Option<&Backend> {
        // SAFETY: a word of the memory.
        let moved = unsafe { shared::load(self.world.moved()) };
        self.world.backends[moved as usize].get(usize::from(id) - 1)
    }

    fn port_turn(&self, _: u16) -> u64 {
        (self.port - SNAT_PORTS_LOW.0).into()
    }

    fn port_notes(&self, _: u32) -> Option<&mut Notes> {
        None
    }

    /// Just now.
    fn signed_at(&self, _: BackendId) -> u32 {
        self.now()
    }

    fn signal(&self, _: Signal, _: u32) {}

    fn exhausted_at(&self, _: BackendId) -> u32 {
        0
    }

    fn note_exhausted(&self, _: BackendId, _: u32) {}

    fn active_flows(&self, _: BackendId) -> u64 {
        0
    }

    fn route(&self, address: &Ip) -> Option<Route> {
        // SAFETY: as above.
        let moved = unsafe { shared::load(self.world.moved()) };
        Some(Route {
            next_hop: next_hop(address.last(), moved != 0),
            on_link: 0,
        })
    }

    fn remember(&self, _: &FragmentKey, _: &Ports) {}

    fn recall(&self, _: &FragmentKey) -> Option<Ports> {
        None
    }

    fn shared_address(&self, _: &Ip) -> Option<LeaseId> {
        None
    }

    fn lease(&self, _: LeaseId) -> u64 {
        FOR_GOOD
    }

    fn clock(&self) -> u64 {
        u64::from(self.world.now) << TICK_SHIFT
    }

    fn count_ports_exhausted(&self, _: BackendId) {}

    fn count_new_flow(&self, _: BackendId) {}

    fn count_packet(&self, _: BackendId, _: bool, _: u64) {}
}
