//! What Naru answers itself: refusals where nobody serves, and how much the way to a backend takes.

use lb_common::parse::{ACK, RST};
use lb_common::verdict::Reason;
use lb_tests::packets::{Builder, Extension, Protocol};

use super::*;

cases! {
    each_mode {
        without_a_backend_the_first_packet_is_refused,
        the_refusal_of_a_syn_acknowledges_it,
        what_cannot_be_quoted_is_dropped_without_a_word,
    }
    dsr_ipip {
        what_just_fits_the_way_to_the_backend_goes_through,
        what_is_too_big_for_it_is_answered,
        a_jumbo_frame_is_answered_too,
        eight_bytes_of_options_are_quoted_with_it,
        what_is_too_big_and_cannot_be_quoted_is_dropped,
    }
}

/// The IP header, its options, and eight bytes, in an ICMP message of this type and code.
fn icmp(net: &Net, about: &Builder, kind: [u8; 2], rest: u32) -> Builder {
    let quoted = about.build()[about.l3()..about.l4() + 8].to_vec();
    net.own_answer(about).with(|p| {
        p.protocol = Protocol::Icmp;
        p.payload = [&kind[..], &[0; 2], &rest.to_be_bytes(), &quoted].concat();
    })
}

fn refusal(net: &Net, of: &Builder) -> Builder {
    if net.shape.protocol == Protocol::Tcp {
        let refusal = net.own_answer(of).flags(RST | ACK);
        return refusal.with(|p| (p.sequence, p.window) = ((0, of.sequence.0.wrapping_add(1)), 0));
    }
    let port_unreachable = if of.source.is_ipv4() { [3, 3] } else { [1, 4] };
    icmp(net, of, port_unreachable, 0)
}

/// It is sent once more, and refused once more: no flow begins.
fn without_a_backend_the_first_packet_is_refused(net: &mut Net) {
    for length in [0, 1, 700] {
        let from = net.to(&EMPTY).with(|p| p.payload = vec![0x55; length]);
        net.answers(&from, &refusal(net, &from), Reason::NoBackend);
    }
    assert_eq!(net.states(), [""; 0]);
}

fn the_refusal_of_a_syn_acknowledges_it(net: &mut Net) {
    for sequence in [0, 0x8000_0000, u32::MAX] {
        let from = net.to(&EMPTY).with(|p| p.sequence.0 = sequence);
        net.answers(&from, &refusal(net, &from), Reason::NoBackend);
    }
}

/// Too many IPv4 options or extension headers are in the way. A RST quotes nothing.
fn what_cannot_be_quoted_is_dropped_without_a_word(net: &mut Net) {
    let from = with_options(net.to(&EMPTY), 16);
    if net.shape.protocol == Protocol::Tcp {
        net.answers(&from, &refusal(net, &from), Reason::NoBackend);
    } else {
        net.drops(&from.build(), Reason::NoBackend);
    }
}

/// So many bytes of them, a multiple of eight.
fn with_options(from: Builder, length: usize) -> Builder {
    let options = Extension {
        number: 60,
        content: vec![1; length - 2],
    };
    from.with(|p| match p.source.is_ipv4() {
        true => p.options = vec![1; length],
        false => p.extensions = vec![options],
    })
}

/// A packet of the flow so long that the one around it has `length`.
fn of_length(net: &Net, length: usize) -> Builder {
    let from = net.first();
    let header = if from.source.is_ipv4() { 20 } else { 40 };
    let headers = from.build().len() - from.l3();
    from.with(|p| p.payload = vec![0x55; length - header - headers])
}

fn what_just_fits_the_way_to_the_backend_goes_through(net: &mut Net) {
    net.reaches(&of_length(net, MTU as usize), 2000);
}

/// The first packet of a flow or a later one; the MTU told is what is left for the packet within.
fn what_is_too_big_for_it_is_answered(net: &mut Net) {
    let from = of_length(net, MTU as usize + 1);
    let answer = too_big(net, &from);
    net.answers(&from, &answer, Reason::TooBig);
    net.reaches(&net.first(), 2000);
    net.answers(&from, &answer, Reason::TooBig);
}

pub fn too_big(net: &Net, about: &Builder) -> Builder {
    let (kind, header) = if about.source.is_ipv4() {
        ([3, 4], 20)
    } else {
        ([2, 0], 40)
    };
    icmp(net, about, kind, MTU - header)
}

fn a_jumbo_frame_is_answered_too(net: &mut Net) {
    let from = of_length(net, 9000);
    net.answers(&from, &too_big(net, &from), Reason::TooBig);
}

fn eight_bytes_of_options_are_quoted_with_it(net: &mut Net) {
    let from = with_options(of_length(net, MTU as usize), 8);
    net.answers(&from, &too_big(net, &from), Reason::TooBig);
}

fn what_is_too_big_and_cannot_be_quoted_is_dropped(net: &mut Net) {
    net.drops(&with_options(of_length(net, MTU as usize), 16).build(), Reason::TooBig);
}
