//! Frame -> `Parsed`: the few numbers of a packet that decisions need.
//!
//! Looks nothing up and changes nothing. A frame that lies about a length is `Malformed`, never read past its end.

use crate::abi::{TCP, UDP};
use crate::flow_table::FlowKey;
use crate::verdict::Reason;
use crate::wire::{Be16, Be32};

/// A frame in memory. Offsets are bytes from the start of the Ethernet header.
pub trait Frame {
    fn length(&self) -> usize;
    /// None where the frame ends before `at + size_of::<T>()`.
    fn read<T: Field>(&self, at: usize) -> Option<T>;
    /// The same bound; nothing is written then.
    fn write<T: Field>(&mut self, at: usize, value: T) -> Option<()>;
}

/// What may be read from and written to a frame at any address.
///
/// # Safety
/// Any bytes are a valid value, and there is no padding.
pub unsafe trait Field: Copy {}
// SAFETY: integers, and structs of integers without padding.
unsafe impl Field for u8 {}
// SAFETY: as above.
unsafe impl Field for u16 {}
// SAFETY: as above.
unsafe impl Field for u32 {}
// SAFETY: as above.
unsafe impl Field for Be16 {}
// SAFETY: as above.
unsafe impl Field for Be32 {}

pub const ETHER_SOURCE: usize = 6;
const ETHER_TYPE: usize = 12;
pub const IP: usize = 14;
pub const IP_TTL: usize = IP + 8;
pub const IP_CHECKSUM: usize = IP + 10;
pub const IP_SOURCE: usize = IP + 12;
pub const IP_DESTINATION: usize = IP + 16;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TCP_FLAGS: usize = 13;

const ETHER_TYPE_IPV4: u16 = 0x0800;
/// More-fragments and the fragment offset.
const FRAGMENT_BITS: u16 = 0x3fff;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub key: FlowKey,
    pub ttl: u8,
    /// 0 for UDP.
    pub tcp_flags: u8,
    /// Offset of the TCP or UDP header.
    pub l4: usize,
}

impl Parsed {
    /// Begins a connection: SYN and none of the flags that contradict it.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.key.protocol == UDP || self.tcp_flags & (SYN | ACK | FIN | RST) == SYN
    }
}

#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Result<Parsed, Reason> {
    if frame.read::<Be16>(ETHER_TYPE).ok_or(Reason::Malformed)?.get() != ETHER_TYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let destination: Be32 = frame.read(IP_DESTINATION).ok_or(Reason::Malformed)?;
    let source: Be32 = frame.read(IP_SOURCE).ok_or(Reason::Malformed)?;
    let version_ihl: u8 = frame.read(IP).ok_or(Reason::Malformed)?;
    let header = ((version_ihl & 0x0f) as usize) * 4;
    if version_ihl >> 4 != 4 || header < 20 {
        return Err(Reason::Malformed);
    }
    let protocol: u8 = frame.read(IP + 9).ok_or(Reason::Malformed)?;
    if protocol != TCP && protocol != UDP {
        return Err(Reason::OtherProtocol);
    }
    if frame.read::<Be16>(IP + 6).ok_or(Reason::Malformed)?.get() & FRAGMENT_BITS != 0 {
        return Err(Reason::Fragment);
    }
    let total = frame.read::<Be16>(IP + 2).ok_or(Reason::Malformed)?.get() as usize;
    let l4_header = if protocol == TCP { TCP_HEADER } else { UDP_HEADER };
    if total < header + l4_header || IP + total > frame.length() {
        return Err(Reason::Malformed);
    }
    let l4 = IP + header;
    let source_port = frame.read(l4).ok_or(Reason::Malformed)?;
    let destination_port = frame.read(l4 + 2).ok_or(Reason::Malformed)?;
    let tcp_flags = if protocol == TCP {
        frame.read(l4 + TCP_FLAGS).ok_or(Reason::Malformed)?
    } else {
        0
    };
    Ok(Parsed {
        key: FlowKey {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
        },
        ttl: frame.read(IP_TTL).ok_or(Reason::Malformed)?,
        tcp_flags,
        l4,
    })
}

/// Offset of the checksum within the TCP or UDP header.
#[inline(always)]
pub const fn l4_checksum(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}
