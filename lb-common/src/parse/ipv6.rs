//! The IPv6 header (RFC 8200) and a bounded walk over its extension headers.

use super::{Envelope, Fragment, MAX_L4, Parsed, transport};
use crate::abi::{TCP, UDP};
use crate::family::Address;
use crate::flow_table::Loop;
use crate::frame::{Frame, Window};
use crate::verdict::Reason;
use crate::wire::{Be16, Be32, Ip};

const HEADER: usize = 40;
const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;

const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const FRAGMENT_HEADER: usize = 8;
const DESTINATION_OPTIONS: u8 = 60;
/// Hop-by-hop options, destination options, a fragment's header, and room for nonsense; longer chains are the host's
/// business.
const MAX_EXTENSIONS: u32 = 4;

/// A packet that carries TCP or UDP without extension headers.
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &F, l3: usize) -> Result<Parsed<Ip>, Reason> {
    let envelope = fixed(frame, l3)?;
    if envelope.protocol != TCP && envelope.protocol != UDP {
        return Err(Reason::OtherProtocol);
    }
    transport(frame, &envelope)
}

/// Steps over those extension headers that do not change where the packet goes.
#[inline(always)]
pub fn ipv6_envelope<F: Frame>(frame: &F, loops: &impl Loop, l3: usize) -> Result<Envelope<Ip>, Reason> {
    let mut envelope = fixed(frame, l3)?;
    let (mut protocol, mut l4, mut fragment) = (envelope.protocol, envelope.l4, Fragment::default());
    loops.repeat(MAX_EXTENSIONS, |_| {
        if !matches!(protocol, HOP_BY_HOP | DESTINATION_OPTIONS | FRAGMENT) || l4 > MAX_L4 || fragment.offset != 0 {
            return false;
        }
        let Some(header) = frame.window::<FRAGMENT_HEADER>(l4) else {
            return false;
        };
        let mut length = (header.read::<u8>(1) as usize + 1) * 8;
        if protocol == FRAGMENT {
            let place = header.read::<Be16>(2).get();
            fragment = Fragment {
                identification: header.read::<Be32>(4).get(),
                offset: place & !7,
                more: place & 1 != 0,
            };
            length = FRAGMENT_HEADER;
        }
        protocol = header.read(0);
        l4 += length;
        true
    });
    (envelope.protocol, envelope.fragment) = (protocol, fragment);
    envelope.l4 = loops.forget(l4);
    if envelope.l4 > MAX_L4 {
        return Err(Reason::Malformed);
    }
    Ok(envelope)
}

#[inline(always)]
fn fixed<F: Frame>(frame: &F, l3: usize) -> Result<Envelope<Ip>, Reason> {
    let header = frame.window::<HEADER>(l3).ok_or(Reason::Malformed)?;
    let end = l3 + HEADER + header.read::<Be16>(PAYLOAD_LENGTH).get() as usize;
    if header.read::<u8>(0) >> 4 != 6 || !frame.holds(end) {
        return Err(Reason::Malformed);
    }
    Ok(envelope(&header, l3, end))
}

/// The header of a packet that an ICMP error quotes, of which the end may be missing.
#[inline(always)]
pub fn ipv6_quoted<F: Frame>(frame: &F, l3: usize) -> Option<Envelope<Ip>> {
    let header = frame.window::<HEADER>(l3)?;
    (header.read::<u8>(0) >> 4 == 6).then(|| envelope(&header, l3, l3 + HEADER))
}

#[inline(always)]
fn envelope(header: &Window<'_, HEADER>, l3: usize, end: usize) -> Envelope<Ip> {
    Envelope {
        source: header.read(Ip::SOURCE),
        destination: header.read(Ip::DESTINATION),
        protocol: header.read(NEXT_HEADER),
        ttl: header.read(Ip::TTL),
        fragment: Fragment::default(),
        l3,
        l4: l3 + HEADER,
        end,
    }
}
