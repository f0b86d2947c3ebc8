//! What the machines ask for, and what they tell: values that somebody else carries out, in their order.
//!
//! The order is the safety. Becoming master: adverts, lease, addresses, announcement. Leaving: addresses, lease, and only
//! then the advert that lets somebody else have them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Role;
use super::settings::{Address, Key};
use crate::core::world::Moment;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Name of its section.
    pub instance: Arc<str>,
    pub key: Key,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// If none of them could be sent, `Vrrp::unsent` is to be told.
    Send {
        source: IpAddr,
        datagrams: Vec<Datagram>,
        priority: u8,
        /// If one could be sent, the lease is until then and no longer, whatever it was.
        lease: Option<Instant>,
    },
    /// To those who have our key; what gets lost is said again.
    Greet {
        source: IpAddr,
        datagrams: Vec<Datagram>,
    },
    /// Nothing is to be sent for it. None: no lease.
    Lease(Option<Instant>),
    /// `Vrrp::not_owned` is to be told where that fails.
    Own(Vec<Address>),
    Disown(Vec<Address>),
    /// Tells everybody on the link where the addresses are: a burst for each.
    Announce(Vec<Address>),
    /// Another node is master after this one was: connections through this node are dead, and their ends should hear it.
    Sever,
    /// The instance has another role now.
    Moved(Transition),
    /// Something that an operator has to put right.
    Complain(String),
}

/// One message: what is behind its IP header, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub destination: IpAddr,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub at: Moment,
    pub instance: Arc<str>,
    pub from: Role,
    pub to: Role,
    pub why: String,
}

/// `main: backup -> master: no advert of 198.18.0.3 for 102ms`.
impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}: {}", self.instance, self.from, self.to, self.why)
    }
}
