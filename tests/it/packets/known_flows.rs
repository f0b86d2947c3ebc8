//! Packets of a flow that is there: both directions, and its way from the first SYN to its end.

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;

use super::*;

cases! {
    all {
        an_answer_comes_from_the_service_and_finds_the_client,
        an_answer_finds_a_client_beyond_a_gateway,
        a_datagram_is_answered,
        a_tcp_flow_opens_lives_and_closes,
        a_udp_flow_is_established_by_its_answer,
        a_reset_from_nowhere_does_not_end_a_flow,
        a_reset_from_nowhere_does_not_give_the_port_away,
        a_syn_a_reset_and_more_from_one_side_establish_nothing,
        a_client_that_closed_and_comes_again_begins_anew,
        a_syn_that_nobody_answered_is_tried_with_the_backend_of_now,
        time_to_live_ends_here_for_known_flows_too,
        tcp_and_udp_of_one_tuple_are_two_flows,
    }
}

fn an_answer_comes_from_the_service_and_finds_the_client(net: &mut Net) {
    net.send(&net.syn().build());
    let answer = net.answer(2000).with(|p| p.payload = b"hello".to_vec());
    net.returns(&answer, CLIENT, CLIENT_MAC);
}

fn an_answer_finds_a_client_beyond_a_gateway(net: &mut Net) {
    net.send(&net.packet(FAR_CLIENT, VIP).build());
    net.returns(&net.answer(2000), FAR_CLIENT, GATEWAY_MAC);
}

fn a_datagram_is_answered(net: &mut Net) {
    net.send(&net.syn().udp().build());
    let answer = net.answer(2000).udp().with(|p| p.payload = b"hello".to_vec());
    net.returns(&answer, CLIENT, CLIENT_MAC);
    net.returns(&answer.with(|p| p.udp_checksum = false), CLIENT, CLIENT_MAC);
}

fn a_tcp_flow_opens_lives_and_closes(net: &mut Net) {
    let syn = net.syn();
    let from_client = |flags| syn.clone().flags(flags).build();
    let answer = net.answer(2000);
    let from_backend = |flags| answer.clone().flags(flags).build();
    let steps = [
        (from_client(SYN), "half-open"),
        (from_client(SYN), "half-open"),
        (from_client(ACK), "half-open"),
        (from_backend(SYN | ACK), "half-open"),
        (from_client(ACK), "established"),
        (from_backend(ACK), "established"),
        (from_client(SYN), "established"),
        (from_client(FIN | ACK), "established"),
        (from_backend(ACK), "established"),
        (from_backend(FIN | ACK), "closing"),
        (from_client(ACK), "closing"),
        (from_client(SYN), "half-open"),
        (from_backend(RST | ACK), "closing"),
    ];
    for (step, (frame, state)) in steps.into_iter().enumerate() {
        let outcome = net.send(&frame);
        assert_eq!((outcome.reason, net.states()), (None, vec![state]), "step {step}");
    }
}

fn a_udp_flow_is_established_by_its_answer(net: &mut Net) {
    net.send(&net.syn().udp().build());
    net.send(&net.syn().udp().build());
    assert_eq!(net.states(), ["half-open"]);
    net.send(&net.answer(2000).udp().build());
    assert_eq!(net.states(), ["established"]);
}

/// An established flow, then a RST.
fn reset(net: &mut Net) {
    for frame in [net.syn(), net.answer(2000), net.syn().flags(ACK), net.syn().flags(RST)] {
        net.send(&frame.build());
    }
    assert_eq!(net.states(), ["closing"]);
}

fn a_reset_from_nowhere_does_not_end_a_flow(net: &mut Net) {
    reset(net);
    net.send(&net.syn().flags(ACK).build());
    assert_eq!(net.states(), ["established"]);
    assert_eq!(net.send(&net.answer(2000).flags(ACK).build()).reason, None);
}

fn a_reset_from_nowhere_does_not_give_the_port_away(net: &mut Net) {
    reset(net);
    let other = net.packet("198.18.0.3:2000", VIP);
    let outcome = net.send(&other.build());
    assert_ne!(net.source_port(&other, &outcome), 2000);
}

fn a_syn_a_reset_and_more_from_one_side_establish_nothing(net: &mut Net) {
    for flags in [SYN, RST, ACK, ACK] {
        net.send(&net.syn().flags(flags).build());
    }
    assert_eq!(net.states(), ["half-open"]);
}

fn a_client_that_closed_and_comes_again_begins_anew(net: &mut Net) {
    let (syn, answer) = (net.syn(), net.answer(2000));
    let from_client = |flags| syn.clone().flags(flags).build();
    for frame in [
        from_client(SYN),
        answer.build(),
        from_client(ACK),
        from_client(FIN | ACK),
        from_client(SYN),
    ] {
        net.send(&frame);
    }
    assert_eq!(net.states(), ["half-open"]);
    net.send(&answer.build());
    net.send(&from_client(ACK));
    net.send(&answer.flags(FIN | ACK).build());
    assert_eq!(
        net.states(),
        ["established"],
        "the first FIN of the new connection is not its second"
    );
}

fn a_syn_that_nobody_answered_is_tried_with_the_backend_of_now(net: &mut Net) {
    let syn = net.syn().build();
    let (first, second) = (net.endpoint(BACKEND), net.endpoint(SECOND_BACKEND));
    net.send(&syn);
    net.send(&syn);
    assert_eq!(net.backends(), [first]);
    net.replace_backend(BACKEND_ID, SECOND_BACKEND_ID);
    net.send(&syn);
    assert_eq!(net.backends(), [second]);
    // From its answer on a flow stays where it is.
    net.send(&net.answer(2000).from(second).build());
    net.replace_backend(SECOND_BACKEND_ID, BACKEND_ID);
    net.send(&syn);
    assert_eq!(net.backends(), [second]);
}

fn time_to_live_ends_here_for_known_flows_too(net: &mut Net) {
    net.send(&net.syn().build());
    let last = net.syn().flags(ACK).with(|p| p.ttl = 1).build();
    net.drops(&last, Reason::TtlExpired);
}

fn tcp_and_udp_of_one_tuple_are_two_flows(net: &mut Net) {
    net.send(&net.syn().build());
    net.send(&net.syn().udp().build());
    assert_eq!(net.states().len(), 2);
}
