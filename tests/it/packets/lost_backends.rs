//! Flows of a backend that is lost: both sides of a connection learn it in a way that they believe, a datagram's sender
//! finds another backend.

use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lb_common::abi::{BackendId, Mode, NextHop, TCP};
use lb_common::flow_table::{Claimed, FlowKey, FlowMemory, Manner, TO_CLIENT, Word, at, claim};
use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_common::verdict::Reason;
use lb_common::wire::{Be16, Be32, Ether};
use lb_tests::lab::{note, skipped};
use lb_tests::packets::{Builder, packet};
use lb_userspace::core::endings::{Ending, Terms};
use lb_userspace::core::kernel::KernelState;
use lb_userspace::io::bpf::Kernel;
use lb_userspace::io::flows::{SEVERED_AT_ONCE, Sweep};

use super::*;

cases! {
    all {
        whoever_speaks_is_reset_at_the_number_it_expects,
        a_reset_is_not_answered,
        a_client_that_comes_again_begins_anew,
        a_syn_without_answer_is_no_connection_yet,
        what_has_been_closed_is_left_alone,
        a_reset_from_nowhere_hides_no_connection,
        datagrams_go_to_another_backend,
    }
    untagged {
        whoever_is_silent_is_reset_at_the_number_it_acknowledged,
        before_it_has_acknowledged_anything_nobody_is_reset,
        in_a_full_table_they_give_way_to_new_flows,
    }
}

/// From the usual client, in a connection: what it has sent and received so far.
fn from_client(net: &Net) -> Builder {
    net.first().flags(ACK).with(|p| p.sequence = (1001, 5001))
}

/// From its backend, likewise.
fn from_backend(net: &Net) -> Builder {
    net.answer(2000).flags(ACK).with(|p| p.sequence = (5001, 1001))
}

/// Both sides have said what they expect.
fn connect(net: &mut Net) {
    net.send(&net.first().build());
    net.send(&net.answer(2000).with(|p| p.sequence = (5000, 1001)).build());
    net.send(&from_client(net).build());
    assert_eq!(net.states(), ["established"]);
}

/// A RST that the sender of a packet believes.
fn reset_of(net: &Net, packet: &Builder, sequence: u32) -> Builder {
    let reset = net.own_answer(packet).flags(RST);
    reset.with(|p| (p.sequence, p.window) = ((sequence, 0), 0))
}

fn whoever_speaks_is_reset_at_the_number_it_expects(net: &mut Net) {
    connect(net);
    net.runner.lose_backends();
    assert_eq!(net.states(), ["reset"]);
    let received_more = from_client(net).with(|p| p.sequence.1 = 7777);
    net.answers(&received_more, &reset_of(net, &received_more, 7777), Reason::FlowReset);
    let data = from_client(net).with(|p| p.payload = b"more".to_vec());
    net.answers(&data, &reset_of(net, &data, 5001), Reason::FlowReset);
    let end = from_client(net).flags(FIN | ACK);
    net.answers(&end, &reset_of(net, &end, 5001), Reason::FlowReset);

    let data = from_backend(net).with(|p| p.payload = b"and more".to_vec());
    net.answers(&data, &reset_of(net, &data, 1001), Reason::FlowReset);
    assert_eq!(net.states(), ["reset"]);
}

fn a_reset_is_not_answered(net: &mut Net) {
    connect(net);
    net.runner.lose_backends();
    for packet in [from_client(net), from_backend(net)] {
        net.drops(&packet.clone().flags(RST).build(), Reason::FlowReset);
        net.drops(&packet.flags(RST | ACK).build(), Reason::FlowReset);
    }
}

fn a_client_that_comes_again_begins_anew(net: &mut Net) {
    connect(net);
    net.replace_backend(BACKEND, SECOND_BACKEND);
    net.runner.lose_backends();
    net.send(&net.first().build());
    assert_eq!(net.shares(), [(SECOND_BACKEND, 1)].into());
    assert_eq!(net.states(), ["half-open"]);
}

fn a_syn_without_answer_is_no_connection_yet(net: &mut Net) {
    net.send(&net.first().build());
    net.replace_backend(BACKEND, SECOND_BACKEND);
    assert_eq!(net.runner.lose_backends(), []);
    net.send(&net.first().build());
    assert_eq!(net.shares(), [(SECOND_BACKEND, 1)].into());
    let late = net.answer(2000).with(|p| p.sequence = (5000, 1001)).flags(SYN | ACK);
    net.passes(&late.build(), Reason::NotOurs);
}

