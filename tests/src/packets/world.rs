//! Who is there in the packet table: clients, services, backends, and the ways between them, as the maps hold them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{Algorithm, Backend, BackendId, Listen, MAX_SNAT, Mode, NextHop, Route, Service, TCP, UDP};
use lb_common::lease::LeaseId;
use lb_common::wire::{Be16, Ether, Ip};
use lb_userspace::core::kernel::KernelState;
use lb_userspace::core::network::Prefix;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn address(self, [a, b, c, d]: [u8; 4]) -> IpAddr {
        match self {
            Self::Ipv4 => [a, b, c, d].into(),
            // The same digits, read as hexadecimal ones.
            Self::Ipv6 => format!("2001:db8:{b}:{c}::{d}").parse().expect("an address"),
        }
    }

    /// Of `address:port` in IPv4; anything of IPv6 is taken as it is.
    pub fn endpoint(self, text: &str) -> SocketAddr {
        match text.parse().expect("address:port") {
            SocketAddr::V4(v4) => SocketAddr::new(self.address(v4.ip().octets()), v4.port()),
            six => six,
        }
    }
}

pub const CLIENT: &str = "198.18.0.2:2000";
/// Beyond a gateway.
pub const FAR_CLIENT: &str = "198.19.7.7:2000";
/// Its port is not one we may use towards backends.
pub const EPHEMERAL_CLIENT: &str = "198.18.0.2:40000";
pub const VIP: &str = "198.18.0.100";
/// Our address towards the backends.
pub const SNAT: &str = "198.18.1.1";
/// Where backends serve. Those of other modes than NAT are asked at the listen's own port.
pub const BACKEND_PORT: u16 = 8080;

pub const OUR_CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub const OUR_BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 11];

/// Where test frames come in.
pub const CLIENT_SIDE: u32 = 1;
pub const BACKEND_SIDE: u32 = 2;
/// Of the way to each backend.
pub const MTU: u32 = 1500;

/// A service in each mode, for TCP and UDP, of either family.
pub struct Kind {
    /// Of NAT; the other modes have the same hundreds further.
    pub port: u16,
    algorithm: Algorithm,
    pub lease: LeaseId,
    /// Backends by the last number of their address, as the slots name them.
    slots: &'static [u8],
}

/// The usual one.
pub const WEB: Kind = Kind::of(80, Algorithm::Maglev, &[11; 7]);
pub const EMPTY: Kind = Kind::of(81, Algorithm::Maglev, &[]);
/// Its backend has no neighbour yet.
pub const COLD: Kind = Kind::of(82, Algorithm::Maglev, &[12]);
pub const MAGLEV: Kind = Kind::of(83, Algorithm::Maglev, &[21, 22, 22, 21, 22, 21, 21]);
pub const ROUND_ROBIN: Kind = Kind::of(84, Algorithm::RoundRobin, &[23, 24, 24]);
pub const LEAST_CONNECTIONS: Kind = Kind::of(85, Algorithm::LeastConnections, &[25, 26, 26]);
pub const SOURCE: Kind = Kind::of(86, Algorithm::Source, &[27, 28, 28, 27, 28, 27, 27]);
/// Its backend is reached from several addresses.
pub const POOL: Kind = Kind::of(87, Algorithm::Maglev, &[31]);
/// A peer may have its address.
pub const SHARED: Kind = Kind::of(88, Algorithm::Maglev, &[SHARED_BACKEND]).leased(5);
pub const KINDS: [&Kind; 9] = [
    &WEB,
    &EMPTY,
    &COLD,
    &MAGLEV,
    &ROUND_ROBIN,
    &LEAST_CONNECTIONS,
    &SOURCE,
    &POOL,
    &SHARED,
];

/// Backend of `WEB`.
pub const BACKEND: u8 = 11;
const COLD_BACKEND: u8 = 12;
/// Also one of `WEB`, in no slot at first.
pub const SECOND_BACKEND: u8 = 13;
/// What there is beside those that slots name.
const IN_NO_SLOT: [(&Kind, u8); 1] = [(&WEB, SECOND_BACKEND)];
/// Their weight; the others have 1.
const TWICE_AS_STRONG: [u8; 1] = [26];
pub const SHARED_BACKEND: u8 = 32;
pub const POOL_BACKEND: u8 = 31;
/// The addresses from `SNAT` on.
pub const POOL_SIZE: u8 = 3;

impl Kind {
    const fn of(port: u16, algorithm: Algorithm, slots: &'static [u8]) -> Self {
        Self {
            port,
            algorithm,
            lease: 0,
            slots,
        }
    }

