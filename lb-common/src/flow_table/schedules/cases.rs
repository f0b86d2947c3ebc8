//! What CPUs and the daemon may do at the same moment, and every way that may end.
//!
//! An ending tells how it went for each CPU, then which flows there are: the client, the entry towards the backend and
//! the one towards the client. What must never be, `world` knows.
//!
//! Long because: each case is short, and they are read side by side.

use std::boxed::Box;
use std::collections::BTreeSet;
use std::env;
use std::format;
use std::net::Ipv4Addr;
use std::string::String;

use super::Bound::{self, AllSchedules, Interruptions};
use super::endings;
use super::world::{BACKENDS, Bytes, Key, LISTEN, SNAT, Story, World};
use crate::abi::{TCP, UDP};
use crate::flow_table::FlowKey;
use crate::parse::{ACK, FIN, RST, SYN};
use crate::wire::{Be16, Be32};

#[track_caller]
fn check(bound: Bound, world: &World, stories: &[Story], expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|ending| String::from(*ending)).collect();
    let deeper = match bound {
        AllSchedules => bound,
        Interruptions(least) => Interruptions(
            env::var("NARU_INTERRUPTIONS")
                .map_or(least, |number| number.parse().map_or(least, |wanted| least.max(wanted))),
        ),
    };
    let found = endings(deeper, world, stories);
    if deeper == bound {
        assert_eq!(found, expected);
    } else {
        assert!(found.is_superset(&expected), "found only {found:#?}");
    }
}

const fn key(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), protocol: u8) -> Key {
    FlowKey {
        source: Be32::new(source.0.to_bits()),
        destination: Be32::new(destination.0.to_bits()),
        source_port: Be16::new(source.1),
        destination_port: Be16::new(destination.1),
        protocol,
    }
}

/// From a client.
const fn from(client: u8, port: u16) -> Key {
    key((Ipv4Addr::new(198, 18, 0, client), port), (LISTEN, 80), TCP)
}

/// From the backend, to a port of ours.
const fn answer(port: u16) -> Key {
    key((BACKENDS[0], 8080), (SNAT, port), TCP)
}

const KEY: Key = from(2, 2000);
/// Of another client, who wants the same port towards the backend.
const RIVAL: Key = from(3, 2000);
/// The backend's, to either.
const BACK: Key = answer(2000);
/// Of somebody else.
const OTHER: Key = from(4, 4000);

fn packet(key: Key, flags: u8) -> Story {
    Box::new(move |world| world.packet(Bytes::new(&key, flags, 1)))
}

/// A RST from nowhere.
fn stray(key: Key) -> Story {
    Box::new(move |world| world.packet(Bytes::new(&key, RST, 1 << 30)))
}

fn sweep() -> Story {
    Box::new(World::sweep)
}

fn moves() -> Story {
    Box::new(World::moves)
}

fn severs() -> Story {
    Box::new(World::severs)
}

/// One after the other.
fn both(first: Story, second: Story) -> Story {
    Box::new(move |world| format!("{} and {}", first(world), second(world)))
}

/// So large that windows seldom meet.
const ROOM: usize = 64;

fn after(world: World, packets: &[(Key, u8)]) -> World {
    let send = |world: World, (key, flags): &(Key, u8)| world.after(&packet(*key, *flags), "sent");
    packets.iter().fold(world, send)
}

fn half_open() -> World {
    after(World::of(ROOM), &[(KEY, SYN)])
}

fn answered() -> World {
    after(half_open(), &[(BACK, SYN | ACK)])
}

fn established() -> World {
    after(answered(), &[(KEY, ACK)])
}

fn reset() -> World {
    after(established(), &[(KEY, RST)])
}

/// The backend's answer was none that the client believes.
fn refused() -> World {
    after(half_open(), &[(BACK, ACK), (KEY, RST)])
}

fn over() -> World {
    after(established(), &[(KEY, FIN | ACK), (BACK, FIN | ACK)]).later()
}

