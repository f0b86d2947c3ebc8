//! What a flow is known by, one direction of it.

use crate::family::Address;
use crate::wire::Be16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey<A> {
    pub source: A,
    pub destination: A,
    pub source_port: Be16,
    pub destination_port: Be16,
    pub protocol: u8,
}

impl<A: Address> FlowKey<A> {
    /// Spreads over the table and over slots; the same on every node and after every restart.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        let ports = (self.source_port.be as u64) << 24 | (self.destination_port.be as u64) << 8 | self.protocol as u64;
        let mut h = A::mix(&self.source, &self.destination);
        h = (h ^ (h >> 29) ^ ports).wrapping_mul(0x94d0_49bb_1331_11eb);
        h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^ (h >> 32)
    }
}
