//! The packet table: what comes in, what must come out, and why.

mod known_flows;
mod new_flows;
mod not_ours;
mod random;
mod slot_tables;
mod verifier;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lb_common::abi::{Backend, Listen, NextHop, Route, Service, TCP, UDP};
use lb_common::wire::{Be16, Be32, Ether};
use lb_tests::lab::skipped;
use lb_tests::packets::Runner;
use lb_userspace::core::kernel::KernelState;
use lb_userspace::core::network::Prefix;

pub const VIP: &str = "198.18.0.100:80";
pub const CLIENT: &str = "198.18.0.2:2000";
/// Beyond a gateway.
pub const FAR_CLIENT: &str = "198.19.7.7:2000";
/// Its port is not one we may use towards backends.
pub const EPHEMERAL_CLIENT: &str = "198.18.0.2:40000";
pub const BACKEND: &str = "198.18.1.11:8080";
/// Our address towards the backends.
pub const SNAT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);

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

/// One service of one backend, for TCP and UDP, on port 80; one without backends on 81, one whose backend has no
/// neighbour yet on 82. Clients are on the link, or behind a gateway; nobody knows the way to 198.19.99.0/24.
pub fn state() -> KernelState {
    let service = |id: u16| Service {
        id: u32::from(id),
        unused: 0,
        fingerprint: u64::from(id),
    };
    let listens = [TCP, UDP].into_iter().flat_map(|protocol| {
        [(80, SERVICE), (81, EMPTY_SERVICE), (82, COLD_SERVICE)].map(|(port, id)| {
            let address = Be32::from(Ipv4Addr::new(198, 18, 0, 100));
            (
                Listen {
                    address,
                    port: Be16::new(port),
                    protocol,
                    unused: 0,
                },
                service(id),
            )
        })
    });
    let hop = |to, from, ifindex| NextHop {
        ether: Ether::new(to, from),
        ifindex,
    };
    let backend = |last: u8, service: u16, next_hop| Backend {
        address: Ipv4Addr::new(198, 18, 1, last).into(),
        snat: SNAT.into(),
        port: Be16::new(8080),
        service,
        next_hop,
        unused: 0,
        fingerprint: u64::from(last),
    };
    let route = |address: [u8; 4], length, next_hop, on_link| {
        (
            Prefix {
                address: address.into(),
                length,
            },
            Route { next_hop, on_link },
        )
    };
    KernelState {
        listens: listens.collect(),
        slots: BTreeMap::from([
            (SERVICE, vec![BACKEND_ID; 7]),
            (EMPTY_SERVICE, Vec::new()),
            (COLD_SERVICE, vec![COLD_BACKEND_ID]),
        ]),
        backends: BTreeMap::from([
            (
                BACKEND_ID,
                backend(11, SERVICE, hop(BACKEND_MAC, OUR_BACKEND_MAC, BACKEND_SIDE)),
            ),
            (
                SECOND_BACKEND_ID,
                backend(13, SERVICE, hop(BACKEND_MAC, OUR_BACKEND_MAC, BACKEND_SIDE)),
            ),
            (COLD_BACKEND_ID, backend(12, COLD_SERVICE, NextHop::default())),
        ]),
        routes: BTreeMap::from([
            route([198, 18, 0, 0], 24, hop([0; 6], OUR_CLIENT_MAC, CLIENT_SIDE), 1),
            route([198, 18, 1, 0], 24, hop([0; 6], OUR_BACKEND_MAC, BACKEND_SIDE), 1),
            route([0, 0, 0, 0], 0, hop(GATEWAY_MAC, OUR_CLIENT_MAC, CLIENT_SIDE), 0),
            route([198, 19, 99, 0], 24, NextHop::default(), 0),
        ]),
        attached: BTreeMap::new(),
    }
}

/// None, and SKIP said, where the tests have no right to load programs.
pub fn runner(test: &str) -> Option<Runner> {
    (!skipped(test)).then(|| Runner::new(&state()).expect("a runner"))
}
