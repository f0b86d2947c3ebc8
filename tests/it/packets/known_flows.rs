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
fn the_port_of_a_closed_flow_serves_again_at_once() {
    let Some(mut runner) = runner("the_port_of_a_closed_flow_serves_again_at_once") else {
        return;
    };
    runner.send(&packet("198.18.0.2:2000", VIP).build()).unwrap();
    runner.send(&answer(2000).flags(RST).build()).unwrap();
    let other = runner.send(&packet("198.18.0.3:2000", VIP).build()).unwrap();
    assert_eq!(&other.frame[34..36], &2000_u16.to_be_bytes());
    assert_eq!(
        runner
            .kernel
            .flows()
            .iter()
            .map(|flow| flow.client.to_string())
            .collect::<Vec<_>>(),
        ["198.18.0.3:2000"]
    );
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
