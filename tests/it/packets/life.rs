//! The life of a flow, from its first packet to its end, as its packets and the time tell it.

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_tests::packets::Protocol;

use super::*;

cases! {
    all {
        a_tcp_flow_opens_lives_and_closes,
        a_udp_flow_is_established_by_its_answer,
        a_reset_that_its_receiver_believes_ends_a_flow,
        a_client_that_was_reset_early_comes_again_by_the_same_port,
        a_reset_with_a_number_from_nowhere_does_not,
        a_doubted_reset_shortens_the_time_of_an_idle_flow,
        a_reset_that_nobody_believed_does_not_end_a_flow,
        a_syn_a_reset_and_more_from_one_side_establish_nothing,
        a_client_that_closed_and_comes_again_begins_anew,
    }
    each_mode {
        a_syn_that_nobody_answered_is_tried_with_the_backend_of_now,
        a_flow_ends_when_it_was_silent_for_its_time,
    }
    dsr {
        a_flow_that_is_answered_elsewhere_lives_by_its_clients_packets,
    }
}

/// Each packet, and how the flow stands then.
#[track_caller]
fn tell(net: &mut Net, steps: &[(Vec<u8>, &'static str)]) {
    for (step, (frame, state)) in steps.iter().enumerate() {
        let outcome = net.send(frame);
        assert_eq!((outcome.reason, net.states()), (None, vec![*state]), "step {step}");
    }
}

fn a_tcp_flow_opens_lives_and_closes(net: &mut Net) {
    let (first, answer) = (net.first(), net.answer(2000));
    let client = |flags| first.clone().flags(flags).build();
    let backend = |flags| answer.clone().flags(flags).build();
    let steps = [
        (client(SYN), "half-open"),
        (client(SYN), "half-open"),
        (client(ACK), "half-open"),
        (backend(SYN | ACK), "half-open"),
        (client(ACK), "established"),
        (backend(ACK), "established"),
        (client(SYN), "established"),
        (client(FIN | ACK), "established"),
        (backend(ACK), "established"),
        (backend(FIN | ACK), "closing"),
        (client(ACK), "closing"),
        (client(SYN), "half-open"),
        (net.answer(2001).flags(RST | ACK).build(), "closing"),
    ];
    tell(net, &steps);
}

fn a_udp_flow_is_established_by_its_answer(net: &mut Net) {
    let (first, answer) = (net.first().udp(), net.answer(2000).udp());
    let steps = [
        (first.build(), "half-open"),
        (first.build(), "half-open"),
        (answer.build(), "established"),
        (first.build(), "established"),
    ];
    tell(net, &steps);
}

/// UDP's second datagram, and TCP's second packet, say that the client goes on.
fn a_flow_that_is_answered_elsewhere_lives_by_its_clients_packets(net: &mut Net) {
    let first = net.first();
    let client = |flags| first.clone().flags(flags).build();
    tell(net, &[(client(SYN), "half-open"), (client(ACK), "established")]);
    if net.shape.protocol == Protocol::Tcp {
        let steps = [
            (client(FIN | ACK), "closing"),
            (client(ACK), "closing"),
            (client(SYN), "half-open"),
            (client(RST), "closing"),
        ];
        tell(net, &steps);
    }
}

/// The number that the client of an established flow expects next of the backend.
const EXPECTED: u32 = 7000;
const ESTABLISHED: &str = "established";

/// An established flow; then the backend, or somebody in its name, sends a RST with this number.
fn reset_with(net: &mut Net, number: u32) {
    net.reset();
    net.establish(&net.first());
    net.send(&net.first().flags(ACK).with(|p| p.sequence.1 = EXPECTED).build());
    let reset = net.answer(2000).flags(RST).with(|p| p.sequence = (number, 0));
    net.returns(&reset, CLIENT, CLIENT_MAC);
}

const WINDOW: u32 = 1 << 24;

fn a_reset_that_its_receiver_believes_ends_a_flow(net: &mut Net) {
    for number in [EXPECTED, EXPECTED + 1, EXPECTED + WINDOW - 1] {
        reset_with(net, number);
        assert_eq!(net.states(), ["closing"]);
    }
}

/// Unless its backend takes no new flows any more.
fn a_client_that_was_reset_early_comes_again_by_the_same_port(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    // As from a backend that remembers an older connection: an acknowledgment, which the client does not believe.
    net.returns(&net.answer(2000).flags(ACK), CLIENT, CLIENT_MAC);
    for _ in 0..2 {
        net.reaches(&net.first().flags(RST), 2000);
        assert_eq!(net.states(), ["closing"]);
        net.reaches(&net.first(), 2000);
        assert_eq!(net.states(), ["half-open"]);
    }
    net.returns(&net.answer(2000), CLIENT, CLIENT_MAC);
    net.reaches(&net.first().flags(ACK), 2000);
    assert_eq!(net.states(), [ESTABLISHED]);
    // What has been a connection begins anew.
    net.send(&net.answer(2000).flags(RST).build());
    net.reaches(&net.first(), 2001);
    net.send(&net.first().flags(RST).build());
    net.replace_backend(BACKEND, SECOND_BACKEND);
    net.send(&net.first().build());
    assert_eq!(net.shares(), [(SECOND_BACKEND, 1)].into());
}

fn a_reset_with_a_number_from_nowhere_does_not(net: &mut Net) {
    for number in [EXPECTED - 1, EXPECTED + WINDOW, 0] {
        reset_with(net, number);
        assert_eq!(net.states(), [ESTABLISHED]);
    }
}

/// 300 seconds, in ticks.
const FIVE_MINUTES: u32 = 2236;

fn a_doubted_reset_shortens_the_time_of_an_idle_flow(net: &mut Net) {
    reset_with(net, 0);
    net.runner.pass_time(FIVE_MINUTES - 10);
    assert_eq!(net.runner.sweep(), 0);
    net.runner.pass_time(20);
    assert_eq!(net.runner.sweep(), 1);
    // An ordinary packet of either side ends the doubt.
    reset_with(net, 0);
    net.returns(&net.answer(2000).flags(ACK), CLIENT, CLIENT_MAC);
    net.reaches(&net.first().flags(ACK), 2000);
    net.runner.pass_time(FIVE_MINUTES + 10);
    assert_eq!(net.runner.sweep(), 0);
}

fn a_reset_that_nobody_believed_does_not_end_a_flow(net: &mut Net) {
    reset_with(net, EXPECTED);
    net.send(&net.first().flags(ACK).build());
    assert_eq!(net.states(), [ESTABLISHED]);
    net.returns(&net.answer(2000).flags(ACK), CLIENT, CLIENT_MAC);
}

fn a_syn_a_reset_and_more_from_one_side_establish_nothing(net: &mut Net) {
    for flags in [SYN, RST, ACK, ACK] {
        net.send(&net.first().flags(flags).build());
    }
    assert_eq!(net.states(), ["half-open"]);
}

fn a_client_that_closed_and_comes_again_begins_anew(net: &mut Net) {
    let (first, answer) = (net.first(), net.answer(2000));
    let client = |flags| first.clone().flags(flags).build();
    let backend = |flags| answer.clone().flags(flags).build();
    let again = |flags| net.answer(2001).flags(flags).build();
    let steps = [
        (client(SYN), "half-open"),
        (backend(SYN | ACK), "half-open"),
        (client(ACK), ESTABLISHED),
        (client(FIN | ACK), ESTABLISHED),
        (client(SYN), "half-open"),
        (again(SYN | ACK), "half-open"),
        (client(ACK), ESTABLISHED),
        // The first FIN of the new connection is not its second.
        (again(FIN | ACK), ESTABLISHED),
    ];
    tell(net, &steps);
}

/// Of UDP, and once there was an answer, a flow stays where it is.
fn a_syn_that_nobody_answered_is_tried_with_the_backend_of_now(net: &mut Net) {
    let first = net.first();
    let tcp = net.shape.protocol == Protocol::Tcp;
    net.reaches(&first, 2000);
    net.replace_backend(BACKEND, SECOND_BACKEND);
    net.send(&first.build());
    let now = if tcp { SECOND_BACKEND } else { BACKEND };
    assert_eq!(net.shares(), [(now, 1)].into());
    net.send(&net.answer_of(now, SNAT, 2000).build());
    net.send(&first.clone().flags(ACK).build());
    net.replace_backend(SECOND_BACKEND, BACKEND);
    net.send(&first.build());
    assert_eq!((net.shares(), net.states()), ([(now, 1)].into(), vec![ESTABLISHED]));
}

/// In ticks, and some more.
const CLOSING_TIME: u32 = 40;
const HALF_OPEN_TIME: u32 = 77;

fn a_flow_ends_when_it_was_silent_for_its_time(net: &mut Net) {
    let tcp = net.shape.protocol == Protocol::Tcp;
    net.reaches(&net.first(), 2000);
    net.runner.pass_time(HALF_OPEN_TIME);
    assert_eq!(net.runner.sweep(), usize::from(tcp), "half-open for ten seconds");
    net.reset();
    net.establish(&net.first());
    net.runner.pass_time(HALF_OPEN_TIME);
    assert_eq!(net.runner.sweep(), 0, "established");
    if tcp {
        net.send(&net.first().flags(RST).build());
        net.runner.pass_time(CLOSING_TIME / 2);
        assert_eq!(net.runner.sweep(), 0, "closing for two seconds");
        net.runner.pass_time(CLOSING_TIME);
        assert_eq!(net.runner.sweep(), 1, "closing for five seconds");
    }
}
