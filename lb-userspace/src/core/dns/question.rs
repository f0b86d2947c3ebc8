//! What name servers are asked, and what became of it: words only. Tested with who speaks them, in `tests.rs`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Rank, Record, Target};

/// What a name server is asked. The families of a name are apart: trouble with one is none of the other's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Question {
    /// In lower case, without a dot at its end.
    pub host: String,
    /// Of the addresses that are wanted in the end.
    pub family: Family,
    pub wanted: Wanted,
    /// No search list is tried.
    #[serde(default)]
    pub absolute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    Addresses,
    /// SRV records.
    Targets,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found(Found),
    /// There is no such name, or it has no such record; for so long.
    Nothing(Nothing, Duration),
    /// Nothing was found out, and why.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The order means nothing.
    pub records: Vec<(Record, Rank)>,
    /// The shortest life of all records that led there.
    pub ttl: Duration,
    pub server: SocketAddr,
    /// Else the server passes on what others said, maybe a while ago.
    pub authoritative: bool,
    /// The absolute name: that of the question, or what was found in a search.
    pub name: String,
    /// What the one says that led before, and counts for more.
    pub instead_of: Option<Nothing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    NoName,
    NoAddress,
    NoTarget,
    /// Its SRV record says so.
    NotOffered,
}

impl Question {
    /// A host with a dot at its end is absolute.
    pub fn new(host: &str, family: Family, wanted: Wanted) -> Self {
        let name = host.trim_end_matches('.');
        Self {
            host: name.to_ascii_lowercase(),
            family,
            wanted,
            absolute: name != host,
        }
    }

    /// Of the host that an SRV record names.
    pub fn about(&self, target: &Target) -> Self {
        Self {
            absolute: true,
            ..Self::new(&target.host, self.family, Wanted::Addresses)
        }
    }
}

impl Family {
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "there is no such name",
            Self::NoAddress => "has no address of the service's family",
            Self::NoTarget => "has no SRV record",
            Self::NotOffered => "its SRV record says that there is no such service",
        })
    }
}
