//! Adverts as bytes: VRRP version 2 (RFC 3768, with its password) and version 3 (RFC 9568) over IPv4 and IPv6.
//!
//! Knows nothing of instances: whether a sender may be heard is for `settings`, what an advert means for `machine`.
//! Tested here and, with hostile bytes, in `packet/tests.rs`, `tests/it/laws.rs` and by the fuzzer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::refusal::Refusal;
use super::sealed;
use crate::core::dns::Family;

#[cfg(test)]
mod tests;

/// The number of VRRP among IP protocols.
pub const PROTOCOL: u8 = 112;
/// A router takes one off, so what arrives with all of it comes from the link.
pub const TTL: u8 = 255;
/// What its sender is about to leave with.
pub const RESIGNS: u8 = 0;

pub(super) const HEADER: usize = 8;
const ADVERTISEMENT: u8 = 1;
/// Of version 2, at the end, whether or not there is a password.
const TRAILER: usize = 8;
const NO_AUTH: u8 = 0;
const PASSWORD: u8 = 1;
/// Version 3 has twelve bits for centiseconds; the four above them are reserved.
const INTERVAL_BITS: u16 = 0x0fff;

/// Where adverts go that have no list of peers.
pub const fn group(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    pub id: u8,
    /// 0: the sender resigns.
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
}

/// How the adverts of an instance are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub version: Version,
    pub checksum: Checksum,
    /// Of version 2 alone.
    pub password: Option<Password>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V2,
    V3,
}

/// What the sum of an advert that we send covers, in version 3 over IPv4. RFC 9568 §5.2.8 has the message alone; most
/// that is in use adds the pseudo-header and refuses adverts without. Either is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    PseudoHeader,
    Message,
}

/// Travels in the clear; guards against mistakes, not against anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; TRAILER]);

/// What the IP header says of an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

