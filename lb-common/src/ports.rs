//! Source addresses and ports towards a backend: which are ours to use, and how a new flow comes by a free one.
//!
//! What is free is decided by the flow table alone: the reply's key must not be in it.

use core::num::NonZeroU32;

use crate::abi::{Backend, MAX_SNAT, SNAT_PORTS_HIGH, SNAT_PORTS_LOW, TCP};
use crate::decide::{Flows, Tables};
use crate::family::Address;
use crate::flow_table::{Claim, Claimed, FlowKey, FlowMemory, Found, State, claim, find, partner, release};
use crate::open::Opening;
use crate::port_rest;
use crate::verdict::Reason;
use crate::wire::Be16;

/// How many ports are tried for a new flow: at one free in a hundred, one search in 30,000 fails.
const TRIES: u32 = 1024;
/// For a tick after such a search has failed: many of them would cost the flows that there are.
const TRIES_WHEN_EXHAUSTED: u32 = 16;
/// So many ports are passed over on which the backend would refuse the client's SYN: each refuses every second one.
const PASSED_OVER: u32 = 16;
/// After so many half-open flows met, one that has been silent for a while gives up its port; after so many, any. Where
/// most ports belong to what is established, the few that are met are handshakes just being made.
const HALF_OPEN_BEFORE_SILENT: usize = 4;
const HALF_OPEN_BEFORE_ANY: usize = 8;
/// In ticks: a second, the last of several retransmissions.
const SILENCE: u32 = 8;

/// Claims the reply's entry under a free port: the next in turn, else one after a place that the flow's hash decides. In
/// turn, a port rests for as long as can be; where that was too short, `port_rest` says what makes the backend take it.
///
/// A function of its own in the kernel too: its stack is short.
#[inline(never)]
pub fn claim_port<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    opening: &mut Opening<A>,
    backend: &Backend,
) -> Result<Claim, Reason> {
    let turn = first_try(tables, opening, backend);
    let start = opening.hash as u32;
    let reply = &mut opening.reply;
    let pool = Pool::of(backend);
    let now = tables.now();
    let tries = if tables.exhausted_at(opening.backend) == now {
        TRIES_WHEN_EXHAUSTED
    } else {
        TRIES
    };
    let mut outcome = Err(Reason::SnatPortsExhausted);
    if !pool.put(reply, backend, turn) {
        return outcome;
    }
    // VERIFIER (6.1): walks through a loop's step once, and believes what it knows of this then.
    let mut half_open = tables.forget(0);
    tables.repeat(tries, |tried| {
        if let Some(old) = find(tables, reply) {
            half_open += usize::from(old.word.is(State::HalfOpen));
            if !(gives_up(tables, &old, half_open) && release(tables, &old)) {
                return pool.next(reply, backend, start, tried);
            }
        }
        match claim(tables, reply) {
            Claimed::Ours(claim) => {
                outcome = Ok(claim);
                return false;
            }
            Claimed::Taken(_) | Claimed::Busy => {}
            Claimed::Full => outcome = Err(Reason::FlowTableFull),
        }
        pool.next(reply, backend, start, tried)
    });
    if let Err(reason) = outcome {
        tables.note_exhausted(opening.backend, now);
        if reason == Reason::SnatPortsExhausted {
            tables.count_ports_exhausted(opening.backend);
        }
    }
    outcome
}

/// The number of the next pair in turn, or of one soon after it. A SYN without timestamps cannot be made newer, so pairs are
/// passed over on which the backend would refuse it.
#[inline(never)]
fn first_try<A: Address, T: Tables + Flows<A>>(tables: &T, opening: &mut Opening<A>, backend: &Backend) -> u32 {
    let turn = tables.port_turn(endpoint(&opening.reply)) as u32;
    let mut passed = tables.forget(0) as u32;
    if opening.reply.protocol == TCP && opening.syn.timestamp().is_none() {
        let pool = Pool::of(backend);
        tables.repeat(PASSED_OVER, |number| {
            passed = number;
            pool.put(&mut opening.reply, backend, turn.wrapping_add(number)) && needed_shift(tables, opening).is_none()
        });
    }
    // VERIFIER: one number, whichever way it came.
    tables.forget(turn.wrapping_add(passed) as usize) as u32
}

