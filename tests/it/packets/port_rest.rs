//! Ports that a server still remembers: on which a new client's SYN is taken as it is, with shifted timestamps, or not at all.

use lb_common::parse::{ACK, FIN, RST, SYN};
use lb_tests::packets::Builder;

use super::*;

cases! {
    all {
        a_syn_older_than_the_last_connection_gets_newer_timestamps,
        a_server_that_closes_at_the_same_moment_remembers_too,
        timestamps_may_stand_anywhere_among_the_options,
        a_shifted_flow_takes_its_shift_into_the_next_one,
        a_newer_syn_keeps_its_timestamps,
        a_client_that_closed_first_leaves_nothing_to_remember,
        without_timestamps_a_port_with_a_lower_number_is_taken,
    }
}

const OLD: &str = "198.18.0.3:2000";
const LAST: u32 = 1_000_000;
/// Behind `LAST`, so that it takes 16 units to come before it.
const BEHIND: u32 = 5_000;
const SHIFT: u32 = 16 << 16;

/// As Linux has them in a SYN.
fn in_a_syn(value: u32, echo: u32) -> Vec<u8> {
    let stamps = [&[8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat();
    [&[2, 4, 5, 0xb4, 4, 2][..], &stamps, &[1, 3, 3, 7]].concat()
}

/// As everybody has them later.
fn later(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// At an odd place, behind options that nobody knows.
fn odd(value: u32, echo: u32) -> Vec<u8> {
    let stamps = [&[8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat();
    [&[253, 3, 9][..], &stamps, &[1, 1, 0]].concat()
}

type Layout = fn(u32, u32) -> Vec<u8>;

fn with(packet: Builder, flags: u8, options: Vec<u8>) -> Builder {
    packet.flags(flags).with(|p| p.tcp_options = options)
}

/// The server's last packet: it has seen the client's FIN, and its clock.
fn acknowledges_the_end(net: &Net, sequence: u32, seen: Option<u32>) -> Builder {
    let options = seen.map_or(Vec::new(), |seen| later(7, seen));
    with(net.answer(2000), ACK, options).with(|p| p.sequence.1 = sequence)
}

#[derive(Clone, Copy)]
enum First {
    Server,
    Client,
    /// Each before it has seen the other's.
    Both,
}

/// A connection from port 2000 of ours that ends; what the server has seen of its client last.
fn remember(net: &mut Net, seen: Option<u32>, first: First) {
    net.next_port(2000);
    let client = net.from(OLD);
    net.establish(&client);
    let fin = client.clone().flags(FIN | ACK);
    let end = |acknowledged| {
        net.answer(2000)
            .flags(FIN | ACK)
            .with(|p: &mut Builder| p.sequence.1 = acknowledged)
    };
    let last = acknowledges_the_end(net, 1001, seen);
    let frames = match first {
        First::Server => vec![end(1000), fin, last],
        First::Both => vec![fin, end(1000), last],
        First::Client => vec![fin, end(1001), client.clone().flags(ACK)],
    };
    for frame in frames {
        assert_eq!(net.send(&frame.build()).reason, None);
    }
    assert_eq!(net.states(), ["closing"]);
    net.runner.end_flow(&client);
    net.next_port(2000);
}

/// A client's packet reaches the server, its clock so much ahead.
fn reaches_ahead(net: &mut Net, from: &Builder, options: [Vec<u8>; 2]) {
    let [sent, arrived] = options;
    let from = from.clone().with(|p| p.tcp_options = sent);
    let expected = net.to_backend(&from, 2000).with(|p| p.tcp_options = arrived);
    net.becomes(&from.build(), &expected);
}

/// The server's packet reaches the client, which sees its own clock again.
fn returns_behind(net: &mut Net, flags: u8, options: [Vec<u8>; 2]) {
    let [sent, arrived] = options;
    let answer = with(net.answer(2000), flags, sent);
    let expected = net
        .to_client(&answer, CLIENT, CLIENT_MAC)
        .with(|p| p.tcp_options = arrived);
    net.comes_back_as(&answer.build(), &expected);
}

fn lives_shifted(net: &mut Net, first: Layout, others: Layout) {
    let now = BEHIND + SHIFT;
    let syn = net.first();
    reaches_ahead(net, &syn, [first(BEHIND, 0), first(now, 0)]);
    reaches_ahead(net, &syn, [first(BEHIND + 9, 0), first(now + 9, 0)]);
    returns_behind(net, SYN | ACK, [first(77, now), first(77, BEHIND)]);
    let data = syn.clone().flags(ACK).with(|p| p.payload = b"from the client".to_vec());
    reaches_ahead(net, &data, [others(BEHIND + 20, 78), others(now + 20, 78)]);
    assert_eq!(net.states(), ["established"]);
    returns_behind(net, ACK, [others(79, now + 20), others(79, BEHIND + 20)]);
    // An echo that acknowledges nothing is none.
    returns_behind(net, 0, [others(79, 5), others(79, 5)]);
    // Resets seldom have options.
    reaches_ahead(net, &syn.clone().flags(RST), [Vec::new(), Vec::new()]);
    returns_behind(net, RST, [Vec::new(), Vec::new()]);
}

fn a_syn_older_than_the_last_connection_gets_newer_timestamps(net: &mut Net) {
    remember(net, Some(LAST), First::Server);
    lives_shifted(net, in_a_syn, later);
}

fn a_server_that_closes_at_the_same_moment_remembers_too(net: &mut Net) {
    remember(net, Some(LAST), First::Both);
    let client = net.first();
    reaches_ahead(net, &client, [in_a_syn(BEHIND, 0), in_a_syn(BEHIND + SHIFT, 0)]);
}

fn timestamps_may_stand_anywhere_among_the_options(net: &mut Net) {
    remember(net, Some(LAST), First::Server);
    lives_shifted(net, odd, odd);
}

fn a_shifted_flow_takes_its_shift_into_the_next_one(net: &mut Net) {
    remember(net, Some(LAST), First::Server);
    let client = net.first();
    let now = BEHIND + SHIFT;
    reaches_ahead(net, &client, [in_a_syn(BEHIND, 0), in_a_syn(now, 0)]);
    returns_behind(net, SYN | ACK, [in_a_syn(77, now), in_a_syn(77, BEHIND)]);
    reaches_ahead(net, &client.clone().flags(ACK), [later(BEHIND, 77), later(now, 77)]);
    returns_behind(net, FIN | ACK, [later(78, now), later(78, BEHIND)]);
    reaches_ahead(
        net,
        &client.clone().flags(FIN | ACK),
        [later(BEHIND + 1, 78), later(now + 1, 78)],
    );
    let last = acknowledges_the_end(net, 1001, Some(now + 1));
    assert_eq!(net.send(&last.build()).reason, None);
    net.runner.end_flow(&client);
    net.next_port(2000);
    // One more unit than the one before had.
    let other = net.from("198.18.0.4:2000");
    reaches_ahead(net, &other, [in_a_syn(BEHIND, 0), in_a_syn(now + (1 << 16), 0)]);
}

fn a_newer_syn_keeps_its_timestamps(net: &mut Net) {
    remember(net, Some(LAST), First::Server);
    let newer = [in_a_syn(LAST + 1, 0), in_a_syn(LAST + 1, 0)];
    let client = net.first();
    reaches_ahead(net, &client, newer);
    // Half of all numbers are.
    net.runner.end_flow(&client);
    net.next_port(2000);
    let far = LAST + 0x7fff_ffff;
    reaches_ahead(net, &client, [in_a_syn(far, 0), in_a_syn(far, 0)]);
}

fn a_client_that_closed_first_leaves_nothing_to_remember(net: &mut Net) {
    remember(net, Some(LAST), First::Client);
    let client = net.first();
    reaches_ahead(net, &client, [in_a_syn(BEHIND, 0), in_a_syn(BEHIND, 0)]);
}

fn without_timestamps_a_port_with_a_lower_number_is_taken(net: &mut Net) {
    // The server expects the number 1001.
    remember(net, None, First::Server);
    let newer = net.first().with(|p| p.sequence.0 = 1002);
    net.reaches(&newer, 2000);
    net.runner.end_flow(&newer);
    for (last, sequence) in [(None, 1001), (Some(LAST), 1002)] {
        net.reset();
        remember(net, last, First::Server);
        let older = net.first().with(|p| p.sequence.0 = sequence);
        let outcome = net.send(&older.build());
        let port = net.source_port(&older, &outcome);
        assert_ne!(port, 2000, "{last:?}");
        net.reaches(&older, port);
    }
}