impl Password {
    /// None: longer than eight bytes, empty, or with a zero, which ends it.
    pub fn new(text: &[u8]) -> Option<Self> {
        let fits = (1..=TRAILER).contains(&text.len()) && !text.contains(&0);
        let mut bytes = [0; TRAILER];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        fits.then_some(Self(bytes))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Version {
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The unit of intervals.
    pub const fn tick(self) -> Duration {
        match self {
            Self::V2 => Duration::from_secs(1),
            Self::V3 => Duration::from_millis(10),
        }
    }

    pub const fn longest_interval(self) -> Duration {
        match self {
            Self::V2 => Duration::from_secs(255),
            Self::V3 => Duration::from_millis(10 * INTERVAL_BITS as u64),
        }
    }

    fn ticks(self, interval: Duration) -> u16 {
        let interval = interval.min(self.longest_interval());
        u16::try_from(interval.as_millis() / self.tick().as_millis()).unwrap_or(INTERVAL_BITS)
    }
}

/// The bytes behind the IP header.
///
/// INVARIANT: `addresses` are at most 255, and of the family of source and destination.
pub fn write(advert: &Advert, format: &Format, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let Format { version, password, .. } = format;
    let count = u8::try_from(advert.addresses.len()).unwrap_or(u8::MAX);
    let mut bytes = vec![version.number() << 4 | ADVERTISEMENT, advert.id, advert.priority, count];
    let ticks = version.ticks(advert.interval);
    match version {
        Version::V2 => {
            let auth = if password.is_some() { PASSWORD } else { NO_AUTH };
            bytes.extend([auth, u8::try_from(ticks).unwrap_or(u8::MAX)]);
        }
        Version::V3 => bytes.extend(ticks.to_be_bytes()),
    }
    bytes.extend([0, 0]);
    for address in advert.addresses.iter().take(count.into()) {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    if *version == Version::V2 {
        bytes.extend(password.as_ref().map_or([0; TRAILER], |password| password.0));
    }
    put_sum(&mut bytes, format, source, destination);
    bytes
}

/// Puts the checksum of all these bytes into them.
pub(super) fn put_sum(bytes: &mut [u8], format: &Format, source: IpAddr, destination: IpAddr) {
    let with_pseudo_header = match (format.version, source) {
        (Version::V2, _) => false,
        (Version::V3, IpAddr::V4(_)) => format.checksum == Checksum::PseudoHeader,
        (Version::V3, IpAddr::V6(_)) => true,
    };
    let pseudo_header = if with_pseudo_header {
        pseudo_header(source, destination, bytes.len())
    } else {
        Vec::new()
    };
    bytes[6..8].copy_from_slice(&[0, 0]);
    let sum = !sum(&[&pseudo_header, bytes]);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// The instance it is for, which says how the rest is to be read.
pub fn id(payload: &[u8]) -> Result<u8, Refusal> {
    let [kind, id, ..] = payload else {
        return Err(Refusal::Truncated);
    };
    match (kind >> 4, kind & 0x0f) {
        (2 | 3, ADVERTISEMENT) | (3, sealed::GREETING) => Ok(*id),
        (2 | 3, _) => Err(Refusal::Type),
        _ => Err(Refusal::Version),
    }
}

/// Its id is good.
pub(super) fn is_greeting(payload: &[u8]) -> bool {
    payload.first().is_some_and(|kind| kind & 0x0f == sealed::GREETING)
}

/// An advert without a seal, if the bytes are one in every respect.
pub fn parse(payload: &[u8], envelope: &Envelope, format: &Format) -> Result<Advert, Refusal> {
    id(payload)?;
    if is_greeting(payload) {
        return Err(Refusal::KeyMissing);
    }
    let parts = Parts::of(payload, envelope, format)?;
    if !sum_is_right(payload, envelope, format.version) {
        return Err(Refusal::Checksum);
    }
    parts.advert(envelope, format)
}

/// An advert by its lengths, before anything in it is believed.
pub(super) struct Parts<'p> {
    header: [u8; HEADER],
    listed: &'p [u8],
    trailer: &'p [u8],
}

impl<'p> Parts<'p> {
    pub fn of(message: &'p [u8], envelope: &Envelope, format: &Format) -> Result<Self, Refusal> {
        let Some((&header, rest)) = message.split_first_chunk::<HEADER>() else {
            return Err(Refusal::Truncated);
        };
        let [kind, _, _, count, ..] = header;
        if kind >> 4 != format.version.number() {
            return Err(Refusal::Version);
        }
        if count == 0 {
            return Err(Refusal::NoAddress);
        }
        let (listed, trailer) = divide(rest, count, envelope, format.version)?;
        Ok(Self {
            header,
            listed,
            trailer,
        })
    }

    pub fn advert(self, envelope: &Envelope, format: &Format) -> Result<Advert, Refusal> {
        let [_, id, priority, _, high, low, ..] = self.header;
        let ticks = match format.version {
            Version::V2 => {
                check_password(high, self.trailer, format)?;
                low.into()
            }
            Version::V3 => u16::from_be_bytes([high, low]) & INTERVAL_BITS,
        };
        if ticks == 0 {
            return Err(Refusal::IntervalZero);
        }
        Ok(Advert {
            id,
            priority,
            interval: format.version.tick() * u32::from(ticks),
            addresses: addresses(self.listed, envelope),
        })
    }
}

pub(super) fn sum_is_right(payload: &[u8], envelope: &Envelope, version: Version) -> bool {
    let pseudo = pseudo_header(envelope.source, envelope.destination, payload.len());
    let (plain, with_pseudo_header) = (sum(&[payload]) == 0xffff, sum(&[&pseudo, payload]) == 0xffff);
    match (version, envelope.source) {
        (Version::V2, _) => plain,
        (Version::V3, IpAddr::V4(_)) => plain || with_pseudo_header,
        (Version::V3, IpAddr::V6(_)) => with_pseudo_header,
    }
}

/// The addresses, and what is behind them.
fn divide<'p>(
    rest: &'p [u8],
    count: u8,
    envelope: &Envelope,
    version: Version,
) -> Result<(&'p [u8], &'p [u8]), Refusal> {
    let size = if envelope.source.is_ipv4() { 4 } else { 16 };
    let trailer = if version == Version::V2 { TRAILER } else { 0 };
    let (listed, behind) = rest
        .split_at_checked(usize::from(count) * size)
        .ok_or(Refusal::CountTooHigh)?;
    match behind.len() {
        length if length < trailer => Err(Refusal::CountTooHigh),
        _ if version == Version::V3 && sealed::is_seal(behind) => Err(Refusal::KeyMissing),
        length if length > trailer => Err(Refusal::TrailingBytes),
        _ => Ok((listed, behind)),
    }
}

fn check_password(kind: u8, trailer: &[u8], format: &Format) -> Result<(), Refusal> {
    let fits = match (kind, &format.password) {
        (NO_AUTH, None) => true,
        (PASSWORD, Some(password)) => trailer == password.0,
        _ => false,
    };
    if fits { Ok(()) } else { Err(Refusal::Auth) }
}

fn addresses(listed: &[u8], envelope: &Envelope) -> Vec<IpAddr> {
    match envelope.source {
        IpAddr::V4(_) => listed
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| IpAddr::from(*bytes))
            .collect(),
        IpAddr::V6(_) => listed
            .as_chunks::<16>()
            .0
            .iter()
            .map(|bytes| IpAddr::from(*bytes))
            .collect(),
    }
}

/// RFC 8200 §8.1, RFC 9293 §3.1.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    bytes.extend(match source {
        IpAddr::V4(_) => vec![0, PROTOCOL],
        IpAddr::V6(_) => vec![0, PROTOCOL, 0, 0],
    });
    bytes.extend(length.to_be_bytes());
    bytes
}

/// In ones' complement; all parts but the last have an even length.
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let words = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| low.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Takes an IPv4 datagram apart, as a raw socket gives it: its header may have options.
pub fn open_ipv4(datagram: &[u8]) -> Result<(Envelope, &[u8]), Refusal> {
    let Some((header, _)) = datagram.split_first_chunk::<20>() else {
        return Err(Refusal::IpHeader);
    };
    let length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header[0] >> 4 != 4 || length < header.len() || is_fragment || header[9] != PROTOCOL {
        return Err(Refusal::IpHeader);
    }
    let payload = datagram.get(length..total).ok_or(Refusal::IpHeader)?;
    let address = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let envelope = Envelope {
        source: address(12),
        destination: address(16),
        ttl: header[8],
    };
    Ok((envelope, payload))
}
