//! A flow's life as its packets tell it: half-open, established, closing, begun anew.
//!
//! Only states change here, and the daemon alone severs a flow; places are given and taken by `open` and the daemon's sweep. docs/data-path.md has it as
//! a table.

use crate::abi::{Mode, TCP};
use crate::decide::{Flows, Tables};
use crate::family::Address;
use crate::flow_table::{
    ANSWERED, DOUBTED, FIN_SEEN, FlowMemory, Found, RESET, State, TO_CLIENT, Word, partner, release,
};
use crate::parse::{ACK, FIN, Parsed, RST, SYN};
use crate::signs::{self, Sign};

/// How far a RST may be ahead of what its receiver last acknowledged: data that is still under way.
const RESET_WINDOW: u32 = 1 << 24;

/// What a packet is to the flow that it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It is part of it.
    Goes,
    /// The flow is over, and the packet begins another.
    BeginsAnew,
    /// The flow is severed, and its sender is still to learn that.
    Severed,
    /// The backend acknowledges the client's end after its own: from now on it remembers the connection for a while.
    Remembered,
}

/// Keeps the flow's state.
#[inline(always)]
pub fn follow<A: Address, T: Tables + Flows<A>>(tables: &T, parsed: &Parsed<A>, flow: &Found<A>) -> Course {
    let is_news = parsed.tcp_flags & ACK != 0 && flow.entry.acknowledge(parsed.acknowledgment);
    let quiet = parsed.tcp_flags & (SYN | FIN | RST) == 0;
    if quiet && flow.word.is_settled() {
        return Course::Goes;
    }
    if parsed.key.protocol != TCP {
        if flow.word.has(TO_CLIENT) || flow.word.mode() != Mode::Nat {
            move_both(tables, flow, Word::confirmed);
        }
        return Course::Goes;
    }
    if parsed.opens() && !flow.word.has(TO_CLIENT) {
        return if begins_anew(tables, flow) {
            Course::BeginsAnew
        } else {
            Course::Goes
        };
    }
    if flow.word.is(State::Severed) {
        return Course::Severed;
    }
    if parsed.tcp_flags & RST != 0 {
        reset(tables, parsed, flow);
    } else if parsed.tcp_flags & FIN != 0 {
        end(tables, flow);
    } else if flow.word.is(State::HalfOpen) {
        confirm(tables, parsed, flow);
    } else if quiet && is_news && flow.word.is_ended_towards_client() {
        return Course::Remembered;
    } else if quiet {
        survive(tables, parsed, flow);
    }
    Course::Goes
}

/// A client's SYN on a flow of its own: after the end of that flow, or again because nobody answered and the backend
/// takes no new flows any more.
///
/// A flow that was reset before it was established goes on from its beginning. A backend that still remembers an older
/// connection of the port answers a SYN by what makes the client send a RST and then the SYN again; on another port that
/// might happen anew.
#[inline(always)]
fn begins_anew<A: Address, T: Tables + Flows<A>>(tables: &T, flow: &Found<A>) -> bool {
    let backend = flow.word.backend();
    let left = || tables.backend(backend).is_none_or(|backend| backend.weight == 0);
    if flow.word.was_reset_early() && !left() {
        move_both(tables, flow, Word::reopened);
        return false;
    }
    if flow.word.is(State::Closing) || flow.word.is(State::Severed) || flow.word.has(FIN_SEEN) {
        return true;
    }
    let answered = || partner(tables, flow).is_some_and(|other| other.word.has(ANSWERED));
    if !flow.word.is(State::HalfOpen) || answered() {
        return false;
    }
    signs::tell(tables, backend, Sign::Unanswered);
    left()
}

