//! What IPv4 and IPv6 have in common, so that the data path is written once.
//!
//! Headers and arithmetic only; what a frame has is for `parse`, what becomes of it for others.

use core::fmt::Debug;

use crate::checksum::{self, Delta};
use crate::flow_table::{Loop, Rewrite};
use crate::frame::{Field, Frame};
use crate::parse::{
    ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Envelope, ipv4_envelope, ipv4_quoted, ipv6_envelope, ipv6_quoted,
};
use crate::stage::Stage;
use crate::verdict::Reason;
use crate::wire::{Be16, Be32, Ip};

/// An address as packets of its family carry it.
pub trait Address: Field + Copy + Default + PartialEq + Debug {
    const ETHER_TYPE: u16;
    /// Offsets within the IP header.
    const SOURCE: usize;
    const DESTINATION: usize;
    const TTL: usize;
    /// Length of a header without options.
    const HEADER: usize;
    const ICMP: u8;
    /// As the protocol of a packet within a packet.
    const ENCAPSULATED: u8;
    const UNUSUAL: Stage;
    const OPEN: Stage;
    const ANSWER: Stage;
    const CLOCK: Stage;
    /// Types and codes.
    const PORT_UNREACHABLE: u16;
    const TOO_BIG: u16;
    /// Whether an ICMP type is that of an error, which quotes a packet.
    fn is_icmp_error(kind: u8) -> bool;
    /// Whether it says that a packet could not be delivered: not for its size, nor because it was on its way too long.
    fn is_unreachable(kind: u8, code: u8) -> bool;

    fn ip(self) -> Ip;
    /// Of an `Ip` of this family.
    fn from_ip(ip: &Ip) -> Self;
    /// Zero where both are equal. No branches: chained comparisons become a call to memcmp.
    fn difference(&self, other: &Self) -> u32;
    fn replace(delta: Delta, old: &Self, new: &Self) -> Delta;
    fn add(sum: Delta, address: &Self) -> Delta;
    /// Spreads a pair over 64 bits.
    fn mix(source: &Self, destination: &Self) -> u64;
    /// An address that cannot be a client's.
    fn is_martian(&self) -> bool;
    /// What ICMP checksums cover before the message itself.
    fn icmp_pseudo_header(source: &Self, destination: &Self, length: usize) -> Delta;
    fn envelope<F: Frame>(frame: &F, loops: &impl Loop, l3: usize) -> Result<Envelope<Self>, Reason>;
    /// The header of a packet that an ICMP error quotes, of which the end may be missing.
    fn quoted<F: Frame>(frame: &F, l3: usize) -> Option<Envelope<Self>>;
    /// Gives the header at `l3` new addresses; what that changes of a sum that covers header or addresses.
    fn readdress<F: Frame>(frame: &mut F, l3: usize, old: (&Self, &Self), new: (&Self, &Self)) -> Option<Delta>;
    /// Takes one from the TTL of the header at `l3`.
    fn age<F: Frame>(frame: &mut F, l3: usize, ttl: u8) -> Option<()>;
    /// Gives the header at `l3` its new addresses and takes one from its TTL.
    fn rewrite_header<F: Frame>(frame: &mut F, l3: usize, ttl: u8, new: &Rewrite<Self>) -> Option<()>;
    /// Writes a new header at `l3`, for `length` bytes behind it.
    fn write_header<F: Frame>(
        frame: &mut F,
        l3: usize,
        addresses: (&Self, &Self),
        protocol: u8,
        length: usize,
    ) -> Option<()>;
}

/// Of packets that begin here.
const TTL: u8 = 64;

const IPV4_CHECKSUM: usize = 10;

const MULTIPLIER: u64 = 0xbf58_476d_1ce4_e5b9;

impl Address for Be32 {
    const ETHER_TYPE: u16 = ETHER_TYPE_IPV4;
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const TTL: usize = 8;
    const HEADER: usize = 20;
    const ICMP: u8 = 1;
    const ENCAPSULATED: u8 = 4;
    const UNUSUAL: Stage = Stage::UnusualIpv4;
    const OPEN: Stage = Stage::OpenIpv4;
    const ANSWER: Stage = Stage::AnswerIpv4;
    const CLOCK: Stage = Stage::ClockIpv4;
    const PORT_UNREACHABLE: u16 = 0x0303;
    const TOO_BIG: u16 = 0x0304;

    #[inline(always)]
    fn ip(self) -> Ip {
        self.into()
    }

