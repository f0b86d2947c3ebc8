//! A frame's whole way through Naru: known flow, new flow, or not ours. The kernel and the tests run this very code.

use crate::abi::{Backend, BackendId, Listen, Route, Service, ServiceId, TCP};
use crate::flow_table::{self, ANSWERED, FIN_SEEN, FlowMemory, Found, RESET, State, TO_CLIENT, Word, partner, release};
use crate::open;
use crate::parse::{FIN, Frame, Parsed, RST, SYN, parse};
use crate::rewrite::rewrite;
use crate::verdict::Reason;
use crate::wire::Be32;

/// What decisions look up. The kernel reads maps, tests read collections.
pub trait Tables: FlowMemory {
    fn listen(&self, listen: &Listen) -> Option<Service>;
    /// The backend in the slot of the service's table that `hash` falls on.
    fn slot(&self, service: ServiceId, hash: u64) -> Option<BackendId>;
    fn backend(&self, id: BackendId) -> Option<&Backend>;
    fn route(&self, address: Be32) -> Option<Route>;
    /// In ticks of `flow_table::TICK_SHIFT`.
    fn now(&self) -> u32;
    fn count_new_flow(&self, backend: BackendId);
    fn count_packet(&self, backend: BackendId, to_client: bool, bytes: u64);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Out of the interface with this index; the frame is rewritten.
    Send(u32),
    /// To the host's stack, or to nobody, as the reason says; a passed frame is untouched.
    Stop(Reason),
}

#[inline(always)]
pub fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T, ingress: u32) -> Verdict {
    match forward(frame, tables, ingress) {
        Ok(ifindex) => Verdict::Send(ifindex),
        Err(reason) => Verdict::Stop(reason),
    }
}

#[inline(always)]
fn forward<F: Frame, T: Tables>(frame: &mut F, tables: &T, ingress: u32) -> Result<u32, Reason> {
    let parsed = parse(frame)?;
    if let Some(flow) = flow_table::find(tables, &parsed.key) {
        if follow(tables, &parsed, &flow) {
            return send(frame, tables, &parsed, &flow);
        }
        // Over, and its client begins anew.
        release(tables, &flow);
    }
    let flow = open::open(frame, tables, &parsed, ingress)?;
    send(frame, tables, &parsed, &flow)
}

/// Keeps the flow's state; false where the flow is over and the packet begins another.
#[inline(always)]
fn follow<T: Tables>(tables: &T, parsed: &Parsed, flow: &Found) -> bool {
    let quiet = parsed.tcp_flags & (SYN | FIN | RST) == 0;
    if quiet && flow.word.is(State::Established) {
        return true;
    }
    if parsed.key.protocol != TCP {
        if flow.word.has(TO_CLIENT) {
            move_both(tables, flow, State::Established, 0);
        }
        return true;
    }
    if parsed.opens() && !flow.word.has(TO_CLIENT) {
        return !begins_anew(tables, parsed, flow);
    }
    if parsed.tcp_flags & (FIN | RST) != 0 {
        end(tables, parsed, flow);
    } else if flow.word.is(State::HalfOpen) {
        confirm(tables, parsed, flow);
    } else if quiet && flow.word.has(RESET) {
        // The peers did not believe that RST: whoever sent it was no party to the flow. What it was before is seen
        // from who had spoken, so that a RST does not help a SYN without a client behind it.
        move_both(tables, flow, State::HalfOpen, 0);
        confirm(tables, parsed, flow);
    }
    true
}

/// A client's SYN on a flow of its own: after the end of that flow, or again because nobody answered and another
/// backend would be asked now.
#[inline(always)]
fn begins_anew<T: Tables>(tables: &T, parsed: &Parsed, flow: &Found) -> bool {
    if flow.word.is(State::Closing) || flow.word.has(FIN_SEEN) {
        return true;
    }
    let answered = || partner(tables, flow).is_some_and(|other| other.word.has(ANSWERED));
    flow.word.is(State::HalfOpen)
        && !answered()
        && open::chosen(tables, &parsed.key).is_some_and(|backend| backend != flow.word.backend())
}

/// A FIN is remembered; the second one, or a RST, closes the flow.
#[inline(always)]
fn end<T: Tables>(tables: &T, parsed: &Parsed, flow: &Found) {
    if parsed.tcp_flags & RST != 0 {
        move_both(tables, flow, State::Closing, RESET);
        return;
    }
    flow.change(|word| word.with_mark(FIN_SEEN));
    // Looked at after our own mark is there for all to see: of two sides that end at once, one sees both.
    if partner(tables, flow).is_some_and(|other| other.word.has(FIN_SEEN)) {
        move_both(tables, flow, State::Closing, 0);
    }
}

/// A TCP flow is established when the backend answered the SYN and the client then spoke again: a client that is
/// not where it says it is sees no answer.
#[inline(always)]
fn confirm<T: Tables>(tables: &T, parsed: &Parsed, flow: &Found) {
    if flow.word.has(TO_CLIENT) {
        flow.change(|word| word.with_mark(ANSWERED));
    } else if parsed.tcp_flags & SYN == 0 && partner(tables, flow).is_some_and(|other| other.word.has(ANSWERED)) {
        move_both(tables, flow, State::Established, 0);
    }
}

#[inline(always)]
fn move_both<T: Tables>(tables: &T, flow: &Found, state: State, mark: u8) {
    let step = |word: Word| word.without_mark(RESET).with_mark(mark).with_state(state);
    if flow.change(step)
        && let Some(other) = partner(tables, flow)
    {
        other.change(step);
    }
}

#[inline(always)]
fn send<F: Frame, T: Tables>(frame: &mut F, tables: &T, parsed: &Parsed, flow: &Found) -> Result<u32, Reason> {
    if parsed.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let new = flow.entry.rewrite();
    let ifindex = new.next_hop.ifindex;
    let bytes = frame.length() as u64;
    rewrite(frame, parsed, new).ok_or(Reason::Malformed)?;
    flow.entry.touch(tables.now());
    // INVARIANT: the entry was this flow's from before the rewrite was read until after it.
    if !flow.entry.word().same_tenant(flow.word) {
        return Err(Reason::FlowRace);
    }
    tables.count_packet(flow.word.backend(), flow.word.has(TO_CLIENT), bytes);
    Ok(ifindex)
}
