//! What the host's network looks like to the daemon: a whole picture, taken anew after each change.
//!
//! Types only; `io::netlink` takes the picture, `core::next_hops` draws conclusions.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::wire::{IPV4_PREFIX, Ip};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Unicast routes of the main table, best metric only where a prefix has several.
    pub routes: BTreeMap<Prefix, KernelRoute>,
    /// Usable neighbours (REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP …), by interface and address.
    pub neighbours: BTreeMap<(u32, IpAddr), [u8; 6]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub mac: [u8; 6],
    pub up: bool,
    pub mtu: u32,
    pub addresses: Vec<Own>,
    /// The XDP program on it, whoever's it is.
    pub xdp: Option<XdpAttachment>,
    pub device: Device,
}

/// What drives an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A network card, be it real or a virtual machine's.
    #[default]
    Card,
    /// `peer_has_program`: the other end has a native XDP program. None: not looked for, or in a namespace out of sight.
    Veth { peer_has_program: Option<bool> },
    /// A device in software, by the kernel's word for its kind: `bridge`, `tun`, `macvlan`.
    Software(String),
}

/// An address of this host. One that is still being probed for a double is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    pub address: IpAddr,
    pub length: u8,
    /// Deprecated, or one of the temporary addresses of RFC 8981: it will be gone one day.
    pub passing: bool,
}

impl Own {
    pub const fn lasting(address: IpAddr, length: u8) -> Self {
        Self {
            address,
            length,
            passing: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpAttachment {
    pub program_id: u32,
    pub mode: XdpMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    Native,
    Generic,
}

/// An address block of either family; `address` has no bit set beyond `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

impl Prefix {
    /// The block of that length which `address` is in.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Self { address, length }
    }

    /// The block of this address alone.
    pub fn of_one(address: IpAddr) -> Self {
        let length = longest(address);
        Self { address, length }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::around(address, self.length) == *self
    }

    /// As it stands among those of both families, with its length there.
    pub fn key(&self) -> (Ip, u32) {
        let before = if self.address.is_ipv4() { IPV4_PREFIX } else { 0 };
        (self.address.into(), before + u32::from(self.length))
    }

    /// Of what `key` gave.
    pub fn from_key(address: Ip, length: u32) -> Self {
        let before = if address.is_ipv4() { IPV4_PREFIX } else { 0 };
        Self {
            address: address.into(),
            length: (length - before) as u8,
        }
    }
}

/// How many bits an address of this family has.
pub const fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    pub ifindex: u32,
    /// None: the prefix is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address the kernel prefers for it, if it says one.
    pub source: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::around(address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn blocks_of_both_families() {
        for (block, inside, outside) in [
            ("198.18.1.0/24", "198.18.1.255", "198.18.2.0"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("198.18.1.1/32", "198.18.1.1", "198.18.1.2"),
            ("2001:db8:1::/64", "2001:db8:1::ffff", "2001:db8:2::"),
            ("::/0", "ffff::", "198.18.1.1"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
        ] {
            let found = prefix(block);
            assert_eq!(found.to_string(), block);
            assert!(found.contains(inside.parse().unwrap()), "{inside} in {block}");
            assert!(!found.contains(outside.parse().unwrap()), "{outside} in {block}");
            assert_eq!(Prefix::around(inside.parse().unwrap(), found.length), found);
        }
    }

    #[test]
    fn a_block_has_its_place_among_both_families() {
        for block in ["0.0.0.0/0", "198.18.1.0/24", "::/0", "2001:db8::1/128"] {
            let (address, length) = prefix(block).key();
            assert_eq!(Prefix::from_key(address, length), prefix(block));
        }
        assert_eq!(prefix("198.18.1.0/24").key().1, 120);
    }
}
