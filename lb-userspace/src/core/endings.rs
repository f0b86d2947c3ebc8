//! Decides when flows of a backend end beyond what their packets say: after how long a silence, and whether all of them
//! at once.
//!
//! Ends none itself: `io::flows` goes through the table by these terms. docs/data-path.md, "Life of a flow", has them as
//! a table; tested there and in `tests/it/scenarios`.

use std::time::{Duration, Instant};

use super::condition::{Condition, State};
use super::config::{OnDown, Protocol, Service, UDP_IDLE_TIMEOUT};
use super::members::Member;

/// What the file says about the flows of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    protocol: Protocol,
    idle_timeout: Duration,
    on_down: OnDown,
}

/// Of one backend, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A flow without packets for so long is over. None: no file said, so it is the default of its protocol.
    pub idle_timeout: Option<Duration>,
    pub ending: Option<Ending>,
}

/// All flows of a backend end, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// UDP flows are forgotten: the client's next datagram goes to another backend.
    Release,
    /// TCP connections are reset, both sides of them.
    Reset,
}

impl Rules {
    pub const fn of(service: &Service) -> Self {
        Self {
            protocol: service.protocol,
            idle_timeout: service.idle_timeout,
            on_down: service.on_down,
        }
    }
}

impl Terms {
    /// `heir` is another name that leads to the same address now.
    pub fn of(member: &Member, condition: &Condition, heir: Option<&Condition>, now: Instant) -> Self {
        let idle_timeout = member.rules.map(|rules| rules.idle_timeout);
        let is_dead = |condition: &Condition| condition.dead_from.is_some_and(|dead| now >= dead);
        let dead = is_dead(condition);
        let renounced = member.leaving.is_some_and(|leaving| leaving.renounced) && heir.is_none_or(is_dead);
        // UDP has no end of its own to wait for: what a draining backend has goes on for as long as it could be silent.
        let drained_since = (condition.state == State::Draining).then_some(condition.since.monotonic);
        let drained = drained_since.is_some_and(|since| now - since >= idle_timeout.unwrap_or(UDP_IDLE_TIMEOUT));
        let ending = match member.rules.map(|rules| (rules.protocol, rules.on_down)) {
            // What its name has left is as good as down: clients are to be where the name is.
            Some((Protocol::Tcp, OnDown::Reset)) => (dead || renounced).then_some(Ending::Reset),
            Some((Protocol::Tcp, OnDown::Drain)) => None,
            Some((Protocol::Udp, _)) | None => (dead || drained).then_some(Ending::Release),
        };
        Self { idle_timeout, ending }
    }
}
