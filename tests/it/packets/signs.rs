//! What the daemon is told of a backend while its packets go by, so that it is asked at once.

use lb_common::parse::{ACK, RST};
use lb_common::signs::Sign;
use lb_tests::packets::Protocol;

use super::icmp::{ROUTER, error, to_backend};
use super::*;

cases! {
    all {
        a_refused_syn_is_a_sign,
        the_end_of_a_connection_is_none,
        a_sign_is_told_once_in_a_while,
    }
    each_mode {
        a_repeated_syn_is_a_sign,
    }
    each_protocol {
        a_packet_that_cannot_be_delivered_is_a_sign,
    }
}

#[track_caller]
fn told(net: &Net, expected: &[Sign]) {
    let signals = net.runner.model.signs();
    let signs: Vec<_> = signals.iter().map(|signal| (signal.backend(), signal.sign())).collect();
    let backend = id(net.shape.family, net.shape.mode, BACKEND);
    let expected: Vec<_> = expected.iter().map(|sign| (backend, Some(*sign))).collect();
    assert_eq!(signs, expected);
}

fn a_refused_syn_is_a_sign(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    told(net, &[]);
    net.returns(&net.answer(2000).flags(RST | ACK), CLIENT, CLIENT_MAC);
    told(net, &[Sign::Refused]);
}

fn the_end_of_a_connection_is_none(net: &mut Net) {
    net.establish(&net.first());
    net.send(&net.answer(2000).flags(RST).build());
    net.reset();
    net.reaches(&net.first(), 2000);
    net.send(&net.answer(2000).build());
    // Whoever answered is there.
    net.send(&net.first().build());
    net.send(&net.answer(2000).flags(RST).build());
    net.reset();
    net.reaches(&net.first(), 2000);
    // The client has changed its mind.
    net.send(&net.first().flags(RST).build());
    told(net, &[]);
}

fn a_sign_is_told_once_in_a_while(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    for _ in 0..50 {
        net.send(&net.first().build());
    }
    let told = net.runner.model.signs().len();
    assert!((1..=5).contains(&told), "{told}");
}

/// A datagram may come as often as it likes.
fn a_repeated_syn_is_a_sign(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    told(net, &[]);
    net.reaches(&net.first(), 2000);
    match net.shape.protocol {
        Protocol::Tcp => told(net, &[Sign::Unanswered]),
        _ => told(net, &[]),
    }
}

/// Not one that is too big, or came too far.
fn a_packet_that_cannot_be_delivered_is_a_sign(net: &mut Net) {
    let (other, unreachable) = match net.shape.family {
        Family::Ipv4 => ([[3, 4], [11, 0]], [3, 1]),
        Family::Ipv6 => ([[2, 0], [3, 0]], [1, 3]),
    };
    let (_, seen) = to_backend(net, &net.first());
    for kind in other {
        net.send(&error(net, ROUTER, &seen, 8, (kind, 1400)).build());
    }
    told(net, &[]);
    net.send(&error(net, ROUTER, &seen, 8, (unreachable, 0)).build());
    told(net, &[Sign::Unreachable]);
}
