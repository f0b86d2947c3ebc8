//! ICMP: errors about packets that we sent on go to whoever sent those, translated outside and inside; the rest passes.

use lb_common::abi::Mode;
use lb_common::parse::ACK;
use lb_common::verdict::Reason;
use lb_tests::packets::{Builder, Protocol};

use super::*;

cases! {
    each_protocol {
        an_error_from_the_backends_side_reaches_the_client,
        it_may_quote_all_of_the_packet,
        an_error_with_a_wrong_checksum_keeps_it_wrong,
        an_error_that_quotes_too_little_passes,
        an_error_for_somebody_else_passes,
    }
    each_mode {
        an_error_from_the_clients_side_reaches_the_backend,
        an_error_about_no_flow_of_ours_passes,
        an_error_that_came_too_far_is_dropped,
    }
    all {
        the_checksum_that_a_quoted_datagram_has_not_stays_away,
        an_error_about_another_protocol_passes,
        echo_passes,
        other_messages_pass,
    }
    ipv4 {
        a_quoted_packet_may_have_options,
        an_error_about_a_later_fragment_passes,
    }
    ipv6 {
        an_error_about_a_packet_with_extension_headers_passes,
    }
}

pub const ROUTER: &str = "198.18.1.254:0";
const FAR_ROUTER: &str = "198.19.3.3:0";

/// Type, code, and the four bytes that follow the checksum.
pub type Kind = ([u8; 2], u32);

/// Unreachable (net, host, port), fragmentation needed, source quench, time exceeded, parameter problem.
const IPV4_ERRORS: [Kind; 7] = [
    ([3, 0], 0),
    ([3, 1], 0),
    ([3, 3], 0),
    ([3, 4], 1400),
    ([4, 0], 0),
    ([11, 0], 0),
    ([12, 0], 0x0800_0000),
];
/// Unreachable (no route, port), too big, time exceeded, parameter problem.
const IPV6_ERRORS: [Kind; 5] = [([1, 0], 0), ([1, 4], 0), ([2, 0], 1400), ([3, 0], 0), ([4, 1], 6)];

fn errors(net: &Net) -> &'static [Kind] {
    match net.shape.family {
        Family::Ipv4 => &IPV4_ERRORS,
        Family::Ipv6 => &IPV6_ERRORS,
    }
}

/// The IP header and eight bytes: as much as every error has.
const LEAST: usize = 8;

/// From a router to whoever sent `about`, as it saw it, of which so many bytes behind the IP header are quoted.
pub fn error(net: &Net, router: &str, about: &Builder, quoted: usize, (kind, rest): Kind) -> Builder {
    let packet = about.build()[about.l3()..about.l4() + quoted].to_vec();
    about.clone().turned().with_header_of_ours().with(|p| {
        p.source = net.endpoint(router).ip();
        p.protocol = Protocol::Icmp;
        p.payload = [&kind[..], &[0; 2], &rest.to_be_bytes(), &packet].concat();
    })
}

/// The same as its receiver is to see it: from us, about the packet that it sent, as that would have come to the router.
fn translated(error: &Builder, about: &Builder, quoted: usize) -> Builder {
    let packet = about.build()[about.l3()..about.l4() + quoted].to_vec();
    error.clone().with(|p| {
        p.source = about.destination;
        p.destination = about.source;
        p.ttl -= 1;
        p.payload.truncate(8);
        p.payload.extend(packet);
    })
}

/// What the client sent, and what the backend would have got of it.
pub fn to_backend(net: &mut Net, from: &Builder) -> (Builder, Builder) {
    net.reaches(from, 2000);
    let seen = net.translated(from, 2000);
    // Only the addresses are translated back.
    (from.clone().with(|p| p.ttl -= 1), seen)
}

#[track_caller]
fn reaches_client(net: &mut Net, from: &Builder, quoted: usize) {
    let (sent, seen) = to_backend(net, from);
    let backend = net.backend(BACKEND).to_string();
    for router in [ROUTER, FAR_ROUTER, &backend] {
        for kind in errors(net) {
            let error = error(net, router, &seen, quoted, *kind);
            let expected = translated(&error, &sent, quoted).macs(CLIENT_MAC, OUR_CLIENT_MAC);
            net.comes_back_as(&error.build(), &expected);
        }
    }
}

fn an_error_from_the_backends_side_reaches_the_client(net: &mut Net) {
    reaches_client(net, &net.first(), LEAST);
}

/// With a TCP header of which the checksum can be told.
fn it_may_quote_all_of_the_packet(net: &mut Net) {
    let from = net.first().with(|p| p.payload = b"all of it".to_vec());
    let all = from.build().len() - from.l4();
    for quoted in [all, all - 1, 18, 20] {
        if quoted <= all {
            reaches_client(net, &from, quoted);
        }
    }
}

fn the_checksum_that_a_quoted_datagram_has_not_stays_away(net: &mut Net) {
    reaches_client(net, &net.first().udp().with(|p| p.udp_checksum = false), LEAST);
}

fn a_quoted_packet_may_have_options(net: &mut Net) {
    reaches_client(net, &net.first().with(|p| p.options = vec![1; 12]), LEAST);
}

