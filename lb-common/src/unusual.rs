//! Packets that are not simply TCP or UDP behind an IP header: fragments, ICMP errors, IPv6 extension headers.

use crate::abi::{FragmentKey, Ports, TCP, UDP};
use crate::decide::{Flows, Tables, Verdict, by_flow, settle};
use crate::family::Address;
use crate::flow_table::{FlowKey, find};
use crate::forward::send_with;
use crate::frame::Frame;
use crate::icmp;
use crate::lease;
use crate::open::listen_of;
use crate::parse::{Envelope, transport};
use crate::verdict::Reason;

#[inline(always)]
pub fn unusual<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T, l3: usize) -> Verdict {
    let envelope = match A::envelope(frame, tables, l3) {
        Ok(envelope) => envelope,
        Err(reason) => return Verdict::Stop(reason),
    };
    let ports = envelope.protocol == TCP || envelope.protocol == UDP;
    if envelope.fragment.offset != 0 {
        return if ports {
            later_fragment(frame, tables, &envelope)
        } else {
            Verdict::Stop(Reason::Fragment)
        };
    }
    if ports {
        return first_part(frame, tables, &envelope);
    }
    if envelope.protocol == A::ICMP && !envelope.fragment.more {
        return icmp::error(frame, tables, &envelope);
    }
    Verdict::Stop(Reason::OtherProtocol)
}

/// A whole packet, or the first fragment of one: its ports are remembered for the others.
#[inline(always)]
fn first_part<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &mut F,
    tables: &T,
    envelope: &Envelope<A>,
) -> Verdict {
    let parsed = match transport(frame, envelope) {
        Ok(parsed) => parsed,
        Err(reason) => return Verdict::Stop(reason),
    };
    // Whoever sends fragments to nobody fills no table.
    let ours = || find(tables, &parsed.key).is_some() || tables.listen(&listen_of(&parsed.key)).is_some();
    if envelope.fragment.more && ours() {
        let ports = Ports {
            source: parsed.key.source_port,
            destination: parsed.key.destination_port,
        };
        tables.remember(&fragment_key(envelope), &ports);
    }
    by_flow(frame, tables, &parsed)
}

/// Has no ports and no checksum of its own: only its IP header changes.
#[inline(always)]
fn later_fragment<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &mut F,
    tables: &T,
    envelope: &Envelope<A>,
) -> Verdict {
    let Some(ports) = tables.recall(&fragment_key(envelope)) else {
        return Verdict::Stop(Reason::Fragment);
    };
    let key = FlowKey {
        source: envelope.source,
        destination: envelope.destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol: envelope.protocol,
    };
    let Some(flow) = find(tables, &key) else {
        return Verdict::Stop(Reason::Fragment);
    };
    if let Err(reason) = lease::held(tables, flow.word.lease()) {
        return Verdict::Stop(reason);
    }
    let (l3, ttl) = (envelope.l3, envelope.ttl);
    settle(send_with(frame, tables, envelope.into(), &flow, |frame, new| {
        A::rewrite_header(frame, l3, ttl, new)
    }))
}

#[inline(always)]
fn fragment_key<A: Address>(envelope: &Envelope<A>) -> FragmentKey {
    FragmentKey {
        source: envelope.source.ip(),
        destination: envelope.destination.ip(),
        identification: envelope.fragment.identification,
        protocol: envelope.protocol as u32,
    }
}
