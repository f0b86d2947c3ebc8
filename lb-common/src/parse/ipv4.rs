//! The IPv4 header (RFC 791); options are stepped over.

use super::{Envelope, Fragment, Parsed, transport};
use crate::abi::{TCP, UDP};
use crate::family::Address;
use crate::frame::Frame;
use crate::verdict::Reason;
use crate::wire::{Be16, Be32};

const HEADER: usize = 20;
const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const FRAGMENT: usize = 6;
const PROTOCOL: usize = 9;
const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of eight bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A packet that is no fragment and carries TCP or UDP.
#[inline(always)]
pub fn ipv4<F: Frame>(frame: &F, l3: usize) -> Result<Parsed<Be32>, Reason> {
    let envelope = ipv4_envelope(frame, l3)?;
    if envelope.protocol != TCP && envelope.protocol != UDP {
        return Err(Reason::OtherProtocol);
    }
    if envelope.fragment.offset != 0 || envelope.fragment.more {
        return Err(Reason::Fragment);
    }
    transport(frame, &envelope)
}

#[inline(always)]
pub fn ipv4_envelope<F: Frame>(frame: &F, l3: usize) -> Result<Envelope<Be32>, Reason> {
    let header = frame.window::<HEADER>(l3).ok_or(Reason::Malformed)?;
    let version_length: u8 = header.read(0);
    let length = ((version_length & 0x0f) as usize) * 4;
    let total = header.read::<Be16>(TOTAL_LENGTH).get() as usize;
    if version_length >> 4 != 4 || length < HEADER || total < length || !frame.holds(l3 + total) {
        return Err(Reason::Malformed);
    }
    let fragment = header.read::<Be16>(FRAGMENT).get();
    Ok(Envelope {
        source: header.read(Be32::SOURCE),
        destination: header.read(Be32::DESTINATION),
        protocol: header.read(PROTOCOL),
        ttl: header.read(Be32::TTL),
        fragment: Fragment {
            identification: header.read::<Be16>(IDENTIFICATION).get() as u32,
            offset: (fragment & FRAGMENT_OFFSET) << 3,
            more: fragment & MORE_FRAGMENTS != 0,
        },
        l3,
        l4: l3 + length,
        end: l3 + total,
    })
}

/// The header of a packet that an ICMP error quotes, of which the end may be missing.
#[inline(always)]
pub fn ipv4_quoted<F: Frame>(frame: &F, l3: usize) -> Option<Envelope<Be32>> {
    let header = frame.window::<HEADER>(l3)?;
    let version_length: u8 = header.read(0);
    let length = ((version_length & 0x0f) as usize) * 4;
    let later = header.read::<Be16>(FRAGMENT).get() & FRAGMENT_OFFSET != 0;
    (version_length >> 4 == 4 && length >= HEADER && !later).then(|| Envelope {
        source: header.read(Be32::SOURCE),
        destination: header.read(Be32::DESTINATION),
        protocol: header.read(PROTOCOL),
        ttl: header.read(Be32::TTL),
        fragment: Fragment::default(),
        l3,
        l4: l3 + length,
        end: l3 + length,
    })
}
