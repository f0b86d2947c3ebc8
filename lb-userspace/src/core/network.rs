//! What the host's network looks like to the daemon: a whole picture, taken anew after each change.
//!
//! Types only; `io::netlink` takes the picture, `core::next_hops` draws conclusions.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Unicast routes of the main table, best metric only where a prefix has several.
    pub routes: BTreeMap<Prefix, KernelRoute>,
    /// Usable neighbours (REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP …), by interface and address.
    pub neighbours: BTreeMap<(u32, Ipv4Addr), [u8; 6]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub mac: [u8; 6],
    pub up: bool,
    pub mtu: u32,
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// The XDP program on it, whoever's it is.
    pub xdp: Option<XdpAttachment>,
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

/// An address block; `address` has no bit set beyond `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub address: Ipv4Addr,
    pub length: u8,
}

impl Prefix {
    /// The block of that length which `address` is in.
    pub fn around(address: Ipv4Addr, length: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self {
            address: Ipv4Addr::from_bits(address.to_bits() & mask),
            length,
        }
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        Self::around(address, self.length) == *self
    }
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
    pub gateway: Option<Ipv4Addr>,
    /// The source address the kernel prefers for it, if it says one.
    pub source: Option<Ipv4Addr>,
}
