//! The map layout: names, key and value types and sizes shared by the XDP program, the daemon and bpftool.
//!
//! No decision lives here. A change of any type that a pinned map holds raises `LAYOUT_VERSION`, so that a
//! newer daemon never misreads an older map.

use crate::lease::LeaseId;
use crate::wire::{Be16, Ether, Ip};

/// Pins live in a folder of this number below the pin directory.
pub const LAYOUT_VERSION: u32 = 3;

/// A backend of a service; 0 is never given out, so a zeroed entry names nobody.
pub type BackendId = u16;
/// A service; 0 is never given out.
pub type ServiceId = u16;

pub const MAX_SERVICES: u32 = 4096;
pub const MAX_LISTENS: u32 = 16_384;
pub const MAX_BACKENDS: u32 = 32_768;
pub const MAX_ROUTES: u32 = 65_536;
/// Addresses that hang on a lease.
pub const MAX_SHARED_ADDRESSES: u32 = 16_384;

/// Key of `SERVICES`: where clients connect to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    pub address: Ip,
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    pub unused: u8,
}

/// Value of `SERVICES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    pub id: ServiceId,
    /// A `Mode`.
    pub mode: u8,
    /// An `Algorithm`.
    pub algorithm: u8,
    /// That of the listen's address.
    pub lease: LeaseId,
    pub unused: [u8; 3],
    /// Tells a restarted daemon which configured service this is.
    pub fingerprint: u64,
}

/// How packets get to a backend.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both addresses and ports are rewritten, and replies come back through us.
    #[default]
    Nat = 0,
    /// Only the frame's addresses are: the backend has the listen's address, and answers the client itself.
    DsrL2 = 1,
    /// The packet travels in another one to the backend, which answers the client itself.
    DsrIpip = 2,
}

impl Mode {
    #[inline(always)]
    pub const fn of(byte: u8) -> Self {
        match byte {
            1 => Self::DsrL2,
            2 => Self::DsrIpip,
            _ => Self::Nat,
        }
    }
}

/// How a new flow finds its backend.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The slot that the hash of the flow falls on.
    #[default]
    Maglev = 0,
    /// One slot after the other.
    RoundRobin = 1,
    /// Of the backends in the slots, that with the fewest active flows for its weight.
    LeastConnections = 2,
    /// The slot that the hash of the client's address falls on.
    Source = 3,
}

impl Algorithm {
    #[inline(always)]
    pub const fn of(byte: u8) -> Self {
        match byte {
            1 => Self::RoundRobin,
            2 => Self::LeastConnections,
            3 => Self::Source,
            _ => Self::Maglev,
        }
    }
}

/// Value of `BACKENDS`, indexed by `BackendId`: read when a flow begins, never after.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    pub address: Ip,
    /// The addresses our packets to this backend come from, so that replies come back through us.
    pub snat: [Ip; MAX_SNAT],
    /// How many of `snat` there are.
    pub snat_count: u16,
    pub port: Be16,
    pub service: ServiceId,
    /// At this moment; for those who compare counts of flows.
    pub weight: u16,
    pub next_hop: NextHop,
    /// Of the interface that `next_hop` leaves by.
    pub mtu: u32,
    pub unused: u32,
    /// Tells a restarted daemon which configured backend this is; 0 is an empty place.
    pub fingerprint: u64,
}

/// Source addresses towards one backend.
pub const MAX_SNAT: usize = 8;

impl Backend {
    /// An empty place.
    pub const NOBODY: Self = Self {
        address: Ip::UNSPECIFIED,
        snat: [Ip::UNSPECIFIED; MAX_SNAT],
        snat_count: 0,
        port: Be16 { be: 0 },
        service: 0,
        weight: 0,
        next_hop: NextHop {
            ether: Ether { words: [0; 3] },
            ifindex: 0,
        },
        mtu: 0,
        unused: 0,
        fingerprint: 0,
    };
}

/// Where a frame leaves: its new Ethernet addresses and the interface; interface 0 means not known (yet).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    pub ether: Ether,
    pub ifindex: u32,
}

impl NextHop {
    pub const fn is_known(&self) -> bool {
        self.ifindex != 0
    }
}

