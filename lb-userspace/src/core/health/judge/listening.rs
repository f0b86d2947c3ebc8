//! When the backend's host was heard, and since when it has been silent.

use std::time::Instant;

use super::{Attempt, Judge};
use crate::core::health::observation::Observation;
use crate::core::health::overload::{Hearing, LATELY, LONG, LOSSY};

impl Judge {
    /// When its host was last heard from.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Since when its host has been silent: a check that took no answer, or has waited for one longer than usual.
    /// None while that is the node's own fault.
    pub fn silent_since(&self, now: Instant) -> Option<Instant> {
        if self.way.excuses(now) {
            return None;
        }
        let overdue = self.overdue_at().filter(|&overdue| overdue <= now);
        let began = overdue.and_then(|_| self.in_flight.iter().map(|attempt| attempt.began).min());
        let began = began.filter(|&began| self.heard.is_none_or(|heard| heard < began));
        self.silent_since.into_iter().chain(began).min()
    }

    /// Since when its checks have ended in vain, at whatever step. None: it had the last word.
    pub fn wordless_since(&self) -> Option<Instant> {
        self.wordless_since
    }

    /// How well it is heard just now. One that fell in what may be the same trouble still tells of that.
    pub fn hearing(&self, now: Instant) -> Hearing {
        let is_within = |time, at: Option<Instant>| at.is_some_and(|at| now < at + time);
        let is_overdue = self.overdue_at().is_some_and(|overdue| overdue <= now);
        let is_known = self.is_alive() || is_within(LONG, self.hold_down.fell_at());
        match is_known && !self.way.excuses(now) {
            true if is_overdue || is_within(LOSSY, self.lost_at) => Hearing::Lossy,
            true if is_within(LATELY, self.heard) => Hearing::Clean,
            _ => Hearing::Unknown,
        }
    }

    pub(super) fn listen(&mut self, attempt: Attempt, observation: &Observation, now: Instant) {
        if observation.is_word() {
            self.wordless_since = self.wordless_since.filter(|&since| since > attempt.began);
        } else if observation.is_evidence() {
            self.wordless_since.get_or_insert(attempt.began);
        }
        if observation.is_silence() && !self.way.excuses(attempt.began) {
            self.lost_at = Some(now);
        }
        if observation.is_answer() {
            self.heard = Some(now);
            if observation.is_word() {
                self.way.answered(attempt.began);
            }
            // What began after it may still be silent.
            self.silent_since = self.silent_since.filter(|&since| since > attempt.began);
        } else if observation.is_evidence() && self.heard.is_none_or(|heard| heard < attempt.began) {
            self.silent_since = Some(
                self.silent_since
                    .map_or(attempt.began, |since| since.min(attempt.began)),
            );
        }
    }
}
