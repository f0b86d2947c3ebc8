//! A frame's whole way through Naru: known flow, new flow, or not ours. The kernel and the tests run this very code.

use crate::abi::{Backend, BackendId, FragmentKey, Listen, Ports, Route, Service, ServiceId};
use crate::answer;
use crate::family::Address;
use crate::flow_table::{self, FlowMemory, Loop, SHIFTED, TICK_SHIFT, release};
use crate::forward::{send, send_with};
use crate::frame::Frame;
use crate::lease::{self, LeaseId};
use crate::lifetime::{Course, follow};
use crate::neighbours;
use crate::open::{self, Scratch};
use crate::parse::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Parsed, RST, ether, ipv4, ipv6};
use crate::port_rest::{self, Notes};
use crate::rewrite::{rewrite, rewrite_shifted};
use crate::signs::Signal;
use crate::stage::Stage;
use crate::timestamps;
use crate::unusual;
use crate::verdict::Reason;
use crate::wire::{Be32, Ip};

/// The flow table of one family.
pub trait Flows<A>: FlowMemory<A> + Scratch<A> {}

impl<A, T: FlowMemory<A> + Scratch<A>> Flows<A> for T {}

/// What decisions look up. The kernel reads maps, tests read collections.
pub trait Tables: Flows<Be32> + Flows<Ip> + Loop {
    fn listen(&self, listen: &Listen) -> Option<Service>;
    /// How many slots the service's table has.
    fn slot_count(&self, service: ServiceId) -> Option<u64>;
    fn slot(&self, service: ServiceId, number: u64) -> Option<BackendId>;
    /// Counts the new flows of a service, for those that take turns.
    fn turn(&self, service: ServiceId) -> u64;
    fn backend(&self, id: BackendId) -> Option<&Backend>;
    /// Counts the searches for a source port, by `ports::endpoint`.
    fn port_turn(&self, endpoint: u16) -> u64;
    /// A line of the memory of `port_rest`.
    #[expect(clippy::mut_from_ref, reason = "CPUs that write a line at once spoil hints at most")]
    fn port_notes(&self, line: u32) -> Option<&mut Notes>;
    /// When the last of them towards this backend failed, in ticks.
    fn exhausted_at(&self, id: BackendId) -> u32;
    fn note_exhausted(&self, id: BackendId, now: u32);
    /// When a sign of this backend was last told, in ticks.
    fn signed_at(&self, id: BackendId) -> u32;
    /// Tells the daemon, and notes when.
    fn signal(&self, signal: Signal, now: u32);
    fn active_flows(&self, id: BackendId) -> u64;
    fn route(&self, address: &Ip) -> Option<Route>;
    /// The ports of a fragmented packet.
    fn remember(&self, key: &FragmentKey, ports: &Ports);
    fn recall(&self, key: &FragmentKey) -> Option<Ports>;
    /// Of an address that hangs on one.
    fn shared_address(&self, address: &Ip) -> Option<LeaseId>;
    /// See `lease::held`.
    fn lease(&self, id: LeaseId) -> u64;
    /// CLOCK_MONOTONIC_COARSE, in ns.
    fn clock(&self) -> u64;
    /// The same in ticks.
    #[inline(always)]
    fn now(&self) -> u32 {
        (self.clock() >> TICK_SHIFT) as u32
    }
    fn count_new_flow(&self, backend: BackendId);
    fn count_ports_exhausted(&self, backend: BackendId);
    fn count_packet(&self, backend: BackendId, to_client: bool, bytes: u64);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Out of the interface with this index; the frame is rewritten.
    Send(u32),
    /// To the host's stack, or to nobody, as the reason says; a passed frame is untouched.
    Stop(Reason),
    /// For another stage to say; the frame is untouched.
    Next(Stage),
    /// Back out of the interface it came in by, as our own answer; counted for the reason all the same.
    Answer(Reason),
}

/// All stages, as one after the other calls for the next.
pub fn decide<F: Frame, T: Tables>(frame: &mut F, tables: &T, ingress: u32) -> Verdict {
    let mut verdict = first(frame, tables);
    while let Verdict::Next(stage) = verdict {
        verdict = match stage {
            Stage::UnusualIpv4 => unusual::<_, Be32, _>(frame, tables),
            Stage::UnusualIpv6 => unusual::<_, Ip, _>(frame, tables),
            Stage::OpenIpv4 => open::<_, Be32, _>(frame, tables, ingress),
            Stage::OpenIpv6 => open::<_, Ip, _>(frame, tables, ingress),
            Stage::AnswerIpv4 => answer::<_, Be32, _>(frame, tables),
            Stage::AnswerIpv6 => answer::<_, Ip, _>(frame, tables),
            Stage::ClockIpv4 => clock::<_, Be32, _>(frame, tables),
            Stage::ClockIpv6 => clock::<_, Ip, _>(frame, tables),
        };
    }
    verdict
}

#[inline(always)]
pub fn first<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let (ether_type, l3) = match ether(frame) {
        Ok(header) => header,
        Err(reason) => return Verdict::Stop(reason),
    };
    match ether_type {
        ETHER_TYPE_IPV4 => usual(frame, tables, ipv4(frame, l3)),
        ETHER_TYPE_IPV6 => usual(frame, tables, ipv6(frame, l3)),
        ETHER_TYPE_ARP => Verdict::Next(Stage::UnusualIpv4),
        _ => Verdict::Stop(Reason::NotIp),
    }
}

