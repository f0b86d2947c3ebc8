//! What backends still remember of the connections that came from a source port last, and what makes them take a new one.
//!
//! A server that closes first keeps the connection for a minute (TIME_WAIT). It takes a SYN from the same address and port
//! only if that is newer: by its timestamp if both connections have them, else by its sequence number. Behind NAT the old
//! connection was another client's, with other clocks. So the program notes what the server has seen last, and a new flow
//! gets a port on which its SYN is newer, or timestamps that are.
//!
//! Notes are hints: a lost one costs a client a second, as long as its SYN needs to be sent again. Tested by
//! `tests/it/packets/port_rest.rs`, and against real servers in the lab.

use crate::decide::{Flows, Tables};
use crate::family::Address;
use crate::flow_table::{FlowKey, FlowMemory};
use crate::frame::Frame;
use crate::parse::Parsed;
use crate::timestamps::{self, UNIT_SHIFT};

/// In a line. A new note takes the place of the port's last one, of one that is too old to matter, or of any.
const NOTES: usize = 8;

/// A line of the memory of notes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `number:32 | stamped:1 | noted_at:15 | tag:16`; 0 is an empty place.
    notes: [u64; NOTES],
}

const _: () = assert!(size_of::<Notes>() == 64);

// SAFETY: repr(C), made of integers only, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Notes {}

/// Lines for so many entries of the flow table: 512 bits for each connection in 16 that the table takes.
pub const ENTRIES_PER_LINE: u32 = 8;

const STAMPED: u64 = 1 << 31;
const TIME_MASK: u32 = 0x7fff;
/// The unit of the notes' time is eight ticks, a good second.
const TIME_SHIFT: u32 = 3;
/// A backend remembers a connection for 60 seconds; a little more, since this clock is coarse.
const REST: u32 = 60;

/// What a packet of a client tells that a backend will compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    sequence: u32,
    /// 0 where there is none.
    //
    // VERIFIER (6.1): an `Option` in memory leaves unwritten what it does not need, and no such register may be stored.
    timestamp: u32,
    is_stamped: bool,
}

impl Numbers {
    #[inline(always)]
    pub fn new(sequence: u32, timestamp: Option<u32>) -> Self {
        Self {
            sequence,
            timestamp: timestamp.unwrap_or_default(),
            is_stamped: timestamp.is_some(),
        }
    }

    #[inline(always)]
    pub fn timestamp(&self) -> Option<u32> {
        self.is_stamped.then_some(self.timestamp)
    }
}

/// Notes what the backend remembers of a flow from now on, by the packet in which it acknowledges the client's FIN after
/// its own: that says what it has seen last.
#[inline(always)]
pub fn note_end<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &F,
    tables: &T,
    last: &Parsed<A>,
    timestamps: Option<usize>,
) {
    let timestamp = timestamps.and_then(|at| timestamps::echo(frame, at));
    let seen = Numbers::new(last.acknowledgment, timestamp);
    if let Some(notes) = tables.port_notes(line(&last.key, FlowMemory::<A>::mask(tables))) {
        note(notes, &last.key, &seen, tables.now());
    }
}

/// Writes down what the backend has seen last from the port that `reply` goes to.
#[inline(always)]
fn note<A: Address>(notes: &mut Notes, reply: &FlowKey<A>, last: &Numbers, now: u32) {
    let tag = tag(reply);
    let time = time(now);
    let own = notes.notes.iter().position(|note| *note as u16 == tag);
    let place = own.or_else(|| notes.notes.iter().position(|note| has_rested(*note, time)));
    let (number, stamped) = match last.timestamp() {
        Some(timestamp) => (timestamp, STAMPED),
        None => (last.sequence, 0),
    };
    let new = (number as u64) << 32 | stamped | (time as u64) << 16 | tag as u64;
    if let Some(note) = notes.notes.get_mut(place.unwrap_or(time as usize % NOTES)) {
        *note = new;
    }
}

/// How far a new flow's timestamps have to be shifted for the backend to take its SYN from the port that `reply` goes to:
/// 0 if it is taken as it is, None if no shift helps.
#[inline(always)]
pub fn needed_shift<A: Address>(notes: &Notes, reply: &FlowKey<A>, syn: &Numbers, now: u32) -> Option<u16> {
    let tag = tag(reply);
    let Some(note) = notes.notes.iter().copied().find(|note| *note as u16 == tag) else {
        return Some(0);
    };
    if has_rested(note, time(now)) {
        return Some(0);
    }
    let last = (note >> 32) as u32;
    if note & STAMPED == 0 {
        return is_after(syn.sequence, last).then_some(0);
    }
    let timestamp = syn.timestamp()?;
    if is_after(timestamp, last) {
        return Some(0);
    }
    Some((last.wrapping_sub(timestamp) >> UNIT_SHIFT) as u16 + 1)
}

/// Which line has the notes of the port that `reply` goes to, of a table of so many entries less one.
#[inline(always)]
pub fn line<A: Address>(reply: &FlowKey<A>, flow_mask: u32) -> u32 {
    (reply.hash() >> 16) as u32 & (flow_mask / ENTRIES_PER_LINE)
}

/// Never 0, which an empty place has.
#[inline(always)]
fn tag<A: Address>(reply: &FlowKey<A>) -> u16 {
    (reply.hash() >> 48) as u16 | 1
}

