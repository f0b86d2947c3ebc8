//! What an instance is at a moment, and what it waits for.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::adverts::Adverts;

#[derive(Debug)]
pub enum State {
    Fault(String),
    Backup(Listening),
    Claim(Claim),
    Master(Reign),
}

#[derive(Clone, Debug)]
pub struct Listening {
    pub since: Instant,
    pub wait: Wait,
    /// As adopted from the master.
    pub interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Silence,
    /// The master resigned.
    HandedOver,
    /// We resigned ourselves, so that the best takes over, who may be we.
    Election,
    /// Of an owner at its start.
    Owner,
    /// An operator wants it to be master.
    Asked,
}

/// It advertises as if it were master, and takes the addresses if nobody contradicts.
#[derive(Debug)]
pub struct Claim {
    pub why: String,
    /// What a rival sent before it heard of the claim arrives until then.
    pub in_flight: Instant,
    pub until: Instant,
    /// The same if every rival has said that it is gone.
    pub alone: Instant,
    pub adverts: Adverts,
}

#[derive(Debug)]
pub struct Reign {
    pub adverts: Adverts,
    pub announced: Instant,
    pub announce: Option<Instant>,
}

/// A master of lower priority is let be until then.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub until: Instant,
    /// It does not hear us: to preempt it would be in vain, whether it serves anybody or not.
    pub is_deaf: bool,
}

/// What becomes of the connections that a node had as master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// There are none, or it is master.
    Over,
    /// They go on if it is master again before another is.
    Open,
    /// Another is: their ends hear it then.
    Lost { sever_at: Instant },
}

/// It does not try again before, each time later.
#[derive(Debug)]
pub struct Disabled {
    pub why: String,
    pub from: Instant,
    pub time: Duration,
}

/// Who is told on leaving that the addresses are free.
pub enum Farewell {
    Nobody,
    Everybody,
    One(IpAddr),
}