#[inline(always)]
fn usual<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &mut F,
    tables: &T,
    parsed: Result<Parsed<A>, Reason>,
) -> Verdict {
    match parsed {
        Ok(parsed) => by_flow(frame, tables, &parsed),
        Err(Reason::Fragment | Reason::OtherProtocol) => Verdict::Next(A::UNUSUAL),
        Err(reason) => Verdict::Stop(reason),
    }
}

#[inline(always)]
pub fn unusual<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T) -> Verdict {
    match ether(frame) {
        Ok((ETHER_TYPE_ARP, l3)) => Verdict::Stop(neighbours::arp(frame, tables, l3)),
        Ok((_, l3)) => unusual::unusual::<_, A, _>(frame, tables, l3),
        Err(reason) => Verdict::Stop(reason),
    }
}

#[inline(always)]
pub fn by_flow<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T, parsed: &Parsed<A>) -> Verdict {
    if let Some(flow) = flow_table::find(tables, &parsed.key) {
        if let Err(reason) = lease::held(tables, flow.word.lease()) {
            return Verdict::Stop(reason);
        }
        match follow(tables, parsed, &flow) {
            Course::Remembered => return hand_over(tables, parsed, 0, A::CLOCK),
            Course::Goes if flow.word.has(SHIFTED) => return hand_over(tables, parsed, 0, A::CLOCK),
            Course::Goes => {
                return match send(frame, tables, parsed, &flow) {
                    Err(Reason::TooBig) => hand_over(tables, parsed, flow.entry.rewrite().l4_delta, A::ANSWER),
                    sent => settle(sent),
                };
            }
            Course::Severed if parsed.tcp_flags & RST != 0 => return Verdict::Stop(Reason::FlowReset),
            Course::Severed => return hand_over(tables, parsed, 0, A::ANSWER),
            Course::BeginsAnew => drop(release(tables, &flow)),
        }
    }
    hand_over(tables, parsed, 0, A::OPEN)
}

/// To a later stage, with what was found out about the packet.
#[inline(always)]
fn hand_over<A: Address, T: Tables + Flows<A>>(tables: &T, parsed: &Parsed<A>, mtu: u16, stage: Stage) -> Verdict {
    match tables.opening() {
        Some(opening) => {
            (opening.parsed, opening.mtu) = (*parsed, mtu);
            Verdict::Next(stage)
        }
        None => Verdict::Stop(Reason::StageMissing),
    }
}

/// Opens the flow that an earlier stage has parsed the first packet of.
#[inline(always)]
pub fn open<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T, ingress: u32) -> Verdict {
    let Some(opening) = Scratch::<A>::opening(tables) else {
        return Verdict::Stop(Reason::StageMissing);
    };
    let flow = match open::open(frame, tables, opening, ingress) {
        // Another flow may be there already.
        Ok(index) => flow_table::look(tables, index, &opening.parsed.key),
        Err(Reason::NoBackend) => return Verdict::Next(A::ANSWER),
        Err(reason) => return Verdict::Stop(reason),
    };
    let Some(flow) = flow else {
        return Verdict::Stop(Reason::FlowRace);
    };
    if flow.word.has(SHIFTED) {
        return Verdict::Next(A::CLOCK);
    }
    match send(frame, tables, &opening.parsed.bounded(), &flow) {
        Err(Reason::TooBig) => Verdict::Next(A::ANSWER),
        sent => settle(sent),
    }
}

/// Answers the packet that an earlier stage has parsed.
#[inline(always)]
pub fn answer<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T) -> Verdict {
    let Some(opening) = Scratch::<A>::opening(tables) else {
        return Verdict::Stop(Reason::StageMissing);
    };
    let (parsed, mtu) = (opening.parsed.bounded(), opening.mtu);
    let (answered, reason) = if mtu != 0 {
        (answer::too_big(frame, &parsed, mtu), Reason::TooBig)
    } else if parsed.opens() {
        (answer::refuse(frame, &parsed), Reason::NoBackend)
    } else {
        (answer::refuse(frame, &parsed), Reason::FlowReset)
    };
    match answered {
        Some(()) => Verdict::Answer(reason),
        None => Verdict::Stop(reason),
    }
}

/// Sends on a packet whose timestamps matter, of a flow that an earlier stage has found.
#[inline(always)]
pub fn clock<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T) -> Verdict {
    let Some(opening) = Scratch::<A>::opening(tables) else {
        return Verdict::Stop(Reason::StageMissing);
    };
    let parsed = opening.parsed.bounded();
    let Some(flow) = flow_table::find(tables, &parsed.key) else {
        return Verdict::Stop(Reason::FlowRace);
    };
    let timestamps = timestamps::find(frame, tables, &parsed);
    if flow.word.is_ended_towards_client() {
        port_rest::note_end(frame, tables, &parsed, timestamps);
    }
    settle(send_with(frame, tables, (&parsed).into(), &flow, |frame, new| {
        if flow.word.has(SHIFTED) {
            rewrite_shifted(frame, &parsed, &flow, timestamps)
        } else {
            rewrite(frame, &parsed, new)
        }
    }))
}

#[inline(always)]
pub fn settle(sent: Result<u32, Reason>) -> Verdict {
    match sent {
        Ok(ifindex) => Verdict::Send(ifindex),
        Err(reason) => Verdict::Stop(reason),
    }
}