/// How far the timestamps of the flow that `opening` has a port for must be shifted, as in `port_rest`.
///
/// A function of its own in the kernel too: its stack is short.
#[inline(never)]
pub fn shift<A: Address, T: Tables + Flows<A>>(tables: &T, opening: &Opening<A>) -> u16 {
    let units = match opening.syn.timestamp() {
        Some(_) => needed_shift(tables, opening).unwrap_or_default(),
        None => 0,
    };
    tables.forget(units as usize) as u16
}

#[inline(always)]
fn needed_shift<A: Address, T: Tables + Flows<A>>(tables: &T, opening: &Opening<A>) -> Option<u16> {
    let line = port_rest::line(&opening.reply, FlowMemory::<A>::mask(tables));
    match tables.port_notes(line) {
        Some(notes) => port_rest::needed_shift(notes, &opening.reply, &opening.syn, tables.now()),
        None => Some(0),
    }
}

/// Whose ports are taken in turn: where the flow's packets go, whatever service sends them there. `reply` is from there to
/// nobody yet. Those that share a number take turns together.
#[inline(always)]
pub fn endpoint<A: Address>(reply: &FlowKey<A>) -> u16 {
    reply.hash() as u16
}

/// One of the pool's addresses.
#[inline(always)]
pub fn source<A: Address>(backend: &Backend, number: u32) -> Option<A> {
    let index = number % NonZeroU32::new(backend.snat_count as u32)?;
    backend.snat.get(index as usize & (MAX_SNAT - 1)).map(A::from_ip)
}

/// Whether a flow gives up its port, where so many half-open ones were met. What the peers of one that is over still owe
/// each other would reach the wrong ones, hence the silence; of a half-open one nothing is lost but a client that may
/// try again.
#[inline(always)]
fn gives_up<A: Address, T: Tables + Flows<A>>(tables: &T, flow: &Found<A>, half_open: usize) -> bool {
    let quiet = |flow: &Found<A>| tables.now().wrapping_sub(flow.entry.last_seen()) >= SILENCE;
    let silent = || quiet(flow) && partner(tables, flow).is_none_or(|other| quiet(&other));
    if flow.word.is(State::HalfOpen) {
        half_open > HALF_OPEN_BEFORE_ANY || half_open > HALF_OPEN_BEFORE_SILENT && silent()
    } else {
        flow.word.is(State::Closing) && silent()
    }
}

const LOW_COUNT: u32 = (SNAT_PORTS_LOW.1 - SNAT_PORTS_LOW.0) as u32 + 1;
const HIGH_COUNT: u32 = (SNAT_PORTS_HIGH.1 - SNAT_PORTS_HIGH.0) as u32 + 1;
/// Of each address.
pub const PORTS: u32 = LOW_COUNT + HIGH_COUNT;
/// The unit of the way from one try to the next, each a unit longer than the one before: of equal steps those of many
/// flows would join, as in linear probing, and fail long before all ports are used. Within 32 bits for all tries.
const STEP: u32 = 4099;

/// All pairs of address and port, numbered round and round: each port with all addresses before the next port.
struct Pool {
    pairs: NonZeroU32,
}

impl Pool {
    #[inline(always)]
    fn of(backend: &Backend) -> Self {
        Self {
            pairs: NonZeroU32::new(backend.snat_count as u32 * PORTS).unwrap_or(NonZeroU32::MAX),
        }
    }

    /// Points `reply` at a pair; false where there is none.
    #[inline(always)]
    fn put<A: Address>(&self, reply: &mut FlowKey<A>, backend: &Backend, number: u32) -> bool {
        let Some(count) = NonZeroU32::new(backend.snat_count as u32) else {
            return false;
        };
        let n = number % self.pairs;
        let Some(address) = backend.snat.get((n % count) as usize & (MAX_SNAT - 1)) else {
            return false;
        };
        let n = n / count;
        reply.destination = A::from_ip(address);
        reply.destination_port = Be16::new(if n < LOW_COUNT {
            SNAT_PORTS_LOW.0 + n as u16
        } else {
            SNAT_PORTS_HIGH.0 + (n - LOW_COUNT) as u16
        });
        true
    }

    /// The pair of the next try.
    #[inline(always)]
    fn next<A: Address>(&self, reply: &mut FlowKey<A>, backend: &Backend, start: u32, tried: u32) -> bool {
        let way = (tried + 1) * (tried + 2) / 2 * STEP;
        self.put(reply, backend, start % self.pairs + way)
    }
}
