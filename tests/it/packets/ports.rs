//! Source ports and addresses towards backends: which are taken, when, and what becomes of those of flows that are over.

use lb_common::parse::{ACK, FIN, RST};
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Builder};

use super::*;

cases! {
    each_protocol {
        ports_come_in_turn_and_none_of_the_kernels_own_range,
        a_taken_port_is_replaced,
        a_half_open_flow_that_is_silent_gives_up_its_port,
        the_ninth_half_open_flow_gives_up_its_port,
        a_handshake_among_established_flows_keeps_its_port,
        several_addresses_are_all_used,
        from_several_addresses_one_port_serves_several_clients,
    }
    all {
        a_closed_flow_gives_up_its_port_after_a_second,
        a_flow_that_was_reset_gives_up_its_port_after_a_second,
        an_established_flow_keeps_its_port,
    }
    untagged {
        when_every_port_tried_is_taken_the_flow_is_refused,
    }
}

/// Ticks of an eighth of a second: just more than the second that a port rests.
const A_SECOND: u32 = 9;

fn is_allowed(port: u16) -> bool {
    (1024..=32767).contains(&port) || port >= 61000
}

/// The port of ours that a client's first packet leaves by.
#[track_caller]
fn port_of(net: &mut Net, from: &Builder) -> u16 {
    let outcome = net.send(&from.build());
    let port = net.source_port(from, &outcome);
    assert!(is_allowed(port), "{port}");
    assert_eq!(outcome.frame, net.to_backend(from, port).build());
    port
}

fn ports_come_in_turn_and_none_of_the_kernels_own_range(net: &mut Net) {
    for ports in [[1024, 1025, 1026], [32_766, 32_767, 61_000], [65_534, 65_535, 1024]] {
        net.reset();
        net.next_port(ports[0]);
        for (port, host) in ports.into_iter().zip(2..) {
            let client = format!("198.18.0.{host}:40000");
            // And it is kept.
            net.reaches(&net.from(&client), port);
            net.reaches(&net.from(&client), port);
            net.returns(&net.answer(port), &client, CLIENT_MAC);
        }
    }
}

const OTHER_CLIENT: &str = "198.18.0.3:2000";

fn a_taken_port_is_replaced(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    net.next_port(2000);
    let other = net.from(OTHER_CLIENT);
    let port = port_of(net, &other);
    assert_ne!(port, 2000);
    net.reaches(&other, port);
    net.returns(&net.answer(port), OTHER_CLIENT, CLIENT_MAC);
    net.returns(&net.answer(2000), CLIENT, CLIENT_MAC);
}

/// Only when four others were met.
fn a_half_open_flow_that_is_silent_gives_up_its_port(net: &mut Net) {
    let wanting = net.first();
    let taken = take(net, &wanting, 8);
    net.runner.pass_time(A_SECOND);
    net.next_port(taken[0]);
    let port = port_of(net, &wanting);
    assert!(taken[4..].contains(&port), "{port} of {taken:?}");
}

/// As in a flood.
fn the_ninth_half_open_flow_gives_up_its_port(net: &mut Net) {
    let wanting = net.first();
    let taken = take(net, &wanting, 9);
    net.next_port(taken[0]);
    assert_eq!(port_of(net, &wanting), taken[8]);
}

fn a_handshake_among_established_flows_keeps_its_port(net: &mut Net) {
    let wanting = net.first();
    let taken = take(net, &wanting, 8);
    for _ in 0..20 {
        net.next_port(taken[0]);
        let port = port_of(net, &wanting);
        assert!(!taken.contains(&port), "{port} of {taken:?}");
        net.runner.end_flow(&wanting);
        net.next_port(port);
        net.establish(&net.from(&format!("198.18.0.3:{port}")));
    }
}

/// Gives so many ports that a packet would get, one after the other, to another client, which opens flows and no more.
fn take(net: &mut Net, wanting: &Builder, count: usize) -> Vec<u16> {
    let one = |_| {
        net.next_port(2000);
        let port = port_of(net, wanting);
        net.runner.end_flow(wanting);
        net.next_port(port);
        net.reaches(&net.from(&format!("198.18.0.3:{port}")), port);
        port
    };
    (0..count).map(one).collect()
}

