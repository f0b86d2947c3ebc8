//! The packet table: what comes in, what must come out, and why; each case for every shape of frame that it is about.
//!
//! docs/data-path.md tells the same in words; `documentation` ties the two together.

/// Makes a test of each case for each shape that it is about: `packets::new_flows::a_syn::ipv6_two_tags`.
macro_rules! cases {
    ($($shapes:ident { $($case:ident,)+ })+) => {
        pub const CASES: &[&str] = &[$($(stringify!($case),)+)+];

        $($(mod $case {
            use super::$case;
            shapes!($shapes, $case, Tcp, Nat);
        })+)+
    };
}

macro_rules! shapes {
    // All there is.
    (each_mode, $case:ident, $protocol:ident, $mode:ident) => {
        shapes!(inside nat each_protocol, $case, $protocol, Nat);
        shapes!(dsr, $case, $protocol, $mode);
    };
    (dsr, $case:ident, $protocol:ident, $mode:ident) => {
        shapes!(inside dsr_l2 each_protocol, $case, $protocol, DsrL2);
        shapes!(dsr_ipip, $case, $protocol, $mode);
    };
    (dsr_ipip, $case:ident, $protocol:ident, $mode:ident) => {
        shapes!(inside dsr_ipip each_protocol, $case, $protocol, DsrIpip);
    };
    (each_protocol, $case:ident, $protocol:ident, $mode:ident) => {
        shapes!(inside tcp all, $case, Tcp, $mode);
        shapes!(inside udp all, $case, Udp, $mode);
    };
    // TCP, and with NAT, from here on.
    (all, $case:ident, $protocol:ident, $mode:ident) => {
        shapes!(ipv4, $case, $protocol, $mode);
        shapes!(ipv6, $case, $protocol, $mode);
    };
    (ipv4, $case:ident, $protocol:ident, $mode:ident) => {
        shape!(ipv4, $case, Ipv4, &[], $protocol, $mode);
        shape!(ipv4_one_tag, $case, Ipv4, &[(0x8100, 10)], $protocol, $mode);
        shape!(ipv4_two_tags, $case, Ipv4, &[(0x88a8, 20), (0x8100, 0x600a)], $protocol, $mode);
    };
    (ipv6, $case:ident, $protocol:ident, $mode:ident) => {
        shape!(ipv6, $case, Ipv6, &[], $protocol, $mode);
        shape!(ipv6_one_tag, $case, Ipv6, &[(0x88a8, 10)], $protocol, $mode);
        shape!(ipv6_two_tags, $case, Ipv6, &[(0x8100, 20), (0x8100, 0x600a)], $protocol, $mode);
    };
    (untagged, $case:ident, $protocol:ident, $mode:ident) => {
        shape!(ipv4, $case, Ipv4, &[], $protocol, $mode);
        shape!(ipv6, $case, Ipv6, &[], $protocol, $mode);
    };
    (inside $name:ident $shapes:ident, $case:ident, $protocol:ident, $mode:ident) => {
        mod $name {
            use super::$case;
            shapes!($shapes, $case, $protocol, $mode);
        }
    };
}

macro_rules! shape {
    ($name:ident, $case:ident, $family:ident, $tags:expr, $protocol:ident, $mode:ident) => {
        #[test]
        fn $name() {
            use crate::packets::net::{Shape, play};
            use lb_tests::packets::world::Family;
            let shape = Shape {
                family: Family::$family,
                tags: $tags,
                protocol: lb_tests::packets::Protocol::$protocol,
                mode: lb_common::abi::Mode::$mode,
            };
            play(concat!(module_path!(), "::", stringify!($name)), shape, $case);
        }
    };
}

mod algorithms;
mod answers;
mod documentation;
mod fragments;
mod icmp;
mod known_flows;
mod leases;
mod life;
mod lost_backends;
mod net;
mod new_flows;
mod not_ours;
mod port_rest;
mod ports;
mod random;
mod signs;
mod slot_tables;
mod verifier;

use std::collections::BTreeMap;

use lb_tests::packets::world::*;
use net::Net;
