//! What an operator wants of one instance, and whom it may hear.
//!
//! Made by `config::vrrp`; password and keys are read from their files and put in by whoever starts the instance.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::packet::{Advert, Envelope, Format, TTL, Version, group};
use super::refusal::Refusal;
use super::sealed::Secrets;
use crate::core::dns::Family;
use crate::core::network::Own;

/// Priority of who owns the addresses by right: master whenever it is there.
pub const OWNER: u8 = 255;
/// Priorities below are those of nodes that serve nobody.
pub const LEAST_FIT: u8 = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of its section.
    pub name: Arc<str>,
    pub interface: Arc<str>,
    pub id: u8,
    pub format: Format,
    /// Of version 3 alone. None: adverts are not sealed, and sealed ones not heard.
    pub secrets: Option<Secrets>,
    pub priority: u8,
    pub interval: Duration,
    /// Whether it takes over from a master of lower priority.
    pub preempt: bool,
    /// How long it lets such a master be first.
    pub preempt_delay: Duration,
    /// How long it takes nothing over after its start.
    pub startup_delay: Duration,
    /// INVARIANT: one at least, all of one family.
    pub addresses: Vec<Address>,
    /// Empty: multicast.
    pub peers: Vec<IpAddr>,
    /// Instances of one group are master together or not at all.
    pub group: Option<String>,
    /// How often the addresses are announced again without a reason. None: never.
    pub announce_every: Option<Duration>,
    /// The addresses are on an interface with a MAC that whoever is master has: see `VirtualLink`.
    pub virtual_mac: bool,
}

/// An address the master has, and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub address: IpAddr,
    pub length: u8,
}

/// What adverts are told apart by: one instance each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub interface: Arc<str>,
    pub family: Family,
    pub id: u8,
}

/// The priority of a node that serves nobody: below those that do; among those that do not, in the order of the file.
pub fn unfit(priority: u8) -> u8 {
    (priority / (u8::MAX / LEAST_FIT + 1)).max(1)
}

/// Whether a node with this priority serves nobody.
pub const fn is_unfit(priority: u8) -> bool {
    priority < LEAST_FIT
}

impl From<Own> for Address {
    fn from(own: Own) -> Self {
        Self {
            address: own.address,
            length: own.length,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Address {
    /// Whether both are of one block of IPv4: the kernel then takes the later one off together with the earlier.
    pub fn is_beside(&self, other: &Self) -> bool {
        let (IpAddr::V4(ours), IpAddr::V4(theirs)) = (self.address, other.address) else {
            return false;
        };
        let behind = 32_u32.saturating_sub(self.length.into());
        let block = |address: Ipv4Addr| u64::from(address.to_bits()) >> behind;
        self.length == other.length && block(ours) == block(theirs)
    }
}

impl Settings {
    pub fn family(&self) -> Family {
        let first = self.addresses.first();
        first.map_or(Family::Ipv4, |first| Family::of(first.address))
    }

    pub fn key(&self) -> Key {
        Key {
            interface: self.interface.clone(),
            family: self.family(),
            id: self.id,
        }
    }

    /// Where its adverts go.
    pub fn destinations(&self) -> Vec<IpAddr> {
        match self.peers.as_slice() {
            [] => vec![group(self.family())],
            peers => peers.to_vec(),
        }
    }

    /// Whether an advert may come this way. `own` is the address that ours are sent from.
    pub fn admits(&self, envelope: &Envelope, own: Option<IpAddr>) -> Result<(), Refusal> {
        let for_us = Some(envelope.destination) == own;
        let for_all = envelope.destination == group(self.family()) && self.peers.is_empty();
        match () {
            () if envelope.ttl != TTL => Err(Refusal::Ttl),
            () if Some(envelope.source) == own => Err(Refusal::OwnAddress),
            () if !self.peers.is_empty() && !self.peers.contains(&envelope.source) => Err(Refusal::NotAPeer),
            // A master that yields says so to who takes over, alone.
            () if !for_us && !for_all => Err(Refusal::Destination),
            () => Ok(()),
        }
    }

    /// RFC 3768 §7.1: a master of version 2 has our interval, or is not ours.
    pub fn agrees(&self, advert: &Advert) -> Result<(), Refusal> {
        if self.format.version == Version::V2 && advert.interval != self.interval {
            return Err(Refusal::IntervalDiffers);
        }
        Ok(())
    }

    /// Whether the sender has the same addresses, in whatever order.
    pub fn has_addresses_of(&self, advert: &Advert) -> bool {
        let has = |address: &IpAddr| self.addresses.iter().any(|own| own.address == *address);
        self.addresses.len() == advert.addresses.len() && advert.addresses.iter().all(has)
    }

    pub fn advert(&self, priority: u8) -> Advert {
        Advert {
            id: self.id,
            priority,
            interval: self.interval,
            addresses: self.addresses.iter().map(|own| own.address).collect(),
        }
    }
}