fn what_has_been_closed_is_left_alone(net: &mut Net) {
    connect(net);
    net.send(&from_client(net).flags(FIN | ACK).build());
    net.send(&from_backend(net).flags(FIN | ACK).build());
    assert_eq!(net.runner.lose_backends(), []);
    assert_eq!(net.states(), ["closing"]);
    net.reaches(&from_client(net), 2000);
}

/// The peers of a connection may not have believed it.
fn a_reset_from_nowhere_hides_no_connection(net: &mut Net) {
    connect(net);
    net.send(&from_backend(net).flags(RST).build());
    assert_eq!(net.states(), ["closing"]);
    net.runner.lose_backends();
    let packet = from_client(net);
    net.answers(&packet, &reset_of(net, &packet, 5001), Reason::FlowReset);
}

fn datagrams_go_to_another_backend(net: &mut Net) {
    let datagram = net.first().udp();
    net.send(&datagram.build());
    net.send(&net.answer(2000).udp().build());
    net.replace_backend(BACKEND, SECOND_BACKEND);
    assert_eq!(net.runner.lose_backends(), []);
    assert!(net.states().is_empty());
    net.send(&datagram.build());
    assert_eq!(net.shares(), [(SECOND_BACKEND, 1)].into());
}

fn whoever_is_silent_is_reset_at_the_number_it_acknowledged(net: &mut Net) {
    connect(net);
    net.send(&from_backend(net).with(|p| p.sequence.1 = 1500).build());
    let to_client = reset_of(net, &from_client(net), 5001);
    let to_backend = reset_of(net, &from_backend(net), 1500);
    let expected = [(CLIENT_SIDE, to_client.build()), (BACKEND_SIDE, to_backend.build())];
    assert_eq!(net.runner.lose_backends(), expected);
    // Once is enough: whoever did not hear it is answered when it speaks.
    assert_eq!(net.runner.lose_backends(), []);
}

fn before_it_has_acknowledged_anything_nobody_is_reset(net: &mut Net) {
    net.send(&net.first().build());
    net.send(&net.answer(2000).with(|p| p.sequence = (5000, 1001)).build());
    let to_backend = reset_of(net, &from_backend(net), 1001);
    assert_eq!(net.runner.lose_backends(), [(BACKEND_SIDE, to_backend.build())]);
}

/// Those whose connections were reset come back at once, all of them.
fn in_a_full_table_they_give_way_to_new_flows(net: &mut Net) {
    let (_, refused) = new_flows::fill_the_table(net);
    net.drops(&refused.build(), Reason::FlowTableFull);
    net.runner.lose_backends();
    net.replace_backend(BACKEND, SECOND_BACKEND);
    assert_eq!(net.send(&refused.build()).reason, None);
}

const MANY: u32 = 100_000;
const MANYS_BACKEND: BackendId = 1;
const LISTEN: &str = "198.18.0.100:80";
const RESET: Terms = Terms {
    idle_timeout: Some(Duration::MAX),
    ending: Some(Ending::Reset),
};

/// Each step is short, so that whatever else the daemon has to do need not wait.
#[test]
fn a_hundred_thousand_connections_are_severed_in_small_steps() {
    if skipped("a_hundred_thousand_connections_are_severed_in_small_steps") {
        return;
    }
    let kernel = kernel("many", MANY);
    let table = &kernel.flows().ipv4;
    let connected = (0..MANY).filter(|n| connect_in(table, *n)).count() as u64;
    assert!(connected > u64::from(MANY) * 99 / 100, "{connected}");

    let (mut all, mut longest) = (0, Duration::ZERO);
    let mut sweep = Sweep::new([(MANYS_BACKEND, RESET)].into());
    let report = loop {
        let (begun, mut frames) = (Instant::now(), 0);
        let swept = kernel
            .flows()
            .sweep(sweep, &KernelState::default(), &mut |_, _| frames += 1);
        if frames > 0 {
            longest = longest.max(begun.elapsed());
        }
        assert!(frames <= 2 * SEVERED_AT_ONCE, "{frames} frames in one step");
        all += frames;
        match swept {
            Ok(report) => break report,
            Err(under_way) => sweep = under_way,
        }
    };
    note(&format!(
        "{connected} connections severed; the longest step took {longest:?}"
    ));
    assert_eq!((all, report.severed[&MANYS_BACKEND]), (2 * connected, connected));
    assert_eq!(report.flows[&MANYS_BACKEND], connected);
}