/// Of an established flow, which nothing may touch, and one that lacks only its client's confirmation.
fn full() -> World {
    let other = [(RIVAL, SYN), (BACK, SYN | ACK), (RIVAL, ACK)];
    after(
        after(World::of(4), &other),
        &[(from(2, 3000), SYN), (answer(3000), SYN | ACK)],
    )
}

#[test]
fn a_syn_that_comes_twice_opens_one_flow() {
    let syns = [packet(KEY, SYN), packet(KEY, SYN)];
    let ways = [
        "flow_race, flow_race; ",
        "flow_race, sent; 2 half-open",
        "sent, flow_race; 2 half-open",
        "sent, sent; 2 half-open",
    ];
    check(AllSchedules, &World::of(ROOM).one_way(), &syns, &ways);
    let ways = [
        "flow_race, flow_race; ",
        "flow_race, sent; 2 half-open/half-open",
        "sent, flow_race; 2 half-open/half-open",
        "sent, sent; 2 half-open/half-open",
    ];
    check(Interruptions(3), &World::of(ROOM), &syns, &ways);
    // After the end of the flow that there was.
    check(Interruptions(2), &over(), &syns, &ways);
}

#[test]
fn a_syn_that_comes_thrice_opens_one_flow() {
    let ways = [
        "flow_race, flow_race, flow_race; ",
        "flow_race, flow_race, sent; 2 half-open",
        "flow_race, sent, flow_race; 2 half-open",
        "flow_race, sent, sent; 2 half-open",
        "sent, flow_race, flow_race; 2 half-open",
        "sent, flow_race, sent; 2 half-open",
        "sent, sent, flow_race; 2 half-open",
        "sent, sent, sent; 2 half-open",
    ];
    let syns = || [packet(KEY, SYN), packet(KEY, SYN), packet(KEY, SYN)];
    check(Interruptions(2), &World::of(ROOM).one_way(), &syns(), &ways);
}

#[test]
fn clients_that_want_one_port_get_one_each() {
    let syns = [packet(KEY, SYN), packet(RIVAL, SYN), packet(from(4, 2000), SYN)];
    let two = ["sent, sent; 2 half-open/half-open, 3 half-open/half-open"];
    check(AllSchedules, &World::of(ROOM), &syns[..2], &two);
    let three = ["sent, sent, sent; 2 half-open/half-open, 3 half-open/half-open, 4 half-open/half-open"];
    check(Interruptions(1), &World::of(ROOM), &syns, &three);
}

#[test]
fn handshakes_end_established() {
    let ends = ["sent, sent; 2 established/established answered"];
    check(AllSchedules, &answered(), &[packet(KEY, ACK), packet(BACK, ACK)], &ends);
    let ends = ["sent, sent; 2 half-open/half-open answered"];
    let again = [packet(KEY, SYN), packet(BACK, SYN | ACK)];
    check(AllSchedules, &half_open(), &again, &ends);
    let udp = [KEY, BACK].map(|key| Key { protocol: UDP, ..key });
    let begun = after(World::of(ROOM), &[(udp[0], 0)]);
    let ends = ["sent, sent; 2 established/established"];
    check(AllSchedules, &begun, &udp.map(|key| packet(key, 0)), &ends);
}

#[test]
fn a_syn_that_asks_another_backend_meets_the_answer_of_the_first() {
    let ways = [
        "sent, flow_race; 2 half-open/half-open",
        "sent, not_ours; 2 half-open/half-open",
        "sent, sent; 2 half-open/half-open",
        "sent, sent; 2 half-open/half-open answered",
    ];
    let stories = [packet(KEY, SYN), packet(BACK, SYN | ACK)];
    check(AllSchedules, &half_open().moved_on(), &stories, &ways);
}

