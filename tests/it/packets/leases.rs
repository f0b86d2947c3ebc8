//! Addresses that a peer may have instead: served, and told to who asks, as long as the lease is held.

use lb_common::lease::{ELSEWHERE, ENDED, FOR_GOOD};
use lb_common::parse::ACK;
use lb_common::verdict::Reason;
use lb_tests::packets::{Action, Builder, Extension, Protocol, now_ns};

use super::icmp::{ROUTER, error};
use super::*;

cases! {
    each_mode {
        while_the_lease_is_held_its_address_is_served,
        when_the_lease_has_ended_nothing_is_served,
        what_a_peer_serves_passes,
        fragments_wait_for_the_lease,
        other_listens_need_none,
    }
    each_protocol {
        answers_wait_for_the_lease,
        errors_wait_for_the_lease,
    }
    ipv4 {
        who_asks_for_a_fenced_address_gets_no_answer,
        who_asks_for_another_address_is_answered,
        other_arp_passes,
    }
    ipv6 {
        who_solicits_a_fenced_address_gets_no_answer,
        who_solicits_another_address_is_answered,
        other_messages_to_a_fenced_address_pass,
    }
}

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

fn first(net: &Net) -> Builder {
    net.to(&SHARED)
}

#[track_caller]
fn is_sent_on(net: &mut Net, from: &Builder) {
    let outcome = net.send(&from.build());
    assert_eq!((outcome.action, outcome.reason), (Action::Redirect, None), "{from:?}");
}

fn while_the_lease_is_held_its_address_is_served(net: &mut Net) {
    for until in [FOR_GOOD, now_ns() + HOUR] {
        net.runner.set_leases(until);
        is_sent_on(net, &first(net));
        is_sent_on(net, &first(net).flags(ACK));
    }
}

/// A flow that there was goes on when the daemon is back.
fn when_the_lease_has_ended_nothing_is_served(net: &mut Net) {
    let (new, known) = (net.packet("198.18.0.3:2000", net.listen(&SHARED)), first(net));
    is_sent_on(net, &known);
    for until in [ENDED, now_ns() - SECOND] {
        net.runner.set_leases(until);
        net.drops(&new.build(), Reason::Fenced);
        for flags in [0x02, ACK, 0x04] {
            net.drops(&known.clone().flags(flags).build(), Reason::Fenced);
        }
    }
    assert_eq!(net.states().len(), 1);
    net.runner.set_leases(now_ns() + HOUR);
    is_sent_on(net, &known);
}

fn what_a_peer_serves_passes(net: &mut Net) {
    let (new, known) = (net.packet("198.18.0.3:2000", net.listen(&SHARED)), first(net));
    is_sent_on(net, &known);
    net.runner.set_leases(ELSEWHERE);
    net.passes(&new.build(), Reason::NotMaster);
    net.passes(&known.flags(ACK).build(), Reason::NotMaster);
}

fn fragments_wait_for_the_lease(net: &mut Net) {
    let whole = first(net).with(|p| p.payload = vec![7; 80]);
    let segment = whole.build()[whole.l4()..].to_vec();
    let [head, tail] = [0..24, 24..segment.len()].map(|part| whole.clone().fragment_of(&segment, part, 0x4242));
    is_sent_on(net, &head);
    is_sent_on(net, &tail);
    net.runner.set_leases(ENDED);
    net.drops(&head.build(), Reason::Fenced);
    net.drops(&tail.build(), Reason::Fenced);
    net.runner.set_leases(ELSEWHERE);
    net.passes(&tail.build(), Reason::NotMaster);
}

fn other_listens_need_none(net: &mut Net) {
    net.runner.set_leases(ENDED);
    net.reaches(&net.first(), 2000);
    net.runner.set_leases(ELSEWHERE);
    net.reaches(&net.first().flags(ACK), 2000);
}

/// Of a flow of the shared address, as the backend sends it.
fn answer(net: &mut Net) -> Builder {
    is_sent_on(net, &first(net));
    let backend = net.backend(SHARED_BACKEND).to_string();
    let snat = net.endpoint(&format!("{SNAT}:2000"));
    net.packet(&backend, snat)
        .macs(OUR_BACKEND_MAC, BACKEND_MAC)
        .flags(0x12)
}

fn answers_wait_for_the_lease(net: &mut Net) {
    let answer = answer(net).build();
    net.runner.set_leases(ENDED);
    net.drops(&answer, Reason::Fenced);
    net.runner.set_leases(ELSEWHERE);
    net.passes(&answer, Reason::NotMaster);
    net.runner.set_leases(FOR_GOOD);
    assert_eq!(net.send(&answer).action, Action::Tx);
}

