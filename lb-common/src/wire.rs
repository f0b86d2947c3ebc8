//! Numbers as they stand in a packet: network order, compared and copied as they are, converted by name only.
//!
//! Integers and not byte arrays, so that the BPF compiler may load them whole (their alignment allows it).

use core::fmt;
use core::net::Ipv4Addr;

#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be16 {
    pub be: u16,
}

impl Be16 {
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self { be: host.to_be() }
    }

    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.be)
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be32 {
    pub be: u32,
}

impl Be32 {
    #[inline(always)]
    pub const fn new(host: u32) -> Self {
        Self { be: host.to_be() }
    }

    #[inline(always)]
    pub const fn get(self) -> u32 {
        u32::from_be(self.be)
    }
}

impl From<Ipv4Addr> for Be32 {
    fn from(address: Ipv4Addr) -> Self {
        Self::new(address.to_bits())
    }
}

impl From<Be32> for Ipv4Addr {
    fn from(address: Be32) -> Self {
        Self::from_bits(address.get())
    }
}

impl fmt::Debug for Be32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(*self).fmt(f)
    }
}

/// The first twelve bytes of a frame, destination and source address, as three words in memory order.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ether {
    pub words: [u32; 3],
}

impl Ether {
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let (d, s) = (destination, source);
        Self {
            words: [
                u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
                u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
                u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
            ],
        }
    }

    pub const fn destination(&self) -> [u8; 6] {
        let [a, b, _] = self.words;
        let (a, b) = (a.to_ne_bytes(), b.to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1]]
    }

    pub const fn source(&self) -> [u8; 6] {
        let [_, b, c] = self.words;
        let (b, c) = (b.to_ne_bytes(), c.to_ne_bytes());
        [b[2], b[3], c[0], c[1], c[2], c[3]]
    }

    /// The same source towards another destination.
    #[inline(always)]
    pub const fn towards(self, destination: [u8; 6]) -> Self {
        Self::new(destination, self.source())
    }
}

impl fmt::Debug for Ether {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?} -> {:02x?}", self.source(), self.destination())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn ether_keeps_both_addresses_in_frame_order() {
        let ether = Ether::new([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]);
        assert_eq!(ether.destination(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ether.source(), [7, 8, 9, 10, 11, 12]);
        let bytes: [[u8; 4]; 3] = ether.words.map(u32::to_ne_bytes);
        assert_eq!(bytes.concat(), (1..=12).collect::<Vec<u8>>());
        assert_eq!(ether.towards([9; 6]), Ether::new([9; 6], [7, 8, 9, 10, 11, 12]));
    }

    #[test]
    fn addresses_convert_to_network_order_and_back() {
        let address = Ipv4Addr::new(198, 18, 0, 100);
        assert_eq!(Be32::from(address).be.to_ne_bytes(), [198, 18, 0, 100]);
        assert_eq!(Ipv4Addr::from(Be32::from(address)), address);
        assert_eq!(Be16::new(80).be.to_ne_bytes(), [0, 80]);
    }
}
