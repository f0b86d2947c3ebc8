//! Packets of a flow that is there: to the backend, and back to the client.

use lb_common::abi::Mode;
use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;
use lb_tests::packets::{Extension, Protocol};

use super::*;

cases! {
    each_mode {
        later_packets_follow_the_first,
        time_to_live_ends_here_for_known_flows_too,
        tcp_and_udp_of_one_tuple_are_two_flows,
    }
    each_protocol {
        an_answer_comes_from_the_service_and_finds_the_client,
        an_answer_finds_a_client_beyond_a_gateway,
        an_answer_ends_with_its_time_to_live,
    }
    dsr {
        there_is_no_way_back_through_us,
    }
    all {
        an_answer_without_checksum_keeps_none,
    }
    ipv4 {
        an_answer_keeps_its_options,
    }
    ipv6 {
        an_answer_keeps_its_extension_headers,
    }
}

fn later_packets_follow_the_first(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    for flags in [SYN, ACK, ACK | 0x08, ACK | 0x20, FIN | ACK, RST] {
        net.reaches(&net.first().flags(flags).with(|p| p.payload = b"hello".to_vec()), 2000);
    }
    assert_eq!(net.states().len(), 1);
}

fn an_answer_comes_from_the_service_and_finds_the_client(net: &mut Net) {
    net.send(&net.first().build());
    for length in [0, 5, 1400] {
        let answer = net.answer(2000).with(|p| p.payload = vec![0xaa; length]);
        net.returns(&answer, CLIENT, CLIENT_MAC);
    }
}

fn an_answer_finds_a_client_beyond_a_gateway(net: &mut Net) {
    net.send(&net.from(FAR_CLIENT).build());
    net.returns(&net.answer(2000), FAR_CLIENT, GATEWAY_MAC);
}

fn an_answer_without_checksum_keeps_none(net: &mut Net) {
    net.send(&net.first().udp().build());
    let answer = net.answer(2000).udp().with(|p| p.udp_checksum = false);
    net.returns(&answer, CLIENT, CLIENT_MAC);
}

fn an_answer_keeps_its_options(net: &mut Net) {
    net.send(&net.first().build());
    net.returns(&net.answer(2000).with(|p| p.options = vec![1; 12]), CLIENT, CLIENT_MAC);
}

fn an_answer_keeps_its_extension_headers(net: &mut Net) {
    net.send(&net.first().build());
    let options = Extension {
        number: 60,
        content: vec![1; 14],
    };
    net.returns(
        &net.answer(2000).with(|p| p.extensions = vec![options]),
        CLIENT,
        CLIENT_MAC,
    );
}

fn an_answer_ends_with_its_time_to_live(net: &mut Net) {
    net.send(&net.first().build());
    net.drops(&net.answer(2000).with(|p| p.ttl = 1).build(), Reason::TtlExpired);
}

/// The backend answers from the listen's address; what it sends from its own is none of ours.
fn there_is_no_way_back_through_us(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    net.passes(&net.answer(2000).build(), Reason::NotOurs);
    let answer = net.first().turned().flags(SYN | ACK);
    net.passes(&answer.build(), Reason::NotOurs);
}

fn time_to_live_ends_here_for_known_flows_too(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    let last = net.first().flags(ACK).with(|p| p.ttl = 1);
    if net.shape.mode == Mode::DsrL2 {
        net.reaches(&last, 2000);
    } else {
        net.drops(&last.build(), Reason::TtlExpired);
    }
}

fn tcp_and_udp_of_one_tuple_are_two_flows(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    let other = match net.shape.protocol {
        Protocol::Tcp => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    net.reaches(&net.first().with(|p| p.protocol = other), 2000);
    assert_eq!(net.states().len(), 2);
}