#[inline(always)]
const fn time(now: u32) -> u32 {
    now >> TIME_SHIFT & TIME_MASK
}

/// Also of an empty place.
#[inline(always)]
const fn has_rested(note: u64, time: u32) -> bool {
    note == 0 || time.wrapping_sub((note >> 16) as u32) & TIME_MASK > REST
}

/// By the order of numbers that wrap around.
#[inline(always)]
const fn is_after(number: u32, last: u32) -> bool {
    last.wrapping_sub(number).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::timestamps::in_ticks;
    use crate::wire::{Be16, Be32};

    const NOW: u32 = 1_000_000;
    const SECOND: u32 = 8;

    fn reply(port: u16) -> FlowKey<Be32> {
        FlowKey {
            source: Be32::new(0xc612_010b),
            destination: Be32::new(0xc612_0001),
            source_port: Be16::new(80),
            destination_port: Be16::new(port),
            protocol: 6,
        }
    }

    fn numbers(sequence: u32, timestamp: impl Into<Option<u32>>) -> Numbers {
        Numbers::new(sequence, timestamp.into())
    }

    /// Whether a server whose connection ended with these numbers takes the SYN, as Linux has it in `tcp_timewait_state_process`.
    fn takes(last: &Numbers, last_sequence: u32, syn: &Numbers) -> bool {
        let newer = syn.sequence.wrapping_sub(last_sequence).cast_signed() > 0;
        match (last.timestamp(), syn.timestamp()) {
            (Some(last), Some(new)) => {
                let ahead = new.wrapping_sub(last).cast_signed();
                ahead > 0 || (ahead >= -1 && newer)
            }
            _ => newer,
        }
    }

    proptest! {
        #[test]
        fn a_shifted_syn_is_newer_by_a_minute_at_most(last: u32, new: u32) {
            let mut notes = Notes::default();
            note(&mut notes, &reply(2000), &numbers(1, last), NOW);
            let units = needed_shift(&notes, &reply(2000), &numbers(1, new), NOW + SECOND).unwrap();
            let shifted = numbers(1, new.wrapping_add(in_ticks(units)));
            prop_assert!(takes(&numbers(1, last), 1, &shifted));
            prop_assert_eq!(units == 0, is_after(new, last));
            prop_assert!(units == 0 || shifted.timestamp().unwrap().wrapping_sub(last) <= 1 << UNIT_SHIFT);
        }

        #[test]
        fn a_port_that_is_not_passed_over_takes_the_syn(last: (u32, Option<u32>), new: (u32, Option<u32>)) {
            let (last, new) = (numbers(last.0, last.1), numbers(new.0, new.1));
            let mut notes = Notes::default();
            note(&mut notes, &reply(2000), &last, NOW);
            if let Some(units) = needed_shift(&notes, &reply(2000), &new, NOW) {
                let shifted = numbers(new.sequence, new.timestamp().map(|new| new.wrapping_add(in_ticks(units))));
                prop_assert!(takes(&last, last.sequence, &shifted));
            }
        }

        #[test]
        fn a_port_that_has_rested_for_a_minute_takes_everything(ticks in 62 * SECOND..1_000_000_u32, new: u32) {
            prop_assume!(ticks % (1 << 18) > 62 * SECOND);
            let mut notes = Notes::default();
            note(&mut notes, &reply(2000), &numbers(1, 1000), NOW);
            prop_assert_eq!(needed_shift(&notes, &reply(2000), &numbers(1, new), NOW + ticks), Some(0));
        }
    }

    #[test]
    fn a_port_has_one_note_and_those_that_matter_no_more_give_way() {
        let mut notes = Notes::default();
        let count = |notes: &Notes| notes.notes.iter().filter(|note| **note != 0).count();
        let mut ports: Vec<u16> = (2000..3000).collect();
        ports.sort_by_key(|port| tag(&reply(*port)));
        ports.dedup_by_key(|port| tag(&reply(*port)));
        for (timestamp, now) in [(5000, NOW), (6000, NOW + SECOND)] {
            for port in &ports[..NOTES] {
                note(&mut notes, &reply(*port), &numbers(1, timestamp), now);
            }
        }
        assert_eq!(count(&notes), NOTES);
        let needed = |notes: &Notes, port, now| needed_shift(notes, &reply(port), &numbers(1, 5500), now);
        for port in &ports[..NOTES] {
            assert_eq!(needed(&notes, *port, NOW + SECOND), Some(1));
        }
        // All of them matter, so one of them goes.
        note(&mut notes, &reply(ports[NOTES]), &numbers(1, 6000), NOW + SECOND);
        let known = |notes: &Notes, now| {
            ports[..=NOTES]
                .iter()
                .filter(|port| needed(notes, **port, now) == Some(1))
                .count()
        };
        assert_eq!(known(&notes, NOW + SECOND), NOTES);
        let later = NOW + 70 * SECOND;
        for port in &ports[NOTES + 1..][..NOTES] {
            note(&mut notes, &reply(*port), &numbers(1, 6000), later);
        }
        assert_eq!(known(&notes, later), 0);
        assert!(
            ports[NOTES + 1..][..NOTES]
                .iter()
                .all(|port| needed(&notes, *port, later) == Some(1))
        );
    }
}
