//! ICMP errors about packets that we sent on: translated outside and inside, they go to whoever sent the packet, so
//! that path MTU discovery works through NAT (RFC 5508).
//!
//! What an error quotes names its flow; one that names none is the host's.

use crate::abi::{TCP, UDP};
use crate::checksum::{self, Delta};
use crate::decide::{Flows, Tables, Verdict, settle};
use crate::family::Address;
use crate::flow_table::{FlowKey, Rewrite, TO_CLIENT, find};
use crate::forward::send_with;
use crate::frame::Frame;
use crate::lease;
use crate::neighbours;
use crate::parse::{Envelope, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::signs::{self, Sign};
use crate::verdict::Reason;
use crate::wire::Be16;

pub const ICMP_HEADER: usize = 8;
const ICMP_CHECKSUM: usize = 2;
/// Bytes of a quoted TCP or UDP header that are always there.
const QUOTED: usize = 8;

#[inline(always)]
pub fn error<F: Frame, A: Address, T: Tables + Flows<A>>(frame: &mut F, tables: &T, envelope: &Envelope<A>) -> Verdict {
    let [kind, code] = match frame.read::<Be16>(envelope.l4) {
        Some(header) => header.get().to_be_bytes(),
        None => return Verdict::Stop(Reason::OtherProtocol),
    };
    if !A::is_icmp_error(kind) {
        return Verdict::Stop(neighbours::solicitation(frame, tables, envelope));
    }
    let Some(quoted) = A::quoted(frame, envelope.l4 + ICMP_HEADER) else {
        return Verdict::Stop(Reason::IcmpUnknown);
    };
    let Some(ports) = frame.window::<QUOTED>(quoted.l4) else {
        return Verdict::Stop(Reason::IcmpUnknown);
    };
    // Whoever was sent the packet would have answered it by this key.
    let key = FlowKey {
        source: quoted.destination,
        destination: quoted.source,
        source_port: ports.read(2),
        destination_port: ports.read(0),
        protocol: quoted.protocol,
    };
    let flow = match quoted.protocol {
        TCP | UDP => find(tables, &key),
        _ => None,
    };
    // Whoever sent the packet is told about it, and nobody else.
    let told = quoted.source.difference(&envelope.destination) == 0 && quoted.l4 + QUOTED <= envelope.end;
    let Some(flow) = flow.filter(|_| told) else {
        return Verdict::Stop(Reason::IcmpUnknown);
    };
    if let Err(reason) = lease::held(tables, flow.word.lease()) {
        return Verdict::Stop(reason);
    }
    if flow.word.has(TO_CLIENT) && A::is_unreachable(kind, code) {
        signs::tell(tables, flow.word.backend(), Sign::Unreachable);
    }
    settle(send_with(frame, tables, envelope.into(), &flow, |frame, new| {
        translate(frame, envelope, &quoted, &key, new)
    }))
}

/// Outside the error takes the way of an answer. Inside, the packet becomes again the one that its sender sent.
#[inline(always)]
fn translate<F: Frame, A: Address>(
    frame: &mut F,
    envelope: &Envelope<A>,
    quoted: &Envelope<A>,
    key: &FlowKey<A>,
    new: &Rewrite<A>,
) -> Option<()> {
    // Whoever reports the error is none of the flow, so what the entry has precomputed does not fit. ICMPv6 covers the
    // addresses outside, too.
    let old = (&envelope.source, &envelope.destination);
    let mut outside = A::readdress(frame, envelope.l3, old, (&new.source, &new.destination))?;
    A::age(frame, envelope.l3, envelope.ttl)?;

    let addresses = A::replace(Delta::NONE, &quoted.source, &new.destination);
    let addresses = A::replace(addresses, &quoted.destination, &new.source);
    let ports = Delta::NONE
        .replace16(key.destination_port.be, new.destination_port.be)
        .replace16(key.source_port.be, new.source_port.be);
    // The checksums inside cancel what they cover, so the one outside sees ports only, and what covers no checksum.
    let old = (&quoted.source, &quoted.destination);
    let readdressed = A::readdress(frame, quoted.l3, old, (&new.destination, &new.source))?;
    outside = outside.plus(ports).plus(readdressed);

    let mut header = frame.window_mut::<QUOTED>(quoted.l4)?;
    header.write(0, new.destination_port);
    header.write(2, new.source_port);
    let inside = addresses.plus(ports).fold();
    let at = if quoted.protocol == TCP {
        TCP_CHECKSUM
    } else {
        UDP_CHECKSUM
    };
    if quoted.l4 + at + 2 <= envelope.end {
        let old: u16 = frame.read(quoted.l4 + at)?;
        let changed = if quoted.protocol == UDP {
            checksum::apply_udp(old, inside)
        } else {
            checksum::apply(old, inside)
        };
        frame.write(quoted.l4 + at, changed)?;
        outside = outside.replace16(old, changed);
    }
    let sum: u16 = frame.read(envelope.l4 + ICMP_CHECKSUM)?;
    frame.write(envelope.l4 + ICMP_CHECKSUM, checksum::apply(sum, outside.fold()))
}