/// Where the backend answers the client itself, only that can be told, and by its route.
#[test]
fn a_client_whose_answers_do_not_pass_here_is_reset_by_its_route() {
    if skipped("a_client_whose_answers_do_not_pass_here_is_reset_by_its_route") {
        return;
    }
    let kernel = kernel("one-way", 1024);
    // The second one is on the link, where nobody has asked for its neighbour.
    for client in [FAR_CLIENT, CLIENT] {
        connect_one_way(&kernel.flows().ipv4, client);
    }
    let mut told = Vec::new();
    let send = &mut |ifindex, frame: &[u8]| told.push((ifindex, frame.to_vec()));
    let mut sweep = Sweep::new([(MANYS_BACKEND, RESET)].into());
    let report = loop {
        match kernel.flows().sweep(sweep, &state(), send) {
            Ok(report) => break report,
            Err(under_way) => sweep = under_way,
        }
    };
    let reset = packet(LISTEN, FAR_CLIENT).flags(RST).macs(GATEWAY_MAC, OUR_CLIENT_MAC);
    let reset = reset.with(|p| (p.identification, p.sequence, p.window) = (0, (5001, 0), 0));
    assert_eq!(told, [(CLIENT_SIDE, reset.build())]);
    assert_eq!(report.severed[&MANYS_BACKEND], 2);
}

fn connect_one_way(table: &impl FlowMemory<Be32>, client: &str) {
    let address = |text: &str| text.parse::<SocketAddrV4>().expect("address:port");
    let (client, listen) = (address(client), address(LISTEN));
    let key = FlowKey {
        source: Be32::from(*client.ip()),
        destination: Be32::from(*listen.ip()),
        source_port: Be16::new(client.port()),
        destination_port: Be16::new(listen.port()),
        protocol: TCP,
    };
    let Claimed::Ours(claim) = claim(table, &key) else {
        panic!("an empty table has room");
    };
    claim.fill(table, (&key, &key), &NextHop::default(), claim.index, 1);
    let manner = Manner {
        mode: Mode::DsrL2,
        lease: 0,
    };
    claim.publish::<Be32, _>(table, MANYS_BACKEND, manner, 0);
    establish(table, claim.index, 5001);
}

/// Of its own, gone with it.
fn kernel(name: &str, max_flows: u32) -> Kernel {
    let pin_dir = PathBuf::from(format!("/sys/fs/bpf/naru-lab-{}-{name}", std::process::id()));
    let kernel = Kernel::open(&pin_dir, max_flows).expect("a kernel of its own");
    fs::remove_dir_all(&pin_dir).expect("its pins");
    kernel
}

/// An established flow of a client of its own, as the program would put it into the table.
fn connect_in(table: &impl FlowMemory<Be32>, client: u32) -> bool {
    let key = FlowKey {
        source: Be32::new(0xc613_0000 + client / 50_000),
        destination: Be32::new(0xc612_0064),
        source_port: Be16::new((10_000 + client % 50_000) as u16),
        destination_port: Be16::new(80),
        protocol: TCP,
    };
    let reply = FlowKey {
        source: Be32::new(0xc612_010b),
        destination: Be32::new(0xc612_0101 + client / 50_000),
        source_port: Be16::new(8080),
        destination_port: key.source_port,
        protocol: TCP,
    };
    let Claimed::Ours(to_client) = claim(table, &reply) else {
        return false;
    };
    let Claimed::Ours(to_backend) = claim(table, &key) else {
        to_client.abandon(table);
        return false;
    };
    let hop = NextHop {
        ether: Ether::new([2; 6], [4; 6]),
        ifindex: CLIENT_SIDE,
    };
    to_client.fill(table, (&reply, &key), &hop, to_backend.index, 1);
    to_backend.fill(table, (&key, &reply), &hop, to_client.index, 1);
    to_client.publish::<Be32, _>(table, MANYS_BACKEND, Manner::default(), TO_CLIENT);
    to_backend.publish::<Be32, _>(table, MANYS_BACKEND, Manner::default(), 0);
    for claim in [to_client, to_backend] {
        establish(table, claim.index, 1 + client);
    }
    true
}

fn establish(table: &impl FlowMemory<Be32>, index: u32, acknowledged: u32) {
    let direction = at(table, index).expect("what was published");
    direction.entry.acknowledge(acknowledged);
    direction.change(table, Word::confirmed);
}
