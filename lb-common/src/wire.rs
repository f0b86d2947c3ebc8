//! Numbers as they stand in a packet: network order, compared and copied as they are, converted by name only.
//!
//! Integers and not byte arrays, so that the BPF compiler may load them whole (their alignment allows it).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// An address of either family: IPv4 stands as `::ffff:a.b.c.d`, as IPv6 sockets write it.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip {
    /// In memory order.
    pub words: [u32; 4],
}

/// How many leading bits of an `Ip` say that it is IPv4.
pub const IPV4_PREFIX: u32 = 96;

impl Ip {
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        (self.words[0] | self.words[1] | (self.words[2] ^ 0xffff_u32.to_be())) == 0
    }

    /// Of an IPv4 address.
    #[inline(always)]
    pub const fn last(&self) -> Be32 {
        Be32 { be: self.words[3] }
    }
}

impl From<Be32> for Ip {
    #[inline(always)]
    fn from(address: Be32) -> Self {
        Self {
            words: [0, 0, 0xffff_u32.to_be(), address.be],
        }
    }
}

impl From<IpAddr> for Ip {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Be32::from(address).into(),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                Self {
                    words: [bits >> 96, bits >> 64, bits >> 32, bits].map(|word| (word as u32).to_be()),
                }
            }
        }
    }
}

impl From<Ip> for IpAddr {
    fn from(address: Ip) -> Self {
        if address.is_ipv4() {
            return Self::V4(address.last().into());
        }
        let [a, b, c, d] = address.words.map(|word| u128::from(u32::from_be(word)));
        Self::V6(Ipv6Addr::from_bits(a << 96 | b << 64 | c << 32 | d))
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
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
    fn both_families_convert_and_back() {
        for text in ["198.18.0.100", "2001:db8::1:2", "::", "0.0.0.0"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Ip::from(address)), address);
        }
        let octets: [[u8; 4]; 4] = Ip::from(IpAddr::from([1, 2, 3, 4])).words.map(u32::to_ne_bytes);
        assert_eq!(octets.concat(), Ipv4Addr::new(1, 2, 3, 4).to_ipv6_mapped().octets());
    }

    #[test]
    fn addresses_convert_to_network_order_and_back() {
        let address = Ipv4Addr::new(198, 18, 0, 100);
        assert_eq!(Be32::from(address).be.to_ne_bytes(), [198, 18, 0, 100]);
        assert_eq!(Ipv4Addr::from(Be32::from(address)), address);
        assert_eq!(Be16::new(80).be.to_ne_bytes(), [0, 80]);
    }
}
