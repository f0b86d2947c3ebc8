//! What the lab's BPF programs and the tests that load them share: map values and the flow numbering.
//!
//! No behaviour of Naru lives here, and nothing of it may come to depend on this.
#![no_std]

use lb_common::wire::Ether;

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

impl Stream {
    /// The first bytes of a frame of this flow.
    #[inline(always)]
    pub const fn header_of(&self, flow: u32) -> [u32; HEADER_WORDS] {
        let address = (self.first_source + flow / PORTS_PER_SOURCE).to_be();
        let port = ((FIRST_PORT + flow % PORTS_PER_SOURCE) as u16).to_be() as u32;
        let (low, high) = (address & 0xffff, address >> 16);
        let ip = checksum(self.ip_sum + low + high) as u32;
        // RFC 768: a sum of zero travels as all ones.
        let udp = match checksum(self.udp_sum + low + high + port) {
            0 => 0xffff,
            sum => sum as u32,
        };
        let mut header = self.header;
        header[6] |= ip | low << 16;
        header[7] |= high;
        header[8] |= port << 16;
        header[10] |= udp;
        header
    }
}

/// The checksum of 16-bit words of this sum (RFC 1071): folded and complemented.
#[inline(always)]
const fn checksum(sum: u32) -> u16 {
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
