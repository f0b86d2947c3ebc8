//! The first packet of a flow: it reaches a backend whole, or it is dropped, and why.

use lb_common::abi::Mode;
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Builder, Extension, Outcome};

use super::*;

cases! {
    each_mode {
        the_first_packet_reaches_the_backend,
        that_of_a_client_beyond_a_gateway_does_too,
        data_survives,
        a_wrong_checksum_stays_wrong,
        padding_of_the_frame_is_no_part_of_the_packet,
        the_last_hop_but_one_and_the_farthest,
        time_to_live_ends_here_where_we_route,
        without_a_neighbour_it_is_dropped,
        the_listen_address_is_no_client,
        who_opens_the_same_flow_at_the_same_time_is_dropped,
    }
    each_protocol {
        a_client_that_no_route_leads_to_is_dropped,
        a_client_of_another_link_is_dropped,
    }
    all {
        a_datagram_without_checksum_keeps_none,
        a_jumbo_frame_reaches_the_backend,
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
    }
}

fn the_first_packet_reaches_the_backend(net: &mut Net) {
    net.reaches(&net.first(), 2000);
    assert_eq!(net.shares(), [(BACKEND, 1)].into());
}

fn that_of_a_client_beyond_a_gateway_does_too(net: &mut Net) {
    net.reaches(&net.from(FAR_CLIENT), 2000);
}

/// Of even and odd length, and nearly as long as the way to the backend takes.
fn data_survives(net: &mut Net) {
    for length in [0, 7, 13, 100, 1400] {
        net.reaches(&net.first().with(|p| p.payload = vec![0x55; length]), 2000);
    }
}

fn a_wrong_checksum_stays_wrong(net: &mut Net) {
    let right = net.send(&net.first().build()).frame;
    let wrong = net.send(&net.first().with(|p| p.checksum_error = 1).build()).frame;
    assert_ne!(right, wrong);
}

/// Ethernet fills short frames up; what was there stays there, behind the packet.
fn padding_of_the_frame_is_no_part_of_the_packet(net: &mut Net) {
    let from = net.first();
    let padding = [0xaa; 18];
    let outcome = net.send(&[&from.build()[..], &padding].concat());
    assert_eq!(
        outcome.frame,
        [&net.to_backend(&from, 2000).build()[..], &padding].concat()
    );
}

fn a_datagram_without_checksum_keeps_none(net: &mut Net) {
    net.reaches(&net.first().udp().with(|p| p.udp_checksum = false), 2000);
}

/// It comes in several buffers, of which the first has the headers.
fn a_jumbo_frame_reaches_the_backend(net: &mut Net) {
    net.reaches(&net.first().udp().with(|p| p.payload = vec![0x55; 8900]), 2000);
}

fn the_last_hop_but_one_and_the_farthest(net: &mut Net) {
    net.reaches(&net.first().with(|p| p.ttl = 2), 2000);
    net.reaches(&net.first().with(|p| p.ttl = 255), 2000);
}

fn time_to_live_ends_here_where_we_route(net: &mut Net) {
    for ttl in [0, 1] {
        let last = net.first().with(|p| p.ttl = ttl);
        if net.shape.mode == Mode::DsrL2 {
            net.reaches(&last, 2000);
        } else {
            net.drops(&last.build(), Reason::TtlExpired);
            assert_eq!(net.states(), [""; 0]);
        }
    }
}

fn without_a_neighbour_it_is_dropped(net: &mut Net) {
    net.drops(&net.to(&COLD).build(), Reason::NextHopUnknown);
}

fn a_client_that_no_route_leads_to_is_dropped(net: &mut Net) {
    net.drops(&net.from("198.19.99.1:2000").build(), Reason::NextHopUnknown);
}

/// On the backends' link, but here it came in from the clients'.
fn a_client_of_another_link_is_dropped(net: &mut Net) {
    net.drops(&net.from("198.18.1.77:2000").build(), Reason::NextHopUnknown);
}

fn the_listen_address_is_no_client(net: &mut Net) {
    net.drops(&net.from("198.18.0.100:2000").build(), Reason::Martian);
}

fn who_opens_the_same_flow_at_the_same_time_is_dropped(net: &mut Net) {
    let from = net.first();
    net.runner.begin_elsewhere(&from);
    net.drops(&from.build(), Reason::FlowRace);
    net.reset();
    net.reaches(&from, 2000);
}

fn options_survive(net: &mut Net) {
    for options in [vec![1, 1, 1, 0], vec![1; 40]] {
        let with_options = net.first().with(|p| p.options = options);
        net.reaches(&with_options, 2000);
        net.reaches(&with_options.udp(), 2000);
    }
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
        let extended = net.first().with(|p| p.extensions = extensions);
        net.reaches(&extended, 2000);
        net.reaches(&extended.udp(), 2000);
    }
}

fn a_source_that_cannot_be_a_clients_in_ipv4_is_dropped(net: &mut Net) {
    martians(net, &["224.0.0.18", "255.255.255.255", "127.0.0.1", "0.0.0.0"]);
}

fn a_source_that_cannot_be_a_clients_in_ipv6_is_dropped(net: &mut Net) {
    martians(net, &["ff02::12", "::1", "::", "::198.18.0.2", "::ffff:198.18.0.2"]);
}

fn martians(net: &mut Net, sources: &[&str]) {
    for source in sources {
        let source = source.parse().expect("an address");
        net.drops(&net.first().with(|p| p.source = source).build(), Reason::Martian);
    }
}

fn a_full_table_refuses_new_flows_and_keeps_the_old(net: &mut Net) {
    let (accepted, _) = fill_the_table(net);
    assert!(
        accepted.len() > 1024,
        "only {} flows fit in a table for 1,024",
        accepted.len()
    );
    for (from, outcome) in accepted {
        assert_eq!(net.send(&from.build()), outcome);
    }
}

/// Establishes flows until the next one is refused: those, and that one.
pub fn fill_the_table(net: &mut Net) -> (Vec<(Builder, Outcome)>, Builder) {
    let mut accepted = Vec::new();
    for n in 0..20_000 {
        let from = net.from(&format!("198.18.0.{}:{}", 2 + n / 4000, 2000 + n % 4000));
        // Its own first entry may have taken the last place for its second; another port lies elsewhere.
        let mut outcome = net.send(&from.build());
        for _ in 0..8 {
            if outcome.reason.is_some() {
                let full = (Some(Reason::FlowTableFull), Action::Drop);
                assert_eq!((outcome.reason, outcome.action), full);
                outcome = net.send(&from.build());
            }
        }
        if outcome.reason.is_some() {
            return (accepted, from);
        }
        net.establish(&from);
        accepted.push((from, outcome));
    }
    panic!("20,000 flows fit in a table for 1,024");
}