/// A RST that its receiver will believe ends the flow. One with a sequence number from nowhere only shortens the time
/// that an idle flow is kept.
#[inline(always)]
fn reset<A: Address, T: Tables + Flows<A>>(tables: &T, parsed: &Parsed<A>, flow: &Found<A>) {
    if flow.word.is(State::HalfOpen) && flow.word.has(TO_CLIENT) && !flow.word.has(ANSWERED) {
        signs::tell(tables, flow.word.backend(), Sign::Refused);
    }
    let expected = || {
        let ahead = |other: Found<A>| parsed.sequence.wrapping_sub(other.entry.acknowledged());
        partner(tables, flow).is_some_and(|other| ahead(other) < RESET_WINDOW)
    };
    // Before both sides have spoken there is no number to go by, and nothing to lose; nor where one side is not heard.
    if !flow.word.is(State::Established) || flow.word.mode() != Mode::Nat || expected() {
        move_both(tables, flow, Word::reset);
    } else {
        move_both(tables, flow, |word| word.with_mark(DOUBTED));
    }
}

/// A FIN is remembered; the second one closes the flow.
#[inline(always)]
fn end<A: Address, T: Tables + Flows<A>>(tables: &T, flow: &Found<A>) {
    flow.change(tables, |word| word.with_mark(FIN_SEEN));
    if flow.word.mode() != Mode::Nat {
        // The backend's FIN goes another way. What the client still acknowledges keeps the flow.
        move_both(tables, flow, Word::ended);
        return;
    }
    // Looked at after our own mark is there for all to see: of two sides that end at once, one sees both.
    if partner(tables, flow).is_some_and(|other| other.word.has(FIN_SEEN)) {
        move_both(tables, flow, Word::ended);
    }
}

/// A TCP flow is established when the backend answered the SYN and the client then spoke again: a client that is
/// not where it says it is sees no answer.
#[inline(always)]
fn confirm<A: Address, T: Tables + Flows<A>>(tables: &T, parsed: &Parsed<A>, flow: &Found<A>) {
    let answered = || match flow.word.mode() {
        Mode::Nat => partner(tables, flow).is_some_and(|other| other.word.has(ANSWERED)),
        // The answer goes another way.
        Mode::DsrL2 | Mode::DsrIpip => true,
    };
    if flow.word.has(TO_CLIENT) {
        flow.change(tables, |word| word.with_mark(ANSWERED));
    } else if parsed.tcp_flags & SYN == 0 && answered() {
        move_both(tables, flow, Word::confirmed);
    }
}

/// The peers did not believe a RST: whoever sent it was no party to the flow.
#[inline(always)]
fn survive<A: Address, T: Tables + Flows<A>>(tables: &T, parsed: &Parsed<A>, flow: &Found<A>) {
    if flow.word.has(RESET) {
        // What it was before is seen from who had spoken, so that a RST does not help a SYN without a client behind it.
        move_both(tables, flow, Word::revived);
        confirm(tables, parsed, flow);
    } else if flow.word.has(DOUBTED) {
        move_both(tables, flow, |word| word.without_mark(DOUBTED));
    }
}

/// Ends a flow whose backend is lost, found towards that. True: severed, and its peers should learn it. A UDP flow is
/// simply over; what has been closed ends by itself.
pub fn sever<A: Address, M: FlowMemory<A>>(memory: &M, flow: &Found<A>, now: u32) -> bool {
    if flow.word.protocol() != TCP {
        release(memory, flow);
        return false;
    }
    let closed = flow.word.is(State::Closing) && !flow.word.has(RESET);
    if closed || flow.word.is(State::Severed) {
        return false;
    }
    let severed = |found: &Found<A>| {
        let changed = found.change(memory, Word::severed);
        // From now on no packet does: it goes when this has become old.
        found.entry.touch(now);
        changed
    };
    let other = partner(memory, flow);
    severed(flow) && other.is_none_or(|other| severed(&other))
}

#[inline(always)]
fn move_both<A: Address, T: Tables + Flows<A>>(tables: &T, flow: &Found<A>, step: impl Fn(Word) -> Word) {
    if flow.change(tables, &step)
        && let Some(other) = partner(tables, flow)
    {
        other.change(tables, &step);
    }
}