/// About an answer. Where the backend sent that itself, the error goes there as any packet of the client's would.
fn an_error_from_the_clients_side_reaches_the_backend(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    let (answer, seen) = if net.shape.mode == Mode::Nat {
        let answer = net.answer(2000).with(|p| p.payload = vec![0x55; 40]);
        net.returns(&answer, CLIENT, CLIENT_MAC);
        let seen = net.to_client(&answer, CLIENT, CLIENT_MAC);
        (answer.with(|p| p.ttl -= 1), seen)
    } else {
        let answer = net.first().turned();
        (answer.clone(), answer)
    };
    for router in [FAR_ROUTER, CLIENT] {
        for kind in errors(net) {
            let error = error(net, router, &seen, LEAST, *kind).macs(OUR_CLIENT_MAC, CLIENT_MAC);
            let expected = if net.shape.mode == Mode::Nat {
                translated(&error, &answer, LEAST).macs(BACKEND_MAC, OUR_BACKEND_MAC)
            } else {
                net.to_backend(&error, 2000)
            };
            net.becomes(&error.build(), &expected);
        }
    }
}

/// An error as in the first case, and what the client would get.
fn usual_error(net: &mut Net) -> Builder {
    let (_, seen) = to_backend(net, &net.first());
    error(net, ROUTER, &seen, LEAST, errors(net)[0])
}

fn an_error_with_a_wrong_checksum_keeps_it_wrong(net: &mut Net) {
    let error = usual_error(net);
    let right = net.send(&error.build()).frame;
    let wrong = net.send(&error.with(|p| p.checksum_error = 1).build()).frame;
    assert_ne!(right, wrong);
}

/// The host may have sent it itself.
fn an_error_about_no_flow_of_ours_passes(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    let unknown = [
        net.translated(&net.first(), 2001),
        net.translated(&net.from(FAR_CLIENT), 2002),
    ];
    for about in unknown {
        for kind in errors(net) {
            net.passes(&error(net, ROUTER, &about, LEAST, *kind).build(), Reason::IcmpUnknown);
        }
    }
}

fn an_error_about_another_protocol_passes(net: &mut Net) {
    let other = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(132), vec![0; 20]);
    let about = net.translated(&net.first(), 2000).with(other);
    net.passes(
        &error(net, ROUTER, &about, LEAST, errors(net)[0]).build(),
        Reason::IcmpUnknown,
    );
}

fn an_error_that_quotes_too_little_passes(net: &mut Net) {
    let (_, seen) = to_backend(net, &net.first());
    for quoted in [0, 4, 7] {
        let error = error(net, ROUTER, &seen, quoted, errors(net)[0]);
        net.passes(&error.build(), Reason::IcmpUnknown);
    }
    let nothing = error(net, ROUTER, &seen, 0, errors(net)[0]).with(|p| p.payload.truncate(8));
    net.passes(&nothing.build(), Reason::IcmpUnknown);
}

/// It quotes a packet of ours, but is on its way to another host.
fn an_error_for_somebody_else_passes(net: &mut Net) {
    let elsewhere = net.endpoint("198.18.1.77:0").ip();
    let error = usual_error(net).with(|p| p.destination = elsewhere);
    net.passes(&error.build(), Reason::IcmpUnknown);
}

fn an_error_about_a_later_fragment_passes(net: &mut Net) {
    let (_, seen) = to_backend(net, &net.first());
    let error = error(net, ROUTER, &seen.with(|p| p.fragment = 3), LEAST, errors(net)[0]);
    net.passes(&error.build(), Reason::IcmpUnknown);
}

fn an_error_about_a_packet_with_extension_headers_passes(net: &mut Net) {
    let options = lb_tests::packets::Extension {
        number: 60,
        content: vec![1; 6],
    };
    let (_, seen) = to_backend(net, &net.first().with(|p| p.extensions = vec![options]));
    net.passes(
        &error(net, ROUTER, &seen, LEAST, errors(net)[0]).build(),
        Reason::IcmpUnknown,
    );
}

fn an_error_that_came_too_far_is_dropped(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    let about = if net.shape.mode == Mode::Nat {
        net.translated(&net.first(), 2000)
    } else {
        net.first().turned()
    };
    let last = error(net, ROUTER, &about, LEAST, errors(net)[0]).with(|p| p.ttl = 1);
    if net.shape.mode == Mode::DsrL2 {
        net.reaches(&last, 2000);
    } else {
        net.drops(&last.build(), Reason::TtlExpired);
    }
}

/// Of the listen's address and of others: the host answers.
fn echo_passes(net: &mut Net) {
    let request = if net.shape.family == Family::Ipv4 { 8 } else { 128 };
    for to in ["198.18.0.100:80", "198.18.0.99:80"] {
        let echo = net.packet(CLIENT, net.endpoint(to)).flags(ACK).with(|p| {
            p.protocol = Protocol::Icmp;
            p.payload = [vec![request, 0, 0, 0, 0, 1, 0, 1], vec![0x55; 56]].concat();
        });
        net.passes(&echo.build(), Reason::OtherProtocol);
    }
}

/// Replies, redirects, neighbour and router discovery, multicast listeners; and one without a type.
fn other_messages_pass(net: &mut Net) {
    let kinds: &[u8] = match net.shape.family {
        Family::Ipv4 => &[0, 5, 9, 10, 13, 17],
        Family::Ipv6 => &[129, 130, 133, 134, 135, 136, 137, 143],
    };
    for kind in kinds {
        let message = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Icmp, [vec![*kind], vec![0; 31]].concat());
        net.passes(&net.first().with(message).build(), Reason::OtherProtocol);
    }
    let icmp = if net.shape.family == Family::Ipv4 { 1 } else { 58 };
    let nothing = |p: &mut Builder| (p.protocol, p.payload) = (Protocol::Other(icmp), Vec::new());
    net.passes(&net.first().with(nothing).build(), Reason::OtherProtocol);
}