fn several_addresses_are_all_used(net: &mut Net) {
    let mut used = BTreeMap::<_, u32>::new();
    for n in 0..60 {
        let client = format!("198.18.0.{}:2000", 2 + n);
        let from = net.packet(&client, net.listen(&POOL));
        let frame = net.send(&from.build()).frame;
        let flow = net
            .runner
            .kernel
            .flows()
            .iter()
            .find(|flow| flow.client == net.endpoint(&client));
        let snat = flow.expect("a flow of this client").snat;
        *used.entry(snat.ip()).or_default() += 1;
        let expected = net
            .translated(&from, snat.port())
            .from(snat)
            .to(net.backend(POOL_BACKEND));
        assert_eq!(frame, expected.build());
    }
    let pool: Vec<_> = (1..=POOL_SIZE)
        .map(|n| net.shape.family.address([198, 18, 1, n]))
        .collect();
    assert_eq!(used.keys().copied().collect::<Vec<_>>(), pool);
    assert!(used.values().all(|flows| *flows > 5), "{used:?}");
}

fn from_several_addresses_one_port_serves_several_clients(net: &mut Net) {
    let clients: Vec<_> = (2..40).map(|n| format!("198.18.0.{n}:2000")).collect();
    for client in &clients {
        net.send(&net.packet(client, net.listen(&POOL)).build());
    }
    let flows: Vec<_> = net.runner.kernel.flows().iter().collect();
    let first = flows.iter().map(|flow| flow.snat.port()).min().expect("flows");
    let own: Vec<_> = flows.iter().filter(|flow| flow.snat.port() == first + 1).collect();
    assert_eq!(own.len(), usize::from(POOL_SIZE), "{flows:?}");
    for flow in own {
        let answer = net
            .answer_of(POOL_BACKEND, SNAT, first + 1)
            .with(|p| p.destination = flow.snat.ip());
        let expected = net
            .to_client(&answer, CLIENT, CLIENT_MAC)
            .from(flow.listen)
            .to(flow.client);
        net.comes_back_as(&answer.build(), &expected);
    }
}

/// The flow of the usual client came to its end, and another client wants its port.
fn ends_and_rests(net: &mut Net, ends: &[Builder]) {
    net.establish(&net.first());
    for end in ends {
        net.send(&end.build());
    }
    assert_eq!(net.states(), ["closing"]);
    let early = net.from(OTHER_CLIENT);
    net.next_port(2000);
    assert_ne!(port_of(net, &early), 2000);
    net.runner.end_flow(&early);
    net.runner.pass_time(A_SECOND);
    net.next_port(2000);
    net.reaches(&early, 2000);
    net.returns(&net.answer(2000), OTHER_CLIENT, CLIENT_MAC);
}

fn a_closed_flow_gives_up_its_port_after_a_second(net: &mut Net) {
    let ends = [
        net.first().flags(FIN | ACK),
        net.answer(2000).flags(FIN | ACK),
        net.first().flags(ACK),
    ];
    ends_and_rests(net, &ends);
}

fn a_flow_that_was_reset_gives_up_its_port_after_a_second(net: &mut Net) {
    ends_and_rests(net, &[net.answer(2000).flags(RST)]);
}

fn an_established_flow_keeps_its_port(net: &mut Net) {
    net.establish(&net.first());
    net.runner.pass_time(1000 * A_SECOND);
    net.next_port(2000);
    assert_ne!(port_of(net, &net.from(OTHER_CLIENT)), 2000);
    net.reaches(&net.first().flags(ACK), 2000);
}

fn when_every_port_tried_is_taken_the_flow_is_refused(net: &mut Net) {
    let first = net.first();
    let taken = take_all_ports(net, &first);
    assert!(taken >= 1000, "refused with only {taken} ports taken");
}

/// Whichever port a first packet would get is given to another client, until there is none as long as port 2000 comes
/// next; tells how many.
pub fn take_all_ports(net: &mut Net, wanting: &Builder) -> usize {
    for taken in 0..2000 {
        net.next_port(2000);
        let outcome = net.send(&wanting.build());
        if outcome.reason.is_some() {
            let exhausted = (Some(Reason::SnatPortsExhausted), Action::Drop);
            assert_eq!((outcome.reason, outcome.action), exhausted);
            return taken;
        }
        let port = net.source_port(wanting, &outcome);
        net.runner.end_flow(wanting);
        net.next_port(port);
        net.establish(&net.from(&format!("198.18.0.3:{port}")));
    }
    panic!("2,000 ports were tried for one packet");
}
