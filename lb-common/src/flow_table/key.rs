//! What a flow is known by, one direction of it.

use crate::wire::{Be16, Be32};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub source: Be32,
    pub destination: Be32,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub protocol: u8,
}

impl FlowKey {
    /// Spreads over the table and over slots; the same on every node and after every restart.
    #[inline(always)]
    pub const fn hash(&self) -> u64 {
        let addresses = (self.source.be as u64) << 32 | self.destination.be as u64;
        let ports = (self.source_port.be as u64) << 24 | (self.destination_port.be as u64) << 8 | self.protocol as u64;
        let mut h = (addresses ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 29) ^ ports).wrapping_mul(0x94d0_49bb_1331_11eb);
        h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^ (h >> 32)
    }
}
