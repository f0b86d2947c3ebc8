//! The first packet of a flow: who gets it, from which port, and when nobody does.

use lb_common::parse::{ACK, RST};
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Extension, Protocol};

use super::*;

cases! {
    all {
        a_syn_reaches_the_backend_from_the_clients_own_port,
        a_datagram_reaches_the_backend_from_the_clients_own_port,
        a_syn_of_a_client_beyond_a_gateway_reaches_the_backend,
        data_on_a_syn_survives,
        datagrams_of_odd_length_survive,
        long_datagrams_survive,
        a_datagram_without_checksum_keeps_none,
        the_last_hop_but_one_and_the_farthest,
        a_wrong_checksum_stays_wrong,
        a_port_of_the_kernels_own_range_is_replaced,
        a_taken_port_is_replaced,
        without_a_backend_a_syn_is_refused,
        without_a_backend_a_datagram_is_refused,
        without_a_neighbour_it_is_dropped,
        a_client_that_no_route_leads_to_is_dropped,
        a_client_of_another_link_is_dropped,
        time_to_live_ends_here,
        the_listen_address_is_no_client,
    }
    ipv4 {
        options_survive,
        a_source_that_cannot_be_a_clients_in_ipv4_is_dropped,
    }
    ipv6 {
        extension_headers_survive,
        a_source_that_cannot_be_a_clients_in_ipv6_is_dropped,
    }
    untagged {
        a_full_table_refuses_new_flows_and_keeps_the_old,
        when_every_port_tried_is_taken_the_flow_is_refused,
    }
}

fn is_allowed(port: u16) -> bool {
    (1024..=32767).contains(&port) || port >= 61000
}

fn a_syn_reaches_the_backend_from_the_clients_own_port(net: &mut Net) {
    net.reaches(&net.syn(), 2000);
}

fn a_datagram_reaches_the_backend_from_the_clients_own_port(net: &mut Net) {
    net.reaches(&net.syn().udp(), 2000);
}

fn a_syn_of_a_client_beyond_a_gateway_reaches_the_backend(net: &mut Net) {
    net.reaches(&net.packet(FAR_CLIENT, VIP), 2000);
}

fn data_on_a_syn_survives(net: &mut Net) {
    net.reaches(&net.syn().with(|p| p.payload = b"data on a SYN".to_vec()), 2000);
}

fn datagrams_of_odd_length_survive(net: &mut Net) {
    net.reaches(&net.syn().udp().with(|p| p.payload = b"seven b".to_vec()), 2000);
}

fn long_datagrams_survive(net: &mut Net) {
    net.reaches(&net.syn().udp().with(|p| p.payload = vec![0x55; 1400]), 2000);
}

fn a_datagram_without_checksum_keeps_none(net: &mut Net) {
    net.reaches(&net.syn().udp().with(|p| p.udp_checksum = false), 2000);
}

fn the_last_hop_but_one_and_the_farthest(net: &mut Net) {
    net.reaches(&net.syn().with(|p| p.ttl = 2), 2000);
    net.reaches(&net.syn().with(|p| p.ttl = 255), 2000);
}

fn options_survive(net: &mut Net) {
    net.reaches(&net.syn().with(|p| p.options = vec![1, 1, 1, 0]), 2000);
    net.reaches(&net.syn().with(|p| p.options = vec![1; 40]), 2000);
}

/// Hop-by-hop and destination options, short and long.
fn extension_headers_survive(net: &mut Net) {
    let extension = |number, length| Extension {
        number,
        content: vec![1; length],
    };
    for extensions in [
        vec![extension(0, 6)],
        vec![extension(60, 14)],
        vec![extension(0, 6), extension(60, 6)],
        vec![extension(0, 254), extension(60, 30)],
    ] {
        net.reset();
        net.reaches(&net.syn().with(|p| p.extensions = extensions.clone()), 2000);
        net.reaches(&net.syn().udp().with(|p| p.extensions = extensions), 2000);
    }
}

fn a_wrong_checksum_stays_wrong(net: &mut Net) {
    for from in [net.syn(), net.syn().udp()] {
        let right = net.send(&from.build()).frame;
        let wrong = net.send(&from.with(|p| p.checksum_error = 1).build()).frame;
        assert_ne!(right, wrong);
    }
}

fn a_port_of_the_kernels_own_range_is_replaced(net: &mut Net) {
    let from = net.packet(EPHEMERAL_CLIENT, VIP);
    let outcome = net.send(&from.build());
    let port = net.source_port(&from, &outcome);
    assert!(is_allowed(port), "{port}");
    assert_eq!(outcome.frame, net.to_backend(&from, port));
}

