//! When a backend is asked: in rounds, in a burst after a failure, and at once when somebody wants to know.

use std::time::{Duration, Instant};

use super::{Attempt, DENIED_EVERY, Judge};
use crate::core::fingerprint::mix;

/// From one check of a burst to the next.
const BURST: Duration = Duration::from_millis(30);
/// How soon after a check signs of trouble bring another, at the soonest; of one that is seldom made, a tenth of its
/// interval: whoever sends packets may have it made ten times as often, and no more.
const DOUBTED_EVERY: Duration = Duration::from_millis(100);

impl Judge {
    /// Whether a check is to begin now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|due| due <= now)
    }

    /// None while answers are awaited, which come in time.
    pub fn due_at(&self) -> Option<Instant> {
        let pause = self.last_began.filter(|_| self.is_denied());
        let round = pause.map_or(self.next_round, |last| self.next_round.max(last + DENIED_EVERY));
        let round = self.in_flight.is_empty().then_some(round);
        round.into_iter().chain(self.burst_at()).min()
    }

    /// True: this check is one more in a burst.
    pub fn begin(&mut self, number: u64, now: Instant) -> bool {
        let is_burst = self.burst_at().is_some_and(|burst| burst <= now);
        self.in_flight.push(Attempt { number, began: now });
        self.last_began = Some(now);
        if !is_burst {
            self.next_round = now + self.interval();
        }
        is_burst
    }

    /// Packets tell that it may be in trouble: it is asked at once, unless it has just been.
    pub fn doubt(&mut self, now: Instant) {
        let soonest = DOUBTED_EVERY.max(self.every / 10);
        if self.is_alive() && self.last_began.is_none_or(|last| now >= last + soonest) {
            self.hasten(now);
        }
    }

    /// Asks as soon as possible, since somebody wants to know.
    pub fn hasten(&mut self, now: Instant) {
        self.next_round = self.next_round.min(now);
    }

    /// What is under way is not waited for any more.
    pub fn abandon(&mut self, now: Instant) {
        self.in_flight.clear();
        self.hasten(now);
    }

    /// When the oldest check under way has taken longer than it should.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let oldest = self.in_flight.iter().map(|attempt| attempt.began).min();
        oldest.map(|began| began + BURST.max(self.usual * 2))
    }

    /// When the next check of a burst is to begin: there is a failure or a late answer to make sure of.
    fn burst_at(&self) -> Option<Instant> {
        // One that still waits when a later one has failed decides nothing in time.
        let is_awaited = |attempt: &&Attempt| self.newest_failure.is_none_or(|failure| failure < attempt.number);
        let awaited = self.in_flight.iter().filter(is_awaited).count() as u32;
        let last = self.last_began?;
        if self.is_down() {
            return None;
        }
        if self.failures + awaited >= self.fall {
            return self.believed_at().filter(|at| awaited == 0 && last < *at);
        }
        let next = last + BURST;
        if self.failures > 0 {
            return Some(next);
        }
        let overdue = self.overdue_at().filter(|_| !self.way.excuses(last));
        overdue.map(|overdue| overdue.max(next))
    }

    /// The first round ends at a place of this backend's own; later ones are up to a tenth shorter or a twentieth longer,
    /// so that a check which begins late still comes within a tenth more.
    fn interval(&mut self) -> Duration {
        let chance = mix(self.seed.wrapping_add(self.rounds)) as u32;
        let chance = f64::from(chance) / f64::from(u32::MAX);
        self.rounds += 1;
        match self.rounds {
            1 => self.every.mul_f64(0.1 + 0.9 * chance),
            _ => self.every.mul_f64(0.9 + 0.15 * chance),
        }
    }
}