    const fn leased(self, lease: LeaseId) -> Self {
        Self { lease, ..self }
    }

    pub const fn port(&self, mode: Mode) -> u16 {
        self.port + mode as u16 * 100
    }

    const fn id(&self, family: Family, mode: Mode) -> u16 {
        self.port(mode) + family as u16 * 1000
    }
}

/// Of the backend that has this number in its address.
pub const fn id(family: Family, mode: Mode, host: u8) -> BackendId {
    host as u16 + mode as u16 * 100 + family as u16 * 1000
}

pub const fn mode_of(backend: BackendId) -> Mode {
    Mode::of((backend % 1000 / 100) as u8)
}

pub fn backend_address(host: u8) -> [u8; 4] {
    [198, 18, 1, host]
}

/// Clients are on the link, or behind a gateway; nobody knows the way to 198.19.99.0/24.
pub fn state() -> KernelState {
    let mut state = KernelState::default();
    for family in [Family::Ipv4, Family::Ipv6] {
        state.routes.extend(routes(family));
        state.shared.insert(family.address([198, 18, 0, 100]), SHARED.lease);
        for mode in [Mode::Nat, Mode::DsrL2, Mode::DsrIpip] {
            for kind in KINDS {
                serve(&mut state, family, mode, kind);
            }
            for (kind, host) in IN_NO_SLOT {
                add(&mut state, family, mode, kind, host);
            }
        }
    }
    state
}

fn serve(state: &mut KernelState, family: Family, mode: Mode, kind: &Kind) {
    let service = kind.id(family, mode);
    for protocol in [TCP, UDP] {
        let listen = Listen {
            address: family.address([198, 18, 0, 100]).into(),
            port: Be16::new(kind.port(mode)),
            protocol,
            unused: 0,
        };
        let value = Service {
            id: service,
            mode: mode as u8,
            algorithm: kind.algorithm as u8,
            lease: kind.lease,
            unused: [0; 3],
            fingerprint: u64::from(service),
        };
        state.listens.insert(listen, value);
    }
    let slots = kind.slots.iter().map(|host| id(family, mode, *host));
    state.slots.insert(service, slots.collect());
    for host in kind.slots {
        add(state, family, mode, kind, *host);
    }
}

fn add(state: &mut KernelState, family: Family, mode: Mode, kind: &Kind, host: u8) {
    let known = host != COLD_BACKEND;
    let id = id(family, mode, host);
    let mut snat = [Ip::UNSPECIFIED; MAX_SNAT];
    let pool = if host == POOL_BACKEND { POOL_SIZE } else { 1 };
    for (number, address) in (1..=pool).zip(&mut snat) {
        *address = family.address([198, 18, 1, number]).into();
    }
    let towards_backends = hop(BACKEND_MAC, OUR_BACKEND_MAC, BACKEND_SIDE);
    let backend = Backend {
        address: family.address(backend_address(host)).into(),
        snat,
        snat_count: pool.into(),
        port: Be16::new(BACKEND_PORT),
        service: kind.id(family, mode),
        weight: if TWICE_AS_STRONG.contains(&host) { 2 } else { 1 },
        next_hop: if known { towards_backends } else { NextHop::default() },
        mtu: MTU,
        unused: 0,
        fingerprint: u64::from(id),
    };
    state.backends.insert(id, backend);
}

fn hop(to: [u8; 6], from: [u8; 6], ifindex: u32) -> NextHop {
    NextHop {
        ether: Ether::new(to, from),
        ifindex,
    }
}

fn routes(family: Family) -> BTreeMap<Prefix, Route> {
    let (block, all) = match family {
        Family::Ipv4 => (24, [0, 0, 0, 0].into()),
        Family::Ipv6 => (64, [0; 16].into()),
    };
    let network = |address| Prefix::around(family.address(address), block);
    let on_link = |next_hop| Route { next_hop, on_link: 1 };
    let by = |next_hop| Route { next_hop, on_link: 0 };
    let client_link = hop([0; 6], OUR_CLIENT_MAC, CLIENT_SIDE);
    let backend_link = hop([0; 6], OUR_BACKEND_MAC, BACKEND_SIDE);
    let gateway = hop(GATEWAY_MAC, OUR_CLIENT_MAC, CLIENT_SIDE);
    BTreeMap::from([
        (network([198, 18, 0, 0]), on_link(client_link)),
        (network([198, 18, 1, 0]), on_link(backend_link)),
        (network([198, 19, 99, 0]), by(NextHop::default())),
        (Prefix::around(all, 0), by(gateway)),
    ])
}