#[test]
fn fins_of_both_sides_end_a_flow_for_good() {
    let ends = ["sent, sent; 2 closing fin/closing answered fin"];
    let fins = [packet(KEY, FIN | ACK), packet(BACK, FIN | ACK)];
    check(AllSchedules, &established(), &fins, &ends);
    let client_done = || after(established(), &[(KEY, FIN | ACK)]);
    let reset = [packet(KEY, RST), packet(BACK, FIN | ACK)];
    check(AllSchedules, &client_done(), &reset, &ends);
    let ignored = [packet(KEY, ACK), packet(BACK, FIN | ACK)];
    check(AllSchedules, &after(client_done(), &[(KEY, RST)]), &ignored, &ends);
    let ends = ["sent, sent, sent; 2 closing fin/closing answered fin"];
    let three = [packet(KEY, FIN | ACK), packet(BACK, FIN | ACK), packet(KEY, RST)];
    check(Interruptions(2), &established(), &three, &ends);
    let three = [packet(KEY, ACK), packet(BACK, FIN | ACK), packet(KEY, RST)];
    check(Interruptions(2), &after(client_done(), &[(KEY, RST)]), &three, &ends);
}

#[test]
fn a_rst_meets_an_ordinary_packet() {
    let ways = [
        "sent, sent; 2 closing rst/closing answered rst",
        "sent, sent; 2 established/established answered",
    ];
    let stories = [packet(KEY, ACK), packet(BACK, RST)];
    check(AllSchedules, &established(), &stories, &ways);
    check(AllSchedules, &answered(), &stories, &ways);
    let ways = [
        "sent, sent; 2 closing rst/closing answered rst",
        "sent, sent; 2 half-open/half-open answered",
    ];
    check(
        AllSchedules,
        &established(),
        &[packet(KEY, RST), packet(BACK, ACK)],
        &ways,
    );
    // Marked on one side or on both: an idle flow ends sooner by either.
    let ways = [
        "sent, sent, sent; 2 established doubted/established answered fin doubted",
        "sent, sent, sent; 2 established/established answered fin doubted",
        "sent, sent, sent; 2 established/established answered fin",
    ];
    let stories = [stray(KEY), packet(KEY, ACK), packet(BACK, FIN | ACK)];
    check(AllSchedules, &established(), &stories, &ways);
}

#[test]
fn a_rst_that_both_sides_ignore_leaves_the_flow_established() {
    let ends = ["sent, sent; 2 established/established answered"];
    check(AllSchedules, &reset(), &[packet(KEY, ACK), packet(BACK, ACK)], &ends);
}

#[test]
fn a_rst_that_meets_a_revival_may_leave_two_states() {
    let ways = [
        "sent, sent; 2 closing rst/closing answered rst",
        "sent, sent; 2 closing rst/established answered",
        "sent, sent; 2 established/established answered",
    ];
    check(AllSchedules, &reset(), &[packet(KEY, ACK), packet(BACK, RST)], &ways);
    let ways = [
        "sent, sent; 2 closing rst/closing answered rst",
        "sent, sent; 2 half-open/closing answered rst",
        "sent, sent; 2 half-open/half-open answered",
    ];
    check(AllSchedules, &reset(), &[packet(KEY, RST), packet(BACK, ACK)], &ways);
}

#[test]
fn a_flow_that_begins_anew_has_nothing_of_the_old_one() {
    let ways = [
        "sent, 0 freed; 2 half-open/half-open",
        "sent, 1 freed; 2 half-open/half-open",
    ];
    check(AllSchedules, &over(), &[packet(KEY, SYN), sweep()], &ways);
    let ways = [
        "sent, flow_race; 2 half-open/half-open",
        "sent, not_ours; 2 half-open/half-open",
        "sent, sent; 2 closing rst/closing rst",
        // The new flow's way to the backend was not open yet.
        "sent, sent; 2 half-open/closing rst",
        "sent, sent; 2 half-open/half-open",
    ];
    check(AllSchedules, &over(), &[packet(KEY, SYN), packet(BACK, RST)], &ways);
}

