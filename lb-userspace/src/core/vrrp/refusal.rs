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
