//! The packet table: what comes in, what must come out, and why; each case for both address families, with and without
//! VLAN tags.

/// Makes a test of each case for each shape that it is about: `packets::new_flows::a_syn::ipv6_two_tags`.
macro_rules! cases {
    ($($shapes:ident { $($case:ident,)+ })+) => {
        $($(mod $case {
            shapes!($shapes, $case);
        })+)+
    };
}

macro_rules! shapes {
    (all, $case:ident) => {
        shapes!(ipv4, $case);
        shapes!(ipv6, $case);
    };
    (ipv4, $case:ident) => {
        shape!(ipv4, $case, Ipv4, &[]);
        shape!(ipv4_one_tag, $case, Ipv4, &[(0x8100, 10)]);
        shape!(ipv4_two_tags, $case, Ipv4, &[(0x88a8, 20), (0x8100, 0x600a)]);
    };
    (ipv6, $case:ident) => {
        shape!(ipv6, $case, Ipv6, &[]);
        shape!(ipv6_one_tag, $case, Ipv6, &[(0x88a8, 10)]);
        shape!(ipv6_two_tags, $case, Ipv6, &[(0x8100, 20), (0x8100, 0x600a)]);
    };
    (untagged, $case:ident) => {
        shape!(ipv4, $case, Ipv4, &[]);
        shape!(ipv6, $case, Ipv6, &[]);
    };
}

macro_rules! shape {
    ($name:ident, $case:ident, $family:ident, $tags:expr) => {
        #[test]
        fn $name() {
            use crate::packets::net::{Family, Shape, play};
            let shape = Shape {
                family: Family::$family,
                tags: $tags,
            };
            play(
                concat!(module_path!(), "::", stringify!($name)),
                shape,
                super::$case,
            );
        }
    };
}

mod known_flows;
mod lost_backends;
mod net;
mod new_flows;
mod not_ours;
mod random;
mod slot_tables;
mod verifier;

use std::collections::BTreeMap;

use lb_common::abi::{Backend, Listen, MAX_SNAT, NextHop, Route, Service, TCP, UDP};
use lb_common::wire::{Be16, Ether, Ip};
use lb_userspace::core::kernel::KernelState;
use lb_userspace::core::network::Prefix;

use net::{Family, Net};

pub const VIP: &str = "198.18.0.100:80";
pub const CLIENT: &str = "198.18.0.2:2000";
/// Beyond a gateway.
pub const FAR_CLIENT: &str = "198.19.7.7:2000";
/// Its port is not one we may use towards backends.
pub const EPHEMERAL_CLIENT: &str = "198.18.0.2:40000";
pub const BACKEND: &str = "198.18.1.11:8080";
pub const SECOND_BACKEND: &str = "198.18.1.13:8080";
/// Our address towards the backends.
pub const SNAT: &str = "198.18.1.1";

pub const OUR_CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub const OUR_BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 11];

/// Where test frames come in.
pub const CLIENT_SIDE: u32 = 1;
pub const BACKEND_SIDE: u32 = 2;

const SERVICE: u16 = 1;
const EMPTY_SERVICE: u16 = 2;
const COLD_SERVICE: u16 = 3;
const BACKEND_ID: u16 = 1;
const COLD_BACKEND_ID: u16 = 2;
/// In no slot at first.
const SECOND_BACKEND_ID: u16 = 3;

/// The id of what stands for the one of IPv4.
const fn id(family: Family, of_ipv4: u16) -> u16 {
    match family {
        Family::Ipv4 => of_ipv4,
        Family::Ipv6 => of_ipv4 + 10,
    }
}

/// For each family: one service of one backend, for TCP and UDP, on port 80; one without backends on 81, one whose
/// backend has no neighbour yet on 82. Clients are on the link, or behind a gateway; nobody knows the way to 198.19.99.0/24.
fn state() -> KernelState {
    let mut state = KernelState::default();
    for family in [Family::Ipv4, Family::Ipv6] {
        serve(&mut state, family);
    }
    state
}

fn serve(state: &mut KernelState, family: Family) {
    let id = |of_ipv4| id(family, of_ipv4);
    let ip = |address| Ip::from(family.address(address));
    for (port, service) in [(80, SERVICE), (81, EMPTY_SERVICE), (82, COLD_SERVICE)] {
        for protocol in [TCP, UDP] {
            let listen = Listen {
                address: ip([198, 18, 0, 100]),
                port: Be16::new(port),
                protocol,
                unused: 0,
            };
            let value = Service {
                id: id(service),
                mode: 0,
                algorithm: 0,
                unused: 0,
                fingerprint: u64::from(id(service)),
            };
            state.listens.insert(listen, value);
        }
    }
    let hop = |to, from, ifindex| NextHop {
        ether: Ether::new(to, from),
        ifindex,
    };
    let towards_backends = hop(BACKEND_MAC, OUR_BACKEND_MAC, BACKEND_SIDE);
    for (backend, last, service, next_hop) in [
        (BACKEND_ID, 11, SERVICE, towards_backends),
        (COLD_BACKEND_ID, 12, COLD_SERVICE, NextHop::default()),
        (SECOND_BACKEND_ID, 13, SERVICE, towards_backends),
    ] {
        let value = Backend {
            address: ip([198, 18, 1, last]),
            snat: [ip([198, 18, 1, 1]); MAX_SNAT],
            snat_count: 1,
            port: Be16::new(8080),
            service: id(service),
            weight: 1,
            next_hop,
            mtu: 1500,
            unused: 0,
            fingerprint: u64::from(id(backend)),
        };
        state.backends.insert(id(backend), value);
    }
    state.slots.extend([
        (id(SERVICE), vec![id(BACKEND_ID); 7]),
        (id(EMPTY_SERVICE), Vec::new()),
        (id(COLD_SERVICE), vec![id(COLD_BACKEND_ID)]),
    ]);
    state.routes.extend(routes(family, &hop));
}

fn routes(family: Family, hop: &impl Fn([u8; 6], [u8; 6], u32) -> NextHop) -> BTreeMap<Prefix, Route> {
    let (block, all) = match family {
        Family::Ipv4 => (24, [0, 0, 0, 0].into()),
        Family::Ipv6 => (64, [0; 16].into()),
    };
    let network = |address| Prefix::around(family.address(address), block);
    let on_link = |next_hop| Route { next_hop, on_link: 1 };
    let by = |next_hop| Route { next_hop, on_link: 0 };
    BTreeMap::from([
        (
            network([198, 18, 0, 0]),
            on_link(hop([0; 6], OUR_CLIENT_MAC, CLIENT_SIDE)),
        ),
        (
            network([198, 18, 1, 0]),
            on_link(hop([0; 6], OUR_BACKEND_MAC, BACKEND_SIDE)),
        ),
        (network([198, 19, 99, 0]), by(NextHop::default())),
        (
            Prefix::around(all, 0),
            by(hop(GATEWAY_MAC, OUR_CLIENT_MAC, CLIENT_SIDE)),
        ),
    ])
}