    #[inline(always)]
    fn from_ip(ip: &Ip) -> Self {
        ip.last()
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u32 {
        self.be ^ other.be
    }

    #[inline(always)]
    fn replace(delta: Delta, old: &Self, new: &Self) -> Delta {
        delta.replace32(old.be, new.be)
    }

    #[inline(always)]
    fn add(sum: Delta, address: &Self) -> Delta {
        sum.add32(address.be)
    }

    #[inline(always)]
    fn mix(source: &Self, destination: &Self) -> u64 {
        let addresses = (source.be as u64) << 32 | destination.be as u64;
        (addresses ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(MULTIPLIER)
    }

    /// 0/8, 127/8, multicast and beyond.
    #[inline(always)]
    fn is_martian(&self) -> bool {
        let first = self.get() >> 24;
        first == 0 || first == 127 || first >= 224
    }

    /// Unreachable, source quench, time exceeded, parameter problem.
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 11 | 12)
    }

    #[inline(always)]
    fn is_unreachable(kind: u8, code: u8) -> bool {
        kind == 3 && code != 4
    }

    #[inline(always)]
    fn icmp_pseudo_header(_: &Self, _: &Self, _: usize) -> Delta {
        Delta::NONE
    }

    #[inline(always)]
    fn envelope<F: Frame>(frame: &F, _: &impl Loop, l3: usize) -> Result<Envelope<Self>, Reason> {
        ipv4_envelope(frame, l3)
    }

    #[inline(always)]
    fn quoted<F: Frame>(frame: &F, l3: usize) -> Option<Envelope<Self>> {
        ipv4_quoted(frame, l3)
    }

    /// The header's own checksum takes the change back.
    #[inline(always)]
    fn readdress<F: Frame>(frame: &mut F, l3: usize, old: (&Self, &Self), new: (&Self, &Self)) -> Option<Delta> {
        let delta = replace_both(old, new).fold();
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        header.write(IPV4_CHECKSUM, checksum::apply(header.read(IPV4_CHECKSUM), delta));
        header.write(Self::SOURCE, *new.0);
        header.write(Self::DESTINATION, *new.1);
        Some(Delta::NONE)
    }

    #[inline(always)]
    fn age<F: Frame>(frame: &mut F, l3: usize, ttl: u8) -> Option<()> {
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        let sum = checksum::apply(header.read(IPV4_CHECKSUM), Delta::TTL_DECREMENT.fold());
        header.write(IPV4_CHECKSUM, sum);
        header.write(Self::TTL, ttl - 1);
        Some(())
    }

    #[inline(always)]
    fn rewrite_header<F: Frame>(frame: &mut F, l3: usize, ttl: u8, new: &Rewrite<Self>) -> Option<()> {
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        header.write(IPV4_CHECKSUM, checksum::apply(header.read(IPV4_CHECKSUM), new.ip_delta));
        header.write(Self::TTL, ttl - 1);
        header.write(Self::SOURCE, new.source);
        header.write(Self::DESTINATION, new.destination);
        Some(())
    }

    #[inline(always)]
    fn write_header<F: Frame>(
        frame: &mut F,
        l3: usize,
        (source, destination): (&Self, &Self),
        protocol: u8,
        length: usize,
    ) -> Option<()> {
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        // Version, length of the header; identification 0, not to be fragmented.
        let words = [
            0x4500,
            (Self::HEADER + length) as u16,
            0,
            0x4000,
            u16::from_be_bytes([TTL, protocol]),
        ];
        let mut sum = Delta::NONE.add32(source.be).add32(destination.be);
        let mut place = 0;
        while place < words.len() {
            let word = Be16::new(words[place]);
            header.write(place * 2, word);
            sum = sum.add16(word.be);
            place += 1;
        }
        header.write(IPV4_CHECKSUM, !sum.fold());
        header.write(Self::SOURCE, *source);
        header.write(Self::DESTINATION, *destination);
        Some(())
    }
}

impl Address for Ip {
    const ETHER_TYPE: u16 = ETHER_TYPE_IPV6;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const TTL: usize = 7;
    const HEADER: usize = 40;
    const ICMP: u8 = 58;
    const ENCAPSULATED: u8 = 41;
    const UNUSUAL: Stage = Stage::UnusualIpv6;
    const OPEN: Stage = Stage::OpenIpv6;
    const ANSWER: Stage = Stage::AnswerIpv6;
    const CLOCK: Stage = Stage::ClockIpv6;
    const PORT_UNREACHABLE: u16 = 0x0104;
    const TOO_BIG: u16 = 0x0200;