#[test]
fn a_client_that_was_reset_early_goes_on_where_it_was() {
    let again = || packet(KEY, SYN);
    let ends = ["sent, sent; 2 half-open/half-open"];
    check(AllSchedules, &refused(), &[again(), again()], &ends);
    let ends = ["sent, sent; 2 half-open/half-open answered"];
    check(AllSchedules, &refused(), &[again(), packet(BACK, ACK)], &ends);
    let ways = [
        "sent, sent; 2 closing rst/closing rst",
        "sent, sent; 2 closing rst/half-open",
        "sent, sent; 2 half-open/half-open",
    ];
    check(AllSchedules, &refused(), &[again(), packet(BACK, RST)], &ways);
    let ways = [
        "sent, 0 severed; 2 half-open/half-open",
        "sent, 1 severed; 2 half-open/half-open",
        "sent, 1 severed; 2 severed rst/severed",
        "sent, 1 severed; 2 severed rst/severed answered rst",
        "sent, 1 severed; 2 severed/severed",
        "sent, 1 severed; 2 severed/severed answered rst",
    ];
    check(AllSchedules, &refused(), &[again(), severs()], &ways);
    // When its port was about to be given up.
    let ways = [
        "flow_race, sent; 3 half-open/half-open",
        "sent, sent; 2 half-open/half-open, 3 half-open/half-open",
    ];
    check(AllSchedules, &refused().later(), &[again(), packet(RIVAL, SYN)], &ways);
    let ways = [
        "flow_race, 1 freed; ",
        "sent, 0 freed; 2 half-open/half-open",
        // The backend's answer comes too late; the client's next SYN opens the flow.
        "sent, 1 freed; ",
        "sent, 1 freed; 2 half-open/half-open",
    ];
    check(AllSchedules, &refused().later(), &[again(), sweep()], &ways);
}

#[test]
fn a_flow_whose_backend_is_lost_stays_severed() {
    let ways = [
        "1 severed, flow_reset, flow_reset; 2 severed/severed answered",
        "1 severed, flow_reset, sent; 2 severed/severed answered fin",
        "1 severed, sent, flow_reset; 2 severed/severed answered",
        "1 severed, sent, sent; 2 severed/severed answered fin",
    ];
    let stories = [severs(), packet(KEY, ACK), packet(BACK, FIN | ACK)];
    check(Interruptions(2), &answered(), &stories, &ways);
    let ways = [
        "0 severed, sent; 2 closing fin/closing answered fin",
        "1 severed, flow_reset; 2 severed fin/severed answered",
        "1 severed, sent; 2 severed fin/severed answered fin",
    ];
    let client_done = after(established(), &[(KEY, FIN | ACK)]);
    check(AllSchedules, &client_done, &[severs(), packet(BACK, FIN | ACK)], &ways);
    let ways = [
        "0 severed, sent; 2 half-open/half-open",
        "1 severed, sent; 2 half-open/half-open",
        "1 severed, sent; 2 severed/severed",
    ];
    check(AllSchedules, &half_open(), &[severs(), packet(KEY, SYN)], &ways);
}

#[test]
fn a_sweep_meets_the_packet_that_the_flow_was_waiting_for() {
    let ways = [
        "0 freed, sent; 2 established/established answered",
        "1 freed, flow_race; ",
        "1 freed, unknown_flow; ",
    ];
    check(AllSchedules, &answered().later(), &[sweep(), packet(KEY, ACK)], &ways);
}

#[test]
fn a_reader_never_leaves_by_the_flow_that_came_after() {
    let reuse = || both(sweep(), packet(RIVAL, SYN));
    let ways = [
        "flow_race, 1 freed and sent; 3 half-open/half-open",
        "sent, 0 freed and sent; 2 closing fin/closing answered fin, 3 half-open/half-open",
        "sent, 1 freed and sent; 3 half-open/half-open",
        "unknown_flow, 1 freed and sent; 3 half-open/half-open",
    ];
    check(AllSchedules, &over(), &[packet(KEY, ACK), reuse()], &ways);
    let ways = [
        "flow_race, 1 freed and sent; 3 half-open",
        "sent, 0 freed and flow_table_full; 2 closing fin",
        "sent, 1 freed and sent; 3 half-open",
        "unknown_flow, 1 freed and sent; 3 half-open",
    ];
    let only_place = after(World::of(1).one_way(), &[(KEY, SYN), (KEY, FIN)]).later();
    check(AllSchedules, &only_place, &[packet(KEY, ACK), reuse()], &ways);
}

