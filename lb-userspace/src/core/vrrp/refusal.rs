//! Why an advert was not heard: each cause has a counter of its own.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])* $refusal:ident = $words:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Refusal { $($(#[doc = $doc])* $refusal,)* }

        impl Refusal {
            pub const ALL: &[Self] = &[$(Self::$refusal,)*];

            /// As operators read it.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$refusal => $words,)* }
            }
        }
    };
}

refusals! {
    /// No IPv4 datagram of VRRP, or a fragment of one.
    IpHeader = "wrong IP header",
    Truncated = "truncated",
    Version = "another version",
    Type = "not an advertisement",
    /// Nobody here has this id on this interface in this family.
    UnknownId = "unknown id",
    /// It came through a router.
    Ttl = "TTL not 255",
    /// One of our own came back, or somebody else has our address.
    OwnAddress = "sent from our own address",
    /// Multicast where we have peers, or for somebody else.
    Destination = "another destination",
    NotAPeer = "not from a peer",
    NoAddress = "no address",
    CountTooHigh = "fewer addresses than it says",
    TrailingBytes = "trailing bytes",
    Checksum = "wrong checksum",
    Auth = "wrong authentication",
    /// We have a key.
    Unsealed = "not authenticated",
    AnotherKey = "authenticated with another key",
    /// Somebody has a key, and we have none.
    KeyMissing = "authenticated, and there is no key here",
    /// A message that came before, or older than one that did.
    Replayed = "replayed",
    /// The sender has not yet shown that this is not old: it has just begun, or is a recording.
    Unproven = "not proven to be new",
    IntervalZero = "interval zero",
    /// Version 2 alone: there, both must have the same.
    IntervalDiffers = "another interval",
    /// Somebody who is not the master resigns.
    NotTheMaster = "resignation of another than the master",
}

impl Refusal {
    /// What an operator has to put right, said of the sender: nodes that are not configured alike would all be master.
    pub const fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Ttl => {
                "is not heard: its adverts come through a router, which VRRP forbids (their TTL is below 255), so both \
                 nodes are master; put both on one link, and give as peers their addresses there"
            }
            Self::Version => "is not heard: it speaks another version of VRRP; give all nodes the same",
            Self::Destination => {
                "is not heard: it advertises to the group, or to somebody else; give all nodes peers, or none"
            }
            Self::NotAPeer => "is not heard: it is not among the peers",
            Self::Auth => "is not heard: its password is another; give all nodes the same password_file, or none",
            Self::Unsealed => "is not heard: it has no key, or is no Naru; give all nodes the same key_file, or none",
            Self::AnotherKey => "is not heard: its key is not among those in key_file",
            Self::KeyMissing => "is not heard: it authenticates what it says, and there is no key_file here",
            Self::IntervalDiffers => "is not heard: its interval is another, which version 2 does not allow",
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// How often each occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused(BTreeMap<Refusal, u64>);

impl Refused {
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn count(&mut self, refusal: Refusal) {
        *self.0.entry(refusal).or_default() += 1;
    }

    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0.get(&refusal).copied().unwrap_or_default()
    }

    /// Those that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        self.0.iter().map(|(refusal, count)| (*refusal, *count))
    }
}
