//! The first packet of a flow: who gets it, from which port, and when nobody does.

use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Builder, Outcome, packet};

use super::*;

fn to_backend(from: &Builder, port: u16) -> Vec<u8> {
    from.clone()
        .macs(BACKEND_MAC, OUR_BACKEND_MAC)
        .with(|p| {
            (p.source, p.source_port) = (SNAT, port);
            (p.destination, p.destination_port) = (Ipv4Addr::new(198, 18, 1, 11), 8080);
            p.ttl -= 1;
        })
        .build()
}

fn redirected(frame: Vec<u8>) -> Outcome {
    Outcome {
        action: Action::Redirect,
        reason: None,
        frame,
    }
}

#[test]
fn a_syn_reaches_the_backend_from_the_clients_own_port() {
    let Some(mut runner) = runner("a_syn_reaches_the_backend_from_the_clients_own_port") else {
        return;
    };
    for from in [packet(CLIENT, VIP), packet(FAR_CLIENT, VIP), packet(CLIENT, VIP).udp()] {
        runner.forget_flows().unwrap();
        assert_eq!(
            runner.send(&from.build()).unwrap(),
            redirected(to_backend(&from, 2000)),
            "{from:?}"
        );
        runner.check_traffic().unwrap();
    }
}

#[test]
fn payload_options_and_checksums_survive() {
    let Some(mut runner) = runner("payload_options_and_checksums_survive") else {
        return;
    };
    let cases = [
        packet(CLIENT, VIP).udp().with(|p| p.payload = b"seven b".to_vec()),
        packet(CLIENT, VIP).udp().with(|p| p.udp_checksum = false),
        packet(CLIENT, VIP).udp().with(|p| p.payload = vec![0x55; 1400]),
        packet(CLIENT, VIP).with(|p| p.options = vec![1, 1, 1, 0]),
        packet(CLIENT, VIP).with(|p| p.options = vec![1; 40]),
        packet(CLIENT, VIP).with(|p| p.ttl = 2),
        packet(CLIENT, VIP).with(|p| p.ttl = 255),
        packet(CLIENT, VIP).with(|p| p.payload = b"data on a SYN".to_vec()),
    ];
    for from in cases {
        runner.forget_flows().unwrap();
        assert_eq!(
            runner.send(&from.build()).unwrap(),
            redirected(to_backend(&from, 2000)),
            "{from:?}"
        );
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let Some(mut runner) = runner("a_wrong_checksum_stays_wrong") else {
        return;
    };
    for from in [packet(CLIENT, VIP), packet(CLIENT, VIP).udp()] {
        runner.forget_flows().unwrap();
        let right = runner.send(&from.build()).unwrap().frame;
        let wrong = runner
            .send(&from.clone().with(|p| p.checksum_error = 1).build())
            .unwrap()
            .frame;
        assert_ne!(right, wrong, "{from:?}");
    }
}

#[test]
fn a_port_of_the_kernels_own_range_is_replaced_and_so_is_a_taken_one() {
    let Some(mut runner) = runner("a_port_of_the_kernels_own_range_is_replaced_and_so_is_a_taken_one") else {
        return;
    };
    let source_port = |frame: &[u8]| u16::from_be_bytes([frame[34], frame[35]]);
    let allowed = |port: u16| (1024..=32767).contains(&port) || port >= 61000;

    let from = packet(EPHEMERAL_CLIENT, VIP);
    let port = source_port(&runner.send(&from.build()).unwrap().frame);
    assert!(allowed(port), "{port}");

    let first = runner.send(&packet("198.18.0.2:2000", VIP).build()).unwrap();
    let second = packet("198.18.0.3:2000", VIP);
    let port = source_port(&runner.send(&second.build()).unwrap().frame);
    assert_eq!(source_port(&first.frame), 2000);
    assert!(allowed(port) && port != 2000, "{port}");
    assert_eq!(
        runner.send(&second.build()).unwrap(),
        redirected(to_backend(&second, port)),
        "and it is kept"
    );
}

#[test]
fn what_cannot_be_served_is_dropped_for_a_reason() {
    let Some(mut runner) = runner("what_cannot_be_served_is_dropped_for_a_reason") else {
        return;
    };
    let cases = [
        (packet(CLIENT, "198.18.0.100:81"), Reason::NoBackend),
        (packet(CLIENT, "198.18.0.100:81").udp(), Reason::NoBackend),
        (packet(CLIENT, "198.18.0.100:82"), Reason::NextHopUnknown),
        (packet("198.19.99.1:2000", VIP), Reason::NextHopUnknown),
        // On the backends' link, but here it came in from the clients'.
        (packet("198.18.1.77:2000", VIP), Reason::NextHopUnknown),
        (packet(CLIENT, VIP).with(|p| p.ttl = 1), Reason::TtlExpired),
        (packet(CLIENT, VIP).with(|p| p.ttl = 0), Reason::TtlExpired),
        (packet("198.18.0.100:2000", VIP), Reason::Martian),
        (packet("224.0.0.18:2000", VIP), Reason::Martian),
        (packet("255.255.255.255:2000", VIP), Reason::Martian),
        (packet("127.0.0.1:2000", VIP), Reason::Martian),
        (packet("0.0.0.0:2000", VIP), Reason::Martian),
    ];
    for (from, reason) in cases {
        let frame = from.build();
        let expected = Outcome {
            action: Action::Drop,
            reason: Some(reason),
            frame: frame.clone(),
        };
        assert_eq!(runner.send(&frame).unwrap(), expected, "{from:?}");
    }
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old() {
    let Some(mut runner) = runner("a_full_table_refuses_new_flows_and_keeps_the_old") else {
        return;
    };
    let client = |n: u32| packet(&format!("198.18.0.{}:{}", 2 + n / 4000, 2000 + n % 4000), VIP);
    let mut accepted = Vec::new();
    let full = (0..20_000).map(client).any(|from| {
        let outcome = runner.send(&from.build()).unwrap();
        let refused = outcome.reason.is_some();
        if refused {
            assert_eq!(
                (outcome.reason, outcome.action),
                (Some(Reason::FlowTableFull), Action::Drop)
            );
        } else {
            accepted.push((from, outcome));
        }
        refused
    });
    assert!(full, "20,000 flows fit in a table for 1,024");
    assert!(
        accepted.len() > 1024,
        "only {} flows fit in a table for 1,024",
        accepted.len()
    );
    for (from, outcome) in accepted {
        assert_eq!(runner.send(&from.build()).unwrap(), outcome);
    }
}

#[test]
fn when_every_port_tried_is_taken_the_flow_is_refused() {
    let Some(mut runner) = runner("when_every_port_tried_is_taken_the_flow_is_refused") else {
        return;
    };
    let wanting = packet("198.18.0.2:2000", VIP).build();
    // Whichever port it would get is first given to another client.
    let mut taken = Vec::new();
    for _ in 0..1000 {
        runner.forget_flows().unwrap();
        for port in &taken {
            let holder = packet(&format!("198.18.0.3:{port}"), VIP).build();
            assert_eq!(runner.send(&holder).unwrap().reason, None);
        }
        let outcome = runner.send(&wanting).unwrap();
        if outcome.reason.is_some() {
            assert_eq!(
                (outcome.reason, outcome.action),
                (Some(Reason::SnatPortsExhausted), Action::Drop)
            );
            assert!(taken.len() >= 16, "refused with only {taken:?} taken");
            return;
        }
        taken.push(u16::from_be_bytes([outcome.frame[34], outcome.frame[35]]));
    }
    panic!("1,000 ports were tried for one packet");
}
