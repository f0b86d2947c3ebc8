//! Packets of a flow that is there: both directions, and its way from the first SYN to its end.

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Builder, Outcome, Runner, packet};

use super::*;

/// From the backend to our SNAT port.
fn answer(port: u16) -> Builder {
    packet(BACKEND, &format!("{SNAT}:{port}"))
        .macs(OUR_BACKEND_MAC, BACKEND_MAC)
        .flags(SYN | ACK)
}

fn to_client(from: &Builder, client: &str, mac: [u8; 6]) -> Vec<u8> {
    let expected = packet(VIP, client);
    from.clone()
        .macs(mac, OUR_CLIENT_MAC)
        .with(|p| {
            (p.source, p.source_port) = (expected.source, expected.source_port);
            (p.destination, p.destination_port) = (expected.destination, expected.destination_port);
            p.ttl -= 1;
        })
        .build()
}

fn backends(runner: &Runner) -> Vec<String> {
    runner
        .kernel
        .flows()
        .iter()
        .map(|flow| flow.backend_address.to_string())
        .collect()
}

fn states(runner: &Runner) -> Vec<&'static str> {
    runner.kernel.flows().iter().map(|flow| flow.state).collect()
}

#[test]
fn an_answer_comes_from_the_service_and_finds_the_client() {
    let Some(mut runner) = runner("an_answer_comes_from_the_service_and_finds_the_client") else {
        return;
    };
    // On the link the client's own address, beyond a gateway the gateway's.
    for (client, mac) in [(CLIENT, CLIENT_MAC), (FAR_CLIENT, GATEWAY_MAC)] {
        for (first, reply) in [
            (packet(client, VIP), answer(2000)),
            (packet(client, VIP).udp(), answer(2000).udp()),
        ] {
            runner.forget_flows().unwrap();
            runner.send(&first.build()).unwrap();
            let reply = reply.with(|p| p.payload = b"hello".to_vec());
            let expected = Outcome {
                action: Action::Tx,
                reason: None,
                frame: to_client(&reply, client, mac),
            };
            assert_eq!(runner.send(&reply.build()).unwrap(), expected, "{first:?}");
            runner.check_traffic().unwrap();
        }
    }
}

#[test]
fn a_tcp_flow_opens_lives_and_closes() {
    let Some(mut runner) = runner("a_tcp_flow_opens_lives_and_closes") else {
        return;
    };
    let from_client = |flags| packet(CLIENT, VIP).flags(flags).build();
    let from_backend = |flags| answer(2000).flags(flags).build();
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
        let outcome = runner.send(&frame).unwrap();
        assert_eq!((outcome.reason, states(&runner)), (None, vec![state]), "step {step}");
    }
}

#[test]
fn a_udp_flow_is_established_by_its_answer() {
    let Some(mut runner) = runner("a_udp_flow_is_established_by_its_answer") else {
        return;
    };
    runner.send(&packet(CLIENT, VIP).udp().build()).unwrap();
    runner.send(&packet(CLIENT, VIP).udp().build()).unwrap();
    assert_eq!(states(&runner), ["half-open"]);
    runner.send(&answer(2000).udp().build()).unwrap();
    assert_eq!(states(&runner), ["established"]);
}

#[test]
fn a_reset_from_nowhere_neither_ends_a_flow_nor_gives_its_port_away() {
    let Some(mut runner) = runner("a_reset_from_nowhere_neither_ends_a_flow_nor_gives_its_port_away") else {
        return;
    };
    let data = packet(CLIENT, VIP).flags(ACK).build();
    for frame in [packet(CLIENT, VIP).build(), answer(2000).build(), data.clone()] {
        runner.send(&frame).unwrap();
    }
    runner.send(&packet(CLIENT, VIP).flags(RST).build()).unwrap();
    assert_eq!(states(&runner), ["closing"]);
    let other = runner.send(&packet("198.18.0.3:2000", VIP).build()).unwrap();
    assert_ne!(&other.frame[34..36], &2000_u16.to_be_bytes());
    runner.send(&data).unwrap();
    let mut states = states(&runner);
    states.sort_unstable();
    assert_eq!(states, ["established", "half-open"]);
    assert_eq!(runner.send(&answer(2000).flags(ACK).build()).unwrap().reason, None);
}

#[test]
fn a_syn_a_reset_and_more_from_one_side_establish_nothing() {
    let Some(mut runner) = runner("a_syn_a_reset_and_more_from_one_side_establish_nothing") else {
        return;
    };
    for flags in [SYN, RST, ACK, ACK] {
        runner.send(&packet(CLIENT, VIP).flags(flags).build()).unwrap();
    }
    assert_eq!(states(&runner), ["half-open"]);
}

#[test]
fn a_client_that_closed_and_comes_again_begins_anew() {
    let Some(mut runner) = runner("a_client_that_closed_and_comes_again_begins_anew") else {
        return;
    };
    let from_client = |flags| packet(CLIENT, VIP).flags(flags).build();
    for frame in [
        from_client(SYN),
        answer(2000).build(),
        from_client(ACK),
        from_client(FIN | ACK),
        from_client(SYN),
    ] {
        runner.send(&frame).unwrap();
    }
    assert_eq!(states(&runner), ["half-open"]);
    runner.send(&answer(2000).build()).unwrap();
    runner.send(&from_client(ACK)).unwrap();
    runner.send(&answer(2000).flags(FIN | ACK).build()).unwrap();
    assert_eq!(
        states(&runner),
        ["established"],
        "the first FIN of the new connection is not its second"
    );
}

#[test]
fn a_syn_that_nobody_answered_is_tried_with_the_backend_of_now() {
    let Some(mut runner) = runner("a_syn_that_nobody_answered_is_tried_with_the_backend_of_now") else {
        return;
    };
    let (syn, other) = (packet(CLIENT, VIP).build(), "198.18.1.13:8080");
    runner.send(&syn).unwrap();
    runner.send(&syn).unwrap();
    assert_eq!(backends(&runner), [BACKEND]);
    runner.replace_backend(BACKEND_ID, SECOND_BACKEND_ID).unwrap();
    runner.send(&syn).unwrap();
    assert_eq!(backends(&runner), [other]);
    // From its answer on a flow stays where it is.
    let answer = answer(2000).with(|p| p.source = Ipv4Addr::new(198, 18, 1, 13)).build();
    runner.send(&answer).unwrap();
    runner.replace_backend(SECOND_BACKEND_ID, BACKEND_ID).unwrap();
    runner.send(&syn).unwrap();
    assert_eq!(backends(&runner), [other]);
}

#[test]
fn time_to_live_ends_here_for_known_flows_too() {
    let Some(mut runner) = runner("time_to_live_ends_here_for_known_flows_too") else {
        return;
    };
    runner.send(&packet(CLIENT, VIP).build()).unwrap();
    let last = packet(CLIENT, VIP).flags(ACK).with(|p| p.ttl = 1).build();
    assert_eq!(
        runner.send(&last).unwrap(),
        Outcome {
            action: Action::Drop,
            reason: Some(Reason::TtlExpired),
            frame: last
        }
    );
}

#[test]
fn tcp_and_udp_of_one_tuple_are_two_flows() {
    let Some(mut runner) = runner("tcp_and_udp_of_one_tuple_are_two_flows") else {
        return;
    };
    runner.send(&packet(CLIENT, VIP).build()).unwrap();
    runner.send(&packet(CLIENT, VIP).udp().build()).unwrap();
    assert_eq!(states(&runner).len(), 2);
}
