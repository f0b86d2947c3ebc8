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

/// A frame of the `flood` is written anew up to here: Ethernet, IPv4 and TCP headers without options, and two bytes.
pub const SYN_WORDS: usize = 14;

/// Value of `FLOOD`: the SYNs that the `flood` sends, each from another client that does not exist.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// As `Stream::header`.
    pub header: [u32; SYN_WORDS],
    /// As in `Stream`.
    pub ip_sum: u32,
    pub tcp_sum: u32,
    /// Of 65,536 addresses.
    pub first_source: u32,
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
        let port = (FIRST_PORT + flow % PORTS_PER_SOURCE) as u16;
        let source = Source::new(self.first_source + flow / PORTS_PER_SOURCE, port);
        // RFC 768: a sum of zero travels as all ones.
        let udp = match checksum(self.udp_sum + source.sum + source.port) {
            0 => 0xffff,
            sum => sum as u32,
        };
        let mut header = source.put_in(self.header, self.ip_sum);
        header[10] |= udp;
        header
    }
}

impl Flood {
    /// The first bytes of the frame that a random number chooses.
    #[inline(always)]
    pub const fn header_of(&self, random: u32) -> [u32; SYN_WORDS] {
        let source = Source::new(self.first_source + (random >> 16), random as u16);
        let tcp = checksum(self.tcp_sum + source.sum + source.port) as u32;
        let mut header = source.put_in(self.header, self.ip_sum);
        header[12] |= tcp << 16;
        header
    }
}

/// Where a frame comes from, as it lies in memory.
struct Source {
    address: u32,
    port: u32,
    /// Of the address's two halves.
    sum: u32,
}

impl Source {
    #[inline(always)]
    const fn new(address: u32, port: u16) -> Self {
        let address = address.to_be();
        Self {
            address,
            port: port.to_be() as u32,
            sum: (address & 0xffff) + (address >> 16),
        }
    }

    #[inline(always)]
    const fn put_in<const N: usize>(&self, mut header: [u32; N], ip_sum: u32) -> [u32; N] {
        header[6] |= checksum(ip_sum + self.sum) as u32 | self.address << 16;
        header[7] |= self.address >> 16;
        header[8] |= self.port << 16;
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
    unsafe impl aya::Pod for super::Flood {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sunk {}
}
