//! What is not ours passes, untouched and counted; what is cut short is never read past its end.

use std::net::IpAddr;

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Builder, Extension, Protocol};

use super::*;

cases! {
    all {
        another_ether_type_passes,
        a_third_tag_passes,
        another_protocol_passes,
        another_port_passes,
        another_address_passes,
        another_protocol_of_the_port_passes,
        an_answer_that_nobody_waits_for_passes,
        no_flow_begins_without_a_clean_syn,
        another_version_passes,
        a_longer_packet_than_its_frame_passes,
        a_tcp_header_that_does_not_fit_passes,
        a_frame_cut_anywhere_is_handled_as_the_host_would,
    }
    ipv4 {
        a_fragment_whose_first_nobody_saw_passes,
        a_header_that_is_too_short_passes,
        a_header_beyond_its_packet_passes,
    }
    ipv6 {
        a_fragment_header_whose_first_nobody_saw_passes,
        a_chain_of_headers_without_end_passes,
        a_header_that_we_do_not_step_over_passes,
        an_extension_beyond_its_packet_passes,
    }
}

/// It passes, and no flow begins.
#[track_caller]
fn passes(net: &mut Net, from: &Builder, reason: Reason) {
    net.passes(&from.build(), reason);
    assert_eq!(net.states(), [""; 0]);
}

/// A byte of the IP header is another.
#[track_caller]
fn passes_with(net: &mut Net, from: &Builder, (at, byte): (usize, u8)) {
    let mut frame = from.build();
    frame[from.l3() + at] = byte;
    net.passes(&frame, Reason::Malformed);
    assert_eq!(net.states(), [""; 0]);
}

fn another_ether_type_passes(net: &mut Net) {
    for ether_type in [0x0806, 0x88cc, 0x8847] {
        passes(net, &net.syn().with(|p| p.ether_type = ether_type), Reason::NotIp);
    }
}

fn a_third_tag_passes(net: &mut Net) {
    let from = net.syn().with(|p| p.tags = vec![(0x88a8, 1), (0x8100, 2), (0x8100, 3)]);
    passes(net, &from, Reason::NotIp);
}

/// ICMP, IGMP, VRRP, ICMPv6.
fn another_protocol_passes(net: &mut Net) {
    for number in [1, 2, 112, 58] {
        let other = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(number), vec![0; 40]);
        passes(net, &net.syn().with(other), Reason::OtherProtocol);
    }
}

fn another_port_passes(net: &mut Net) {
    passes(net, &net.packet(CLIENT, "198.18.0.100:22"), Reason::NotOurs);
}

fn another_address_passes(net: &mut Net) {
    passes(net, &net.packet(CLIENT, "198.18.0.99:80"), Reason::NotOurs);
}

fn another_protocol_of_the_port_passes(net: &mut Net) {
    passes(net, &net.packet(CLIENT, "198.18.0.100:8").udp(), Reason::NotOurs);
}

fn an_answer_that_nobody_waits_for_passes(net: &mut Net) {
    passes(net, &net.answer(3333), Reason::NotOurs);
}

fn no_flow_begins_without_a_clean_syn(net: &mut Net) {
    for flags in [ACK, SYN | ACK, SYN | FIN, SYN | RST, RST, 0, 0x3f] {
        passes(net, &net.syn().flags(flags), Reason::UnknownFlow);
    }
}

fn a_fragment_whose_first_nobody_saw_passes(net: &mut Net) {
    passes(net, &net.syn().with(|p| p.fragment = 0x00b9), Reason::Fragment);
}

fn another_version_passes(net: &mut Net) {
    passes_with(net, &net.syn(), (0, 0x55));
}

fn a_longer_packet_than_its_frame_passes(net: &mut Net) {
    let length = if net.endpoint(VIP).is_ipv4() { 3 } else { 5 };
    passes_with(net, &net.syn(), (length, 200));
}

fn a_tcp_header_that_does_not_fit_passes(net: &mut Net) {
    let short = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(6), vec![0; 19]);
    passes(net, &net.syn().with(short), Reason::Malformed);
}

fn a_header_that_is_too_short_passes(net: &mut Net) {
    passes_with(net, &net.syn(), (0, 0x44));
}

fn a_header_beyond_its_packet_passes(net: &mut Net) {
    passes_with(net, &net.syn(), (0, 0x4f));
}

fn extended(net: &Net, extensions: &[(u8, Vec<u8>)]) -> Builder {
    let extensions = extensions.iter().map(|(number, content)| Extension {
        number: *number,
        content: content.clone(),
    });
    net.syn().with(|p| p.extensions = extensions.collect())
}

fn a_fragment_header_whose_first_nobody_saw_passes(net: &mut Net) {
    for extensions in [
        vec![(44, vec![0, 0xb9, 0, 0, 0, 9])],
        vec![(60, vec![1; 6]), (44, vec![0, 0xb8, 0, 0, 0, 9])],
    ] {
        passes(net, &extended(net, &extensions), Reason::Fragment);
    }
}

fn a_chain_of_headers_without_end_passes(net: &mut Net) {
    passes(net, &extended(net, &vec![(60, vec![1; 6]); 5]), Reason::OtherProtocol);
}

/// Routing, ESP, authentication, mobility.
fn a_header_that_we_do_not_step_over_passes(net: &mut Net) {
    for number in [43, 50, 51, 135] {
        passes(net, &extended(net, &[(number, vec![0; 14])]), Reason::OtherProtocol);
    }
}

fn an_extension_beyond_its_packet_passes(net: &mut Net) {
    passes_with(net, &extended(net, &[(0, vec![1; 6])]), (41, 200));
}

fn a_frame_cut_anywhere_is_handled_as_the_host_would(net: &mut Net) {
    let whole = [
        net.syn().with(|p| p.payload = vec![7; 20]),
        net.syn().udp().with(|p| p.payload = vec![7; 20]),
        net.syn().with(|p| match p.destination {
            IpAddr::V4(_) => p.options = vec![1; 40],
            IpAddr::V6(_) => {
                let options = |number| Extension {
                    number,
                    content: vec![1; 14],
                };
                p.extensions = vec![options(0), options(60)];
            }
        }),
    ];
    for from in whole {
        let frame = from.build();
        // The kernel runs no test on less than an Ethernet header; `send` compares with the model.
        for length in 14..frame.len() {
            let outcome = net.send(&frame[..length]);
            assert_eq!(outcome.action, Action::Pass, "{length} bytes of {from:?}");
        }
    }
}