    #[inline(always)]
    fn ip(self) -> Ip {
        self
    }

    #[inline(always)]
    fn from_ip(ip: &Ip) -> Self {
        *ip
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u32 {
        let ([a, b, c, d], [e, f, g, h]) = (self.words, other.words);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)
    }

    #[inline(always)]
    fn replace(delta: Delta, old: &Self, new: &Self) -> Delta {
        let ([a, b, c, d], [e, f, g, h]) = (old.words, new.words);
        delta.replace32(a, e).replace32(b, f).replace32(c, g).replace32(d, h)
    }

    #[inline(always)]
    fn add(sum: Delta, address: &Self) -> Delta {
        let [a, b, c, d] = address.words;
        sum.add32(a).add32(b).add32(c).add32(d)
    }

    #[inline(always)]
    fn mix(source: &Self, destination: &Self) -> u64 {
        let ([a, b, c, d], [e, f, g, h]) = (source.words, destination.words);
        let step = |hash: u64, high: u32, low: u32| {
            let hash = (hash ^ ((high as u64) << 32 | low as u64)).wrapping_mul(MULTIPLIER);
            hash ^ (hash >> 31)
        };
        step(step(step(step(0x9e37_79b9_7f4a_7c15, a, b), c, d), e, f), g, h)
    }

    /// ::/96 (unspecified, loopback and IPv4-compatible), IPv4-mapped, multicast.
    #[inline(always)]
    fn is_martian(&self) -> bool {
        let [a, b, c, _] = self.words;
        let multicast = u32::from_be(a) >> 24 == 0xff;
        multicast || (a | b | c) == 0 || self.is_ipv4()
    }

    /// Unreachable, too big, time exceeded, parameter problem.
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn is_unreachable(kind: u8, _: u8) -> bool {
        kind == 1
    }

    #[inline(always)]
    fn icmp_pseudo_header(source: &Self, destination: &Self, length: usize) -> Delta {
        pseudo_header(source, destination, Self::ICMP, length)
    }

    #[inline(always)]
    fn envelope<F: Frame>(frame: &F, loops: &impl Loop, l3: usize) -> Result<Envelope<Self>, Reason> {
        ipv6_envelope(frame, loops, l3)
    }

    #[inline(always)]
    fn quoted<F: Frame>(frame: &F, l3: usize) -> Option<Envelope<Self>> {
        ipv6_quoted(frame, l3)
    }

    #[inline(always)]
    fn readdress<F: Frame>(frame: &mut F, l3: usize, old: (&Self, &Self), new: (&Self, &Self)) -> Option<Delta> {
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        header.write(Self::SOURCE, *new.0);
        header.write(Self::DESTINATION, *new.1);
        Some(replace_both(old, new))
    }

    #[inline(always)]
    fn age<F: Frame>(frame: &mut F, l3: usize, ttl: u8) -> Option<()> {
        frame.write(l3 + Self::TTL, ttl - 1)
    }

    #[inline(always)]
    fn rewrite_header<F: Frame>(frame: &mut F, l3: usize, ttl: u8, new: &Rewrite<Self>) -> Option<()> {
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        header.write(Self::TTL, ttl - 1);
        header.write(Self::SOURCE, new.source);
        header.write(Self::DESTINATION, new.destination);
        Some(())
    }

    #[inline(always)]
    fn write_header<F: Frame>(
        frame: &mut F,
        l3: usize,
        (source, destination): (&Self, &Self),
        protocol: u8,
        length: usize,
    ) -> Option<()> {
        let mut header = frame.window_mut::<{ Self::HEADER }>(l3)?;
        header.write(0, Be32::new(0x6000_0000));
        header.write(4, Be16::new(length as u16));
        header.write(6, Be16::new(u16::from_be_bytes([protocol, TTL])));
        header.write(Self::SOURCE, *source);
        header.write(Self::DESTINATION, *destination);
        Some(())
    }
}

/// What checksums of TCP, UDP and ICMPv6 cover before the segment itself.
#[inline(always)]
pub fn pseudo_header<A: Address>(source: &A, destination: &A, protocol: u8, length: usize) -> Delta {
    A::add(A::add(Delta::NONE, source), destination)
        .add16(Be16::new(protocol as u16).be)
        .add16(Be16::new(length as u16).be)
}

#[inline(always)]
fn replace_both<A: Address>(old: (&A, &A), new: (&A, &A)) -> Delta {
    A::replace(A::replace(Delta::NONE, old.0, new.0), old.1, new.1)
}
