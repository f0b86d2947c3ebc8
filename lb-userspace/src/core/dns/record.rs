//! What a name leads to: an address, or by SRV records (RFC 2782) a host and a port of its own, with a rank.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Family;
use crate::core::config::{is_host_name, is_routed};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    Address(IpAddr),
    Target(Target),
}

/// Whose addresses are to be asked for, each for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// In lower case, without a dot at its end.
    pub host: String,
    pub port: u16,
}

/// Addresses are all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// The lowest serve, others while none of those is up.
    pub priority: u16,
    /// Share within the priority.
    pub weight: u16,
}

impl Record {
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Target(_) => None,
        }
    }

    pub const fn target(&self) -> Option<&Target> {
        match self {
            Self::Address(_) => None,
            Self::Target(target) => Some(target),
        }
    }

    /// Whether it may lead to a backend of this family.
    pub fn can_serve(&self, family: Family) -> bool {
        match self {
            Self::Address(address) => is_routed(*address) && Family::of(*address) == family,
            Self::Target(target) => target.port > 0 && is_host_name(&target.host),
        }
    }
}

impl Rank {
    /// Of something that is there twice.
    pub fn better(self, other: Self) -> Self {
        std::cmp::min_by_key(self, other, |rank| (rank.priority, Reverse(rank.weight)))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Target(Target { host, port }) => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {}, weight {}", self.priority, self.weight)
    }
}
