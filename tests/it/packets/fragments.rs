//! Fragments: the later ones, which have no ports, follow the first.

use core::ops::Range;

use lb_common::abi::Mode;
use lb_common::verdict::Reason;
use lb_tests::packets::{Builder, Extension, Protocol};

use super::*;

cases! {
    each_mode {
        fragments_of_one_packet_go_the_same_way,
        they_may_be_of_a_known_flow,
        a_later_fragment_before_the_first_passes,
        a_later_fragment_of_an_unknown_packet_passes,
        a_later_fragment_of_a_flow_that_ended_passes,
        a_first_fragment_without_ports_passes,
        time_to_live_ends_here_for_later_fragments_too,
        fragments_for_a_port_where_nobody_listens_pass,
    }
    each_protocol {
        fragments_of_an_answer_find_the_client,
    }
    dsr_ipip {
        a_first_fragment_that_is_too_big_is_answered,
        a_later_fragment_that_is_too_big_is_dropped,
    }
    all {
        fragments_of_icmp_pass,
    }
    ipv6 {
        a_packet_in_one_fragment_is_whole,
        a_fragment_header_behind_options_is_found,
    }
}

/// What all fragments of one packet have in common.
const IDENTIFICATION: u16 = 0x4242;

/// Some bytes of what follows the IP header; the first a multiple of eight, the last where the packet ends or one, too.
fn fragment(whole: &Builder, part: Range<usize>) -> Builder {
    numbered(whole, part, IDENTIFICATION)
}

fn numbered(whole: &Builder, part: Range<usize>, identification: u16) -> Builder {
    let segment = whole.build()[whole.l4()..].to_vec();
    whole.clone().fragment_of(&segment, part, identification)
}

const PARTS: [Range<usize>; 3] = [0..24, 24..64, 64..100];

/// A packet of the flow with 100 bytes behind its IP header.
fn whole(net: &Net) -> Builder {
    sized(net.first())
}

fn sized(from: Builder) -> Builder {
    let length = from.build().len() - from.l4();
    from.with(|p| p.payload = (0..100 - length as u8).collect())
}

/// What becomes of one with NAT is that fragment of the translated packet; the other modes leave it as it is.
#[track_caller]
fn reaches(net: &mut Net, whole: &Builder, part: Range<usize>) {
    let sent = fragment(whole, part.clone());
    let expected = match net.shape.mode {
        Mode::Nat => fragment(&net.translated(whole, 2000), part),
        Mode::DsrL2 | Mode::DsrIpip => net.to_backend(&sent, 2000),
    };
    net.becomes(&sent.build(), &expected);
}

/// The first one opens the flow.
fn fragments_of_one_packet_go_the_same_way(net: &mut Net) {
    let whole = whole(net);
    for part in PARTS {
        reaches(net, &whole, part);
    }
    // Once the first was there, the order does not matter.
    for part in PARTS.into_iter().rev() {
        reaches(net, &whole, part);
    }
}

fn they_may_be_of_a_known_flow(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    fragments_of_one_packet_go_the_same_way(net);
    assert_eq!(net.states().len(), 1);
}

/// The sender tries again, with all of it.
fn a_later_fragment_before_the_first_passes(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    // Earlier cases may have been remembered, and this one is played in several shapes.
    let identification = 0x5000 + net.shape.tags.len() as u16 * 0x10 + net.shape.mode as u16;
    let identification = identification + 4 * u16::from(net.shape.protocol == Protocol::Udp);
    let whole = whole(net);
    net.passes(
        &numbered(&whole, PARTS[1].clone(), identification).build(),
        Reason::Fragment,
    );
}

fn a_later_fragment_of_an_unknown_packet_passes(net: &mut Net) {
    let unknown = sized(net.packet("198.18.0.77:2000", net.listen(&WEB)));
    net.passes(&fragment(&unknown, PARTS[2].clone()).build(), Reason::Fragment);
}

fn a_later_fragment_of_a_flow_that_ended_passes(net: &mut Net) {
    let whole = whole(net);
    reaches(net, &whole, PARTS[0].clone());
    let first = net.first();
    net.runner.end_flow(&first);
    net.passes(&fragment(&whole, PARTS[1].clone()).build(), Reason::Fragment);
}

fn a_first_fragment_without_ports_passes(net: &mut Net) {
    let whole = whole(net);
    let length = if net.shape.protocol == Protocol::Tcp { 16 } else { 0 };
    net.passes(&fragment(&whole, 0..length).build(), Reason::Malformed);
}

fn time_to_live_ends_here_for_later_fragments_too(net: &mut Net) {
    let whole = whole(net);
    reaches(net, &whole, PARTS[0].clone());
    let last = whole.with(|p| p.ttl = 1);
    if net.shape.mode == Mode::DsrL2 {
        reaches(net, &last, PARTS[1].clone());
    } else {
        net.drops(&fragment(&last, PARTS[1].clone()).build(), Reason::TtlExpired);
    }
}

fn fragments_for_a_port_where_nobody_listens_pass(net: &mut Net) {
    let whole = sized(net.packet(CLIENT, net.endpoint("198.18.0.100:22")));
    net.passes(&fragment(&whole, PARTS[0].clone()).build(), Reason::NotOurs);
    net.passes(&fragment(&whole, PARTS[1].clone()).build(), Reason::Fragment);
}

fn fragments_of_an_answer_find_the_client(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    let answer = sized(net.answer(2000));
    for part in PARTS {
        let expected = fragment(&net.to_client(&answer, CLIENT, CLIENT_MAC), part.clone());
        net.comes_back_as(&fragment(&answer, part).build(), &expected);
    }
}

fn a_first_fragment_that_is_too_big_is_answered(net: &mut Net) {
    let whole = net.first().with(|p| p.payload = vec![0x55; 3000]);
    let first = fragment(&whole, 0..1480);
    let answer = answers::too_big(net, &first);
    net.answers(&first, &answer, Reason::TooBig);
}

/// It has no ports to quote.
fn a_later_fragment_that_is_too_big_is_dropped(net: &mut Net) {
    let whole = net.first().with(|p| p.payload = vec![0x55; 3000]);
    reaches(net, &whole, 0..1000);
    net.drops(&fragment(&whole, 1000..2496).build(), Reason::TooBig);
}

fn fragments_of_icmp_pass(net: &mut Net) {
    let whole = net
        .first()
        .with(|p| (p.protocol, p.payload) = (Protocol::Icmp, vec![3; 100]));
    net.passes(&fragment(&whole, PARTS[0].clone()).build(), Reason::OtherProtocol);
    net.passes(&fragment(&whole, PARTS[1].clone()).build(), Reason::Fragment);
}

fn a_packet_in_one_fragment_is_whole(net: &mut Net) {
    let whole = whole(net);
    reaches(net, &whole, 0..100);
}

fn a_fragment_header_behind_options_is_found(net: &mut Net) {
    let options = |number| Extension {
        number,
        content: vec![1; 6],
    };
    let whole = whole(net).with(|p| p.extensions = vec![options(0), options(60)]);
    for part in PARTS {
        reaches(net, &whole, part);
    }
}
