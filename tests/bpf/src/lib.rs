//! What the lab's BPF programs and the tests that load them share: map values and the flow numbering.
//!
//! No behaviour of Naru lives here, and nothing of it may come to depend on this.
#![no_std]

use lb_common::wire::{Be16, Be32, Ether};

/// UDP frames to these ports end in the `sink`, which counts them; inclusive.
pub const SINK_PORTS: (u16, u16) = (9000, 9999);

/// Payload of frames that the `sink` answers before it counts them; they make a flow known in both directions.
pub const ANSWER_ME: u16 = 0x4e41;

/// A frame of the generator is rewritten up to here: Ethernet, IPv4 and UDP headers and two bytes of payload.
pub const HEADER_WORDS: usize = 11;

/// Value of `REDIRECT`: where the bare `redirect` sends every frame.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Redirect {
    pub ether: Ether,
    pub ifindex: u32,
}

/// Value of `STREAM`: what the `generator` sends.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The first bytes of the frame as they lie in memory; source address, source port and checksums are zero.
    pub header: [u32; HEADER_WORDS],
    /// Sums of the header's other 16-bit words, as they lie in memory, for both checksums.
    pub ip_sum: u32,
    pub udp_sum: u32,
    pub first_source: u32,
    pub flows: u32,
    /// The interface the frames leave through.
    pub ifindex: u32,
}

/// Value of `SUNK`, one for each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sunk {
    pub frames: u64,
    pub bytes: u64,
}

/// Flows differ in port first: this many ports of one source address, then the next address.
pub const PORTS_PER_SOURCE: u32 = 32_768;
const FIRST_PORT: u32 = 1024;

/// Source address and port of a flow.
#[inline(always)]
pub const fn flow(first_source: u32, number: u32) -> (Be32, Be16) {
    let port = FIRST_PORT + number % PORTS_PER_SOURCE;
    (
        Be32::new(first_source + number / PORTS_PER_SOURCE),
        Be16::new(port as u16),
    )
}

/// The checksum of 16-bit words of this sum (RFC 1071): folded and complemented.
#[inline(always)]
pub const fn checksum(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), made of integers only, no padding.
    unsafe impl aya::Pod for super::Redirect {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Stream {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sunk {}
}