/// Value of `ROUTES`, a longest-prefix trie over `Ip`: how replies find the client.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// For an on-link prefix the destination address is zero: it is the client's own.
    pub next_hop: NextHop,
    /// 1: the prefix is on the link itself; 0: `next_hop` is a gateway or one known neighbour.
    pub on_link: u32,
}

/// Value of `TRAFFIC`, one for each CPU and `BackendId`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub new_flows: u64,
    pub packets_to_backend: u64,
    pub bytes_to_backend: u64,
    pub packets_to_client: u64,
    pub bytes_to_client: u64,
    /// New flows that found no free source port towards it.
    pub ports_exhausted: u64,
}

/// Key of `FRAGMENTS`: what the fragments of one packet have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    pub source: Ip,
    pub destination: Ip,
    pub identification: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// Value of `FRAGMENTS`: what only the first fragment says.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub source: Be16,
    pub destination: Be16,
}

/// How many fragmented packets are remembered at once.
pub const MAX_FRAGMENTED: u32 = 16_384;

/// BPF_F_MMAPABLE: page-aligned, so that an entry is one cache line, and the daemon shares it without a system call.
pub const FLOW_FLAGS: u32 = 1 << 10;
/// BPF_F_MMAPABLE, so that the daemon fills a table at once, and BPF_F_INNER_MAP, since they come in several sizes.
pub const SLOT_FLAGS: u32 = 1 << 10 | 1 << 12;

impl Traffic {
    #[inline(always)]
    pub const fn count(&mut self, to_client: bool, bytes: u64) {
        if to_client {
            self.packets_to_client += 1;
            self.bytes_to_client += bytes;
        } else {
            self.packets_to_backend += 1;
            self.bytes_to_backend += bytes;
        }
    }
}

/// Slot tables are arrays of u64, the stride that arrays have anyway. The first cell of an inner map of `SLOTS` holds how
/// many slots there are; each cell behind it four of them.
pub const SLOT_COUNT_CELL: u32 = 0;
pub const SLOTS_PER_CELL: usize = 4;

/// The cell that a slot lies in.
#[inline(always)]
pub const fn slot_cell(number: u64) -> u32 {
    SLOT_COUNT_CELL + 1 + (number / SLOTS_PER_CELL as u64) as u32
}

/// A slot, from its cell.
#[inline(always)]
pub const fn slot_in(cell: u64, number: u64) -> BackendId {
    (cell >> ((number % SLOTS_PER_CELL as u64) * 16)) as BackendId
}

/// The largest slot table.
pub const MAX_SLOTS: u64 = 65_521;
/// Its cells.
pub const MAX_SLOT_CELLS: u32 = slot_cell(MAX_SLOTS - 1) + 1;

/// The slot, of `count`, that a new flow of this hash falls on. By bits that do not choose the first place in the flow
/// table.
#[inline(always)]
pub const fn slot_of(hash: u64, count: u64) -> u64 {
    ((hash >> 32) * count) >> 32
}

/// One for each `ports::endpoint`.
pub const MAX_PORT_TURNS: u32 = 1 << 16;

/// The ring of `signs::Signal`: a page, a few hundred of them.
pub const SIGNS_BYTES: u32 = 4096;

/// Source ports towards backends, inclusive. The gap is the kernel's own ephemeral range.
pub const SNAT_PORTS_LOW: (u16, u16) = (1024, 32_767);
pub const SNAT_PORTS_HIGH: (u16, u16) = (61_000, 65_535);

/// Flow tables have a power of two of entries, two of them for each flow and twice the room that needs.
pub const ENTRIES_PER_FLOW: u32 = 4;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

const _: () = {
    assert!(size_of::<Listen>() == 20);
    assert!(size_of::<Service>() == 16);
    assert!(size_of::<NextHop>() == 16);
    assert!(size_of::<Backend>() == 184);
    assert!(size_of::<Route>() == 20);
    assert!(size_of::<Traffic>() == 48);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Backend, Listen, Route, Service, Traffic};

    // SAFETY: repr(C), made of integers only, no padding (sizes are asserted above).
    unsafe impl aya::Pod for Listen {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Service {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Backend {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Route {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Traffic {}
    // SAFETY: four u32.
    unsafe impl aya::Pod for crate::wire::Ip {}
}