fn a_taken_port_is_replaced(net: &mut Net) {
    net.reaches(&net.syn(), 2000);
    let second = net.packet("198.18.0.3:2000", VIP);
    let outcome = net.send(&second.build());
    let port = net.source_port(&second, &outcome);
    assert!(is_allowed(port) && port != 2000, "{port}");
    // And it is kept.
    net.reaches(&second, port);
}

fn without_a_backend_a_syn_is_refused(net: &mut Net) {
    let from = net.syn().with(|p| p.destination_port = 81);
    let refusal = net.own_answer(&from).flags(RST | ACK);
    let refusal = refusal.with(|p| (p.sequence, p.window) = ((0, 1001), 0));
    net.answers(&from, &refusal, Reason::NoBackend);
}

/// By ICMP, which quotes the IP header and eight bytes.
fn without_a_backend_a_datagram_is_refused(net: &mut Net) {
    let from = net.syn().udp().with(|p| p.destination_port = 81);
    let port_unreachable = if from.source.is_ipv4() { [3, 3] } else { [1, 4] };
    let quoted = from.build()[from.l3()..from.l4() + 8].to_vec();
    let refusal = net.own_answer(&from).with(|p| {
        p.protocol = Protocol::Icmp;
        p.payload = [&port_unreachable[..], &[0; 6], &quoted].concat();
    });
    net.answers(&from, &refusal, Reason::NoBackend);
}

fn without_a_neighbour_it_is_dropped(net: &mut Net) {
    let frame = net.syn().with(|p| p.destination_port = 82).build();
    net.drops(&frame, Reason::NextHopUnknown);
}

fn a_client_that_no_route_leads_to_is_dropped(net: &mut Net) {
    net.drops(&net.packet("198.19.99.1:2000", VIP).build(), Reason::NextHopUnknown);
}

/// On the backends' link, but here it came in from the clients'.
fn a_client_of_another_link_is_dropped(net: &mut Net) {
    net.drops(&net.packet("198.18.1.77:2000", VIP).build(), Reason::NextHopUnknown);
}

fn time_to_live_ends_here(net: &mut Net) {
    for ttl in [0, 1] {
        net.drops(&net.syn().with(|p| p.ttl = ttl).build(), Reason::TtlExpired);
    }
}

fn the_listen_address_is_no_client(net: &mut Net) {
    net.drops(&net.packet("198.18.0.100:2000", VIP).build(), Reason::Martian);
}

fn a_source_that_cannot_be_a_clients_in_ipv4_is_dropped(net: &mut Net) {
    for source in ["224.0.0.18", "255.255.255.255", "127.0.0.1", "0.0.0.0"] {
        let source = source.parse().expect("an address");
        net.drops(&net.syn().with(|p| p.source = source).build(), Reason::Martian);
    }
}

fn a_source_that_cannot_be_a_clients_in_ipv6_is_dropped(net: &mut Net) {
    for source in ["ff02::12", "::1", "::", "::198.18.0.2", "::ffff:198.18.0.2"] {
        let source = source.parse().expect("an address");
        net.drops(&net.syn().with(|p| p.source = source).build(), Reason::Martian);
    }
}

fn a_full_table_refuses_new_flows_and_keeps_the_old(net: &mut Net) {
    let mut accepted = Vec::new();
    let full = (0..20_000).any(|n| {
        let from = net.packet(&format!("198.18.0.{}:{}", 2 + n / 4000, 2000 + n % 4000), VIP);
        let outcome = net.send(&from.build());
        let refused = outcome.reason.is_some();
        if refused {
            let full = (Some(Reason::FlowTableFull), Action::Drop);
            assert_eq!((outcome.reason, outcome.action), full);
        } else {
            net.establish(&from);
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
        assert_eq!(net.send(&from.build()), outcome);
    }
}

fn when_every_port_tried_is_taken_the_flow_is_refused(net: &mut Net) {
    let wanting = net.syn();
    // Whichever port it would get is given to another client.
    for taken in 0..2000 {
        let outcome = net.send(&wanting.build());
        if outcome.reason.is_some() {
            let exhausted = (Some(Reason::SnatPortsExhausted), Action::Drop);
            assert_eq!((outcome.reason, outcome.action), exhausted);
            assert!(taken >= 1000, "refused with only {taken} ports taken");
            return;
        }
        let port = net.source_port(&wanting, &outcome);
        net.end_flow(&wanting);
        net.establish(&net.packet(&format!("198.18.0.3:{port}"), VIP));
    }
    panic!("2,000 ports were tried for one packet");
}
