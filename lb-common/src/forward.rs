//! Puts a packet of a known flow on its way, as the flow's mode has it, and counts it.
//!
//! Looks nothing up: the entry has it all.

use crate::abi::Mode;
use crate::decide::{Flows, Tables};
use crate::family::Address;
use crate::flow_table::{Found, Rewrite, TO_CLIENT};
use crate::frame::Frame;
use crate::parse::{ETHER_ADDRESSES, Envelope, Parsed};
use crate::rewrite::rewrite;
use crate::verdict::Reason;
use crate::wire::Ether;

/// What of a packet matters for its way.
#[derive(Clone, Copy)]
pub struct Packet {
    pub l3: usize,
    pub end: usize,
    pub ttl: u8,
}

impl<A> From<&Parsed<A>> for Packet {
    #[inline(always)]
    fn from(parsed: &Parsed<A>) -> Self {
        Self {
            l3: parsed.l3,
            end: parsed.end,
            ttl: parsed.ttl,
        }
    }
}

impl<A> From<&Envelope<A>> for Packet {
    #[inline(always)]
    fn from(envelope: &Envelope<A>) -> Self {
        Self {
            l3: envelope.l3,
            end: envelope.end,
            ttl: envelope.ttl,
        }
    }
}

#[inline(always)]
pub fn send<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &mut F,
    tables: &T,
    parsed: &Parsed<A>,
    flow: &Found<A>,
) -> Result<u32, Reason> {
    send_with(frame, tables, parsed.into(), flow, |frame, new| {
        rewrite(frame, parsed, new)
    })
}

/// `translate` is what NAT does to the packet; the other modes leave it as it is.
#[inline(always)]
pub fn send_with<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &mut F,
    tables: &T,
    packet: Packet,
    flow: &Found<A>,
    translate: impl FnOnce(&mut F, &Rewrite<A>) -> Option<()>,
) -> Result<u32, Reason> {
    let new = flow.entry.rewrite();
    let ifindex = new.next_hop.ifindex;
    let mode = flow.word.mode();
    // Who routes a packet takes one from its TTL; on the link it is only passed on.
    if packet.ttl <= 1 && mode != Mode::DsrL2 {
        return Err(Reason::TtlExpired);
    }
    let sent = match mode {
        Mode::Nat => translate(frame, new),
        Mode::DsrL2 => Some(()),
        Mode::DsrIpip => {
            if packet.end - packet.l3 + A::HEADER > new.l4_delta as usize {
                return Err(Reason::TooBig);
            }
            encapsulate(frame, packet, new)
        }
    };
    sent.and_then(|()| address(frame, new.next_hop.ether))
        .ok_or(Reason::Malformed)?;
    flow.entry.touch(tables.now());
    // INVARIANT: the entry was this flow's from before the rewrite was read until after it.
    if !flow.entry.word().same_tenant(flow.word) {
        return Err(Reason::FlowRace);
    }
    tables.count_packet(flow.word.backend(), flow.word.has(TO_CLIENT), packet.end as u64);
    Ok(ifindex)
}

/// Writes the Ethernet addresses.
#[inline(always)]
pub fn address<F: Frame>(frame: &mut F, ether: Ether) -> Option<()> {
    let [a, b, c] = ether.words;
    let mut header = frame.window_mut::<ETHER_ADDRESSES>(0)?;
    header.write(0, a);
    header.write(4, b);
    header.write(8, c);
    Some(())
}

/// The packet within another one to the backend (RFC 2003, RFC 2473). Ethernet addresses are still to be written.
#[inline(always)]
fn encapsulate<F: Frame, A: Address>(frame: &mut F, packet: Packet, new: &Rewrite<A>) -> Option<()> {
    A::age(frame, packet.l3, packet.ttl)?;
    // Tags and a type move.
    frame.make_room(ETHER_ADDRESSES, packet.l3, A::HEADER)?;
    let addresses = (&new.source, &new.destination);
    A::write_header(frame, packet.l3, addresses, A::ENCAPSULATED, packet.end - packet.l3)
}
