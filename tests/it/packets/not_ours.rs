//! What is not ours passes, untouched and counted; what is cut short is never read past its end.

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;
use lb_tests::packets::{Builder, Extension, Protocol};

use super::*;

cases! {
    each_protocol {
        another_ether_type_passes,
        a_third_tag_passes,
        another_port_passes,
        another_address_passes,
        an_answer_that_nobody_waits_for_passes,
        another_version_passes,
        a_longer_packet_than_its_frame_passes,
        a_header_that_does_not_fit_passes,
    }
    all {
        another_protocol_passes,
        another_protocol_of_the_port_passes,
    }
    each_mode {
        no_flow_begins_without_a_clean_syn,
        without_its_other_stages_only_known_flows_are_served,
    }
    ipv4 {
        a_header_that_is_too_short_passes,
        a_header_beyond_its_packet_passes,
    }
    ipv6 {
        headers_that_we_do_not_step_over_pass,
        headers_up_to_the_bound_are_stepped_over,
        a_chain_of_headers_beyond_the_bound_passes,
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
        passes(net, &net.first().with(|p| p.ether_type = ether_type), Reason::NotIp);
    }
}

fn a_third_tag_passes(net: &mut Net) {
    let from = net
        .first()
        .with(|p| p.tags = vec![(0x88a8, 1), (0x8100, 2), (0x8100, 3)]);
    passes(net, &from, Reason::NotIp);
}

/// ICMP, IGMP, VRRP, ICMPv6.
fn another_protocol_passes(net: &mut Net) {
    for number in [1, 2, 112, 58] {
        let other = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(number), vec![0; 40]);
        passes(net, &net.first().with(other), Reason::OtherProtocol);
    }
}

fn another_port_passes(net: &mut Net) {
    passes(
        net,
        &net.packet(CLIENT, net.endpoint("198.18.0.100:22")),
        Reason::NotOurs,
    );
}

fn another_address_passes(net: &mut Net) {
    passes(
        net,
        &net.packet(CLIENT, net.endpoint("198.18.0.99:80")),
        Reason::NotOurs,
    );
}

/// SCTP, DCCP, UDP-Lite.
fn another_protocol_of_the_port_passes(net: &mut Net) {
    for number in [132, 33, 136] {
        let ports = [2000_u16.to_be_bytes(), 80_u16.to_be_bytes()].concat();
        let other =
            |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(number), [ports, vec![0; 16]].concat());
        passes(net, &net.first().with(other), Reason::OtherProtocol);
    }
}

fn an_answer_that_nobody_waits_for_passes(net: &mut Net) {
    passes(net, &net.answer(3333), Reason::NotOurs);
}

/// Of UDP any datagram is one.
fn no_flow_begins_without_a_clean_syn(net: &mut Net) {
    for flags in [ACK, SYN | ACK, SYN | FIN, SYN | RST, RST, 0, 0x3f] {
        let from = net.first().flags(flags).with(|p| p.protocol = Protocol::Tcp);
        passes(net, &from, Reason::UnknownFlow);
    }
}

fn without_its_other_stages_only_known_flows_are_served(net: &mut Net) {
    let known = net.first();
    net.reaches(&known, 2000);
    net.runner.remove_stages().expect("stages to remove");
    net.reaches(&known, 2000);
    net.passes(&net.from(FAR_CLIENT).build(), Reason::StageMissing);
    let ours = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Icmp, vec![3, 4, 0, 0, 0, 0, 5, 0xdc]);
    net.passes(&net.first().with(ours).build(), Reason::StageMissing);
}

fn another_version_passes(net: &mut Net) {
    passes_with(net, &net.first(), (0, 0x55));
}

fn a_longer_packet_than_its_frame_passes(net: &mut Net) {
    let length = if net.shape.family == Family::Ipv4 { 3 } else { 5 };
    passes_with(net, &net.first(), (length, 200));
}

fn a_header_that_does_not_fit_passes(net: &mut Net) {
    let (number, length) = match net.shape.protocol {
        Protocol::Tcp => (6, 19),
        _ => (17, 7),
    };
    let short = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(number), vec![0; length]);
    passes(net, &net.first().with(short), Reason::Malformed);
}

fn a_header_that_is_too_short_passes(net: &mut Net) {
    passes_with(net, &net.first(), (0, 0x44));
}

fn a_header_beyond_its_packet_passes(net: &mut Net) {
    passes_with(net, &net.first(), (0, 0x4f));
}

fn extended(net: &Net, extensions: &[(u8, usize)]) -> Builder {
    let extensions = extensions.iter().map(|(number, length)| Extension {
        number: *number,
        content: vec![1; *length],
    });
    net.first().with(|p| p.extensions = extensions.collect())
}

/// Hop-by-hop and destination options: four of them, of any length.
fn headers_up_to_the_bound_are_stepped_over(net: &mut Net) {
    for lengths in [[6, 6, 6, 6], [14, 6, 254, 6], [254, 254, 254, 254]] {
        net.reset();
        let chain: Vec<_> = [0, 60, 60, 60].into_iter().zip(lengths).collect();
        net.reaches(&extended(net, &chain), 2000);
        net.reaches(&extended(net, &chain).udp(), 2000);
    }
}

fn a_chain_of_headers_beyond_the_bound_passes(net: &mut Net) {
    passes(net, &extended(net, &[(60, 6); 5]), Reason::OtherProtocol);
}

/// Routing, ESP, authentication, mobility.
fn headers_that_we_do_not_step_over_pass(net: &mut Net) {
    for number in [43, 50, 51, 135] {
        passes(net, &extended(net, &[(number, 14)]), Reason::OtherProtocol);
    }
}

fn an_extension_beyond_its_packet_passes(net: &mut Net) {
    passes_with(net, &extended(net, &[(0, 6)]), (41, 200));
}