#[test]
fn a_port_has_one_flow_at_a_time() {
    let ways = [
        "sent, flow_race; 3 half-open/half-open",
        "sent, sent; 2 established/established answered, 3 half-open/half-open",
        "sent, unknown_flow; 3 half-open/half-open",
    ];
    let stories = [packet(RIVAL, SYN), packet(KEY, ACK)];
    check(AllSchedules, &reset().later(), &stories, &ways);
}

#[test]
fn a_half_open_flow_gives_way_but_not_once_it_is_established() {
    let confirms = || packet(from(2, 3000), ACK);
    let ways = [
        "flow_table_full, sent; 2 established/established answered, 3 established/established answered",
        "sent, flow_race; 3 established/established answered, 4 half-open/half-open",
        "sent, unknown_flow; 3 established/established answered, 4 half-open/half-open",
    ];
    check(Interruptions(2), &full(), &[packet(OTHER, SYN), confirms()], &ways);
    let ways = [
        "flow_race, sent, unknown_flow; 3 established/established answered, 5 half-open/half-open",
        "flow_table_full, flow_table_full, sent; 2 established/established answered, 3 established/established answered",
        "sent, flow_table_full, unknown_flow; 3 established/established answered, 4 half-open/half-open",
        "sent, sent, unknown_flow; 3 established/established answered, 4 half-open/half-open",
        "sent, sent, unknown_flow; 3 established/established answered, 5 half-open/half-open",
    ];
    let three = [packet(OTHER, SYN), packet(from(5, 5000), SYN), confirms()];
    check(Interruptions(1), &full(), &three, &ways);
}

#[test]
fn a_flow_that_gives_way_at_once_takes_nobody_with_it() {
    let ways = [
        "flow_race, sent; 4 half-open",
        "flow_table_full, sent; 4 half-open",
        "sent, flow_race; 2 half-open",
        "sent, flow_table_full; 2 half-open",
        "sent, sent; 2 half-open",
        "sent, sent; 4 half-open",
    ];
    let only_place = World::of(1).one_way();
    check(
        AllSchedules,
        &only_place,
        &[packet(KEY, SYN), packet(OTHER, SYN)],
        &ways,
    );
    let ways = [
        "flow_race, 0 freed and sent; 3 half-open/half-open",
        "flow_race, 1 freed and sent; 3 half-open/half-open",
        "flow_table_full, 1 freed and sent; 3 half-open/half-open",
        "sent, 0 freed and sent; 3 half-open/half-open",
        "sent, 1 freed and flow_race; 2 half-open/half-open",
        "sent, 1 freed and sent; 2 half-open/half-open",
        "sent, 1 freed and sent; 3 half-open/half-open",
    ];
    let only_places = after(World::of(2), &[(KEY, SYN)]).later();
    let reuse = both(sweep(), packet(RIVAL, SYN));
    check(Interruptions(2), &only_places, &[packet(KEY, SYN), reuse], &ways);
}

#[test]
fn a_pass_over_the_flows_may_miss_those_that_come_and_go() {
    let ends = ["moved, sent; 2 established/established answered"];
    check(AllSchedules, &established(), &[moves(), packet(KEY, ACK)], &ends);
    // Hence the daemon passes again, until it finds nothing to change.
    let ways = [
        "moved, sent; 2 half-open/half-open",
        "moved, sent; 2 half-open/half-open astray",
    ];
    check(AllSchedules, &World::of(ROOM), &[moves(), packet(KEY, SYN)], &ways);
    let reuse = both(sweep(), packet(RIVAL, SYN));
    let ways = [
        "moved, 1 freed and sent; 3 half-open/half-open",
        "moved, 1 freed and sent; 3 half-open/half-open astray",
    ];
    check(AllSchedules, &over(), &[moves(), reuse], &ways);
}
