//! Frame -> `Parsed`: the few numbers of a packet that decisions need.
//!
//! Looks nothing up and changes nothing. A frame that lies about a length is `Malformed`, never read past its end.

mod ipv4;
mod ipv6;

use crate::abi::{TCP, UDP};
use crate::family::Address;
use crate::flow_table::FlowKey;
use crate::frame::Frame;
use crate::verdict::Reason;
use crate::wire::{Be16, Be32};

pub use ipv4::{ipv4, ipv4_envelope, ipv4_quoted};
pub use ipv6::{ipv6, ipv6_envelope, ipv6_quoted};

pub const ETHER_SOURCE: usize = 6;
/// Length of both addresses.
pub const ETHER_ADDRESSES: usize = 12;
pub const ETHER_TYPE: usize = 12;
/// Length of an untagged Ethernet header.
pub const ETHER_HEADER: usize = 14;
/// Length of a tag.
const TAG: usize = 4;
const MAX_TAGS: usize = 2;
/// Beyond every chain of headers that is followed.
pub const MAX_L4: usize = 8400;

pub const ETHER_TYPE_IPV4: u16 = 0x0800;
pub const ETHER_TYPE_ARP: u16 = 0x0806;
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;
const ETHER_TYPE_TAG: u16 = 0x8100;
const ETHER_TYPE_SERVICE_TAG: u16 = 0x88a8;

pub const TCP_HEADER: usize = 20;
pub const UDP_HEADER: usize = 8;
const TCP_SEQUENCE: usize = 4;
const TCP_ACKNOWLEDGMENT: usize = 8;
const TCP_FLAGS: usize = 13;
pub const TCP_CHECKSUM: usize = 16;
pub const UDP_CHECKSUM: usize = 6;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed<A> {
    pub key: FlowKey<A>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// 0 for UDP, as are the numbers.
    pub tcp_flags: u8,
    pub sequence: u32,
    pub acknowledgment: u32,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the TCP or UDP header.
    pub l4: usize,
    /// Where the packet ends; padding may follow.
    pub end: usize,
}

impl<A: Copy> Parsed<A> {
    /// Begins a connection: SYN and none of the flags that contradict it.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.key.protocol == UDP || self.tcp_flags & (SYN | ACK | FIN | RST) == SYN
    }

    /// The same.
    //
    // VERIFIER (6.18): a number that was in a map in between may be anything. Offsets fit these masks.
    #[inline(always)]
    pub const fn bounded(self) -> Self {
        Self {
            l3: self.l3 & 0x1f,
            l4: self.l4 & 0x3fff,
            end: self.end & 0xffff,
            ..self
        }
    }
}

/// The EtherType behind up to two VLAN tags, and where its header begins.
#[inline(always)]
pub fn ether<F: Frame>(frame: &F) -> Result<(u16, usize), Reason> {
    let mut l3 = ETHER_HEADER;
    let mut ether_type: Be16 = frame.read(ETHER_TYPE).ok_or(Reason::Malformed)?;
    let mut tags = 0;
    while tags < MAX_TAGS && matches!(ether_type.get(), ETHER_TYPE_TAG | ETHER_TYPE_SERVICE_TAG) {
        ether_type = frame.read(l3 + 2).ok_or(Reason::Malformed)?;
        l3 += TAG;
        tags += 1;
    }
    Ok((ether_type.get(), l3))
}

/// An IP header, and the extension headers of IPv6 that do not change where the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<A> {
    pub source: A,
    pub destination: A,
    /// Of what is at `l4`.
    pub protocol: u8,
    pub ttl: u8,
    pub fragment: Fragment,
    pub l3: usize,
    pub l4: usize,
    pub end: usize,
}

/// A packet that is whole has neither an offset nor more to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    pub identification: u32,
    /// In bytes.
    pub offset: u16,
    pub more: bool,
}

/// The TCP or UDP header behind an IP header.
#[inline(always)]
pub fn transport<F: Frame, A: Address>(frame: &F, envelope: &Envelope<A>) -> Result<Parsed<A>, Reason> {
    let Envelope {
        source,
        destination,
        protocol,
        ttl,
        l3,
        l4,
        end,
        ..
    } = *envelope;
    if l4 > end {
        return Err(Reason::Malformed);
    }
    let length = end - l4;
    let mut parsed = Parsed {
        key: FlowKey {
            source,
            destination,
            source_port: Be16::default(),
            destination_port: Be16::default(),
            protocol,
        },
        ttl,
        tcp_flags: 0,
        sequence: 0,
        acknowledgment: 0,
        l3,
        l4,
        end,
    };
    let key = &mut parsed.key;
    if protocol == TCP && length >= TCP_HEADER {
        let header = frame.window::<TCP_HEADER>(l4).ok_or(Reason::Malformed)?;
        (key.source_port, key.destination_port) = (header.read(0), header.read(2));
        parsed.sequence = header.read::<Be32>(TCP_SEQUENCE).get();
        parsed.acknowledgment = header.read::<Be32>(TCP_ACKNOWLEDGMENT).get();
        parsed.tcp_flags = header.read(TCP_FLAGS);
        return Ok(parsed);
    }
    if protocol == UDP && length >= UDP_HEADER {
        let header = frame.window::<UDP_HEADER>(l4).ok_or(Reason::Malformed)?;
        (key.source_port, key.destination_port) = (header.read(0), header.read(2));
        return Ok(parsed);
    }
    Err(if protocol == TCP || protocol == UDP {
        Reason::Malformed
    } else {
        Reason::OtherProtocol
    })
}
