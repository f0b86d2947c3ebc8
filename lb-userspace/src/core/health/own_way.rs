//! Tells whether the node's own way to a backend is as it was: its interface, its route, its source address.
//!
//! While the way is gone, silence says nothing about the backend. When the way is back, or is another one, silence
//! counts once the backend has answered over it, or after a grace period: a switch needs a moment, too. A way that the
//! node never had excuses nobody.

use std::time::{Duration, Instant};

use crate::core::next_hops::Path;

/// How long a way that has just changed excuses silence.
pub const GRACE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default)]
pub struct OwnWay {
    /// As it was when it last existed.
    last: Option<Path>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Usual,
    Gone,
    /// There is a way again, or another one, since then. Nobody has answered over it yet.
    Changed(Instant),
}

impl OwnWay {
    /// Takes in the way of now; None: there is none. True: that is new.
    pub fn look(&mut self, way: Option<Path>, now: Instant) -> bool {
        let was_gone = self.state == State::Gone;
        let state = match way {
            None if self.last.is_some() => State::Gone,
            Some(way) if was_gone || self.last.is_some_and(|last| last != way) => State::Changed(now),
            _ => self.state,
        };
        self.last = way.or(self.last);
        std::mem::replace(&mut self.state, state) != state
    }

    /// A check that began then was answered.
    pub fn answered(&mut self, began: Instant) {
        if let State::Changed(since) = self.state
            && began >= since
        {
            self.state = State::Usual;
        }
    }

    /// Whether silence towards a check that began then is the node's own fault.
    pub fn excuses(&self, began: Instant) -> bool {
        match self.state {
            State::Usual => false,
            State::Gone => true,
            State::Changed(since) => began < since + GRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Path = Path {
        ifindex: 3,
        next: std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 11)),
        source: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 2))),
    };
    const OTHER: Path = Path { ifindex: 2, ..WAY };

    fn at(seconds: u64) -> Instant {
        static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BASE.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_way_that_never_was_excuses_nothing() {
        let mut way = OwnWay::default();
        assert!(!way.look(None, at(0)) && !way.excuses(at(0)));
        assert!(!way.look(Some(WAY), at(1)) && !way.excuses(at(1)));
    }

    #[test]
    fn a_way_that_is_gone_excuses_for_as_long_as_it_is_gone_and_a_while_more() {
        let mut way = OwnWay::default();
        way.look(Some(WAY), at(0));
        assert!(way.look(None, at(1)) && !way.look(None, at(2)) && way.excuses(at(1_000)));
        assert!(way.look(Some(WAY), at(1_000)));
        assert!(way.excuses(at(1_002)) && !way.excuses(at(1_003)));
    }

    #[test]
    fn an_answer_over_the_new_way_ends_the_excuse_and_one_from_before_does_not() {
        let mut way = OwnWay::default();
        way.look(Some(WAY), at(0));
        assert!(way.look(Some(OTHER), at(10)));
        way.answered(at(9));
        assert!(way.excuses(at(11)));
        way.answered(at(10));
        assert!(!way.excuses(at(11)));
        assert!(!way.look(Some(OTHER), at(12)) && !way.excuses(at(12)));
    }
}