fn errors_wait_for_the_lease(net: &mut Net) {
    let about = answer(net).turned();
    let kind = match net.shape.family {
        Family::Ipv4 => ([3, 1], 0),
        Family::Ipv6 => ([1, 0], 0),
    };
    let error = error(net, ROUTER, &about, 8, kind).build();
    net.runner.set_leases(ENDED);
    net.drops(&error, Reason::Fenced);
    net.runner.set_leases(ELSEWHERE);
    net.passes(&error, Reason::NotMaster);
    net.runner.set_leases(FOR_GOOD);
    assert_eq!(net.send(&error).reason, None);
}

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const NOBODY: [u8; 4] = [0; 4];
const ASKER: [u8; 4] = [198, 18, 0, 2];
const SHARED_ADDRESS: [u8; 4] = [198, 18, 0, 100];

/// An ARP packet in the shape of the case.
fn arp(net: &Net, operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let carrier = net.first().with(|p| p.ether_type = 0x0806);
    let mut frame = carrier.build()[..carrier.l3()].to_vec();
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(CLIENT_MAC);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame.extend([0; 18]);
    frame
}

/// One that only looks whether somebody has it, too.
fn who_asks_for_a_fenced_address_gets_no_answer(net: &mut Net) {
    for sender in [ASKER, NOBODY] {
        let asked = arp(net, REQUEST, sender, SHARED_ADDRESS);
        net.runner.set_leases(ENDED);
        net.drops(&asked, Reason::Fenced);
        net.runner.set_leases(now_ns() - SECOND);
        net.drops(&asked, Reason::Fenced);
        for until in [FOR_GOOD, now_ns() + HOUR, ELSEWHERE] {
            net.runner.set_leases(until);
            net.passes(&asked, Reason::NotIp);
        }
    }
}

fn who_asks_for_another_address_is_answered(net: &mut Net) {
    net.runner.set_leases(ENDED);
    net.passes(&arp(net, REQUEST, ASKER, [198, 18, 0, 1]), Reason::NotIp);
}

/// A reply, the announcement of whoever has the address now, and what is no ARP of IPv4.
fn other_arp_passes(net: &mut Net) {
    net.runner.set_leases(ENDED);
    net.passes(&arp(net, REPLY, SHARED_ADDRESS, ASKER), Reason::NotIp);
    net.passes(&arp(net, REPLY, ASKER, SHARED_ADDRESS), Reason::NotIp);
    net.passes(&arp(net, REQUEST, SHARED_ADDRESS, SHARED_ADDRESS), Reason::NotIp);
    let mut strange = arp(net, REQUEST, ASKER, SHARED_ADDRESS);
    let l3 = net.first().l3();
    strange[l3 + 2] = 0x86;
    net.passes(&strange, Reason::NotIp);
}

/// A message about an address: type, three bytes of nothing and the checksum, four reserved ones, the address.
fn solicitation(net: &Net, kind: u8, target: [u8; 4]) -> Builder {
    let target = match net.shape.family.address(target) {
        std::net::IpAddr::V6(address) => address.octets(),
        four @ std::net::IpAddr::V4(_) => unreachable!("{four} in a case of IPv6"),
    };
    let option = [&[1, 1][..], &CLIENT_MAC].concat();
    net.first().with(|p| {
        p.protocol = Protocol::Icmp;
        p.ttl = 255;
        p.payload = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target, &option].concat();
    })
}

const SOLICITS: u8 = 135;

fn who_solicits_a_fenced_address_gets_no_answer(net: &mut Net) {
    let asked = solicitation(net, SOLICITS, SHARED_ADDRESS);
    let behind_options = asked.clone().with(|p| {
        let content = vec![1, 4, 0, 0, 0, 0];
        p.extensions.push(Extension { number: 60, content });
    });
    for asked in [asked, behind_options].map(|p| p.build()) {
        net.runner.set_leases(ENDED);
        net.drops(&asked, Reason::Fenced);
        for until in [FOR_GOOD, ELSEWHERE] {
            net.runner.set_leases(until);
            net.passes(&asked, Reason::OtherProtocol);
        }
    }
}

fn who_solicits_another_address_is_answered(net: &mut Net) {
    net.runner.set_leases(ENDED);
    let asked = solicitation(net, SOLICITS, [198, 18, 0, 1]);
    net.passes(&asked.build(), Reason::OtherProtocol);
}

/// Advertisements, echo.
fn other_messages_to_a_fenced_address_pass(net: &mut Net) {
    net.runner.set_leases(ENDED);
    for kind in [128, 129, 134, 136] {
        let message = solicitation(net, kind, SHARED_ADDRESS);
        net.passes(&message.build(), Reason::OtherProtocol);
    }
}
