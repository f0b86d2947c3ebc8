//! Judges one backend by what its checks saw, and says when to ask next.
//!
//! A check that fails, or is late, is followed by others at once, none waiting for the one before: a backend is down
//! when `fall` checks in a row have failed, and that many take little longer than one. What a backend says about its
//! role counts the first time it says so: no lost packet makes a primary call itself a replica.
//!
//! Knows nothing of other backends; whether a fall is believed is for `Health`. Tested in `tests.rs` beside it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::hold_down::HoldDown;
use super::observation::{Facts, Observation, Outcome};
use crate::core::config::{Ask, Check, Role};
use crate::core::fingerprint::mix;
use crate::core::world::Moment;

/// From one check of a burst to the next.
const BURST: Duration = Duration::from_millis(30);
/// How soon after a check signs of trouble bring another, at the soonest; of one that is seldom made, a tenth of its
/// interval: whoever sends packets may have it made ten times as often, and no more.
const DOUBTED_EVERY: Duration = Duration::from_millis(100);
/// At least, where a server that is down refuses whoever asks.
const DENIED_EVERY: Duration = Duration::from_secs(5);
/// How many of the last results are kept for `naru explain`.
const REMEMBERED: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never judged: takes nothing, or goes on as before a restart.
    Checking,
    Presumed,
    Up,
    Standby,
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: SystemTime,
    pub observation: Observation,
}

#[derive(Debug)]
pub struct Judge {
    every: Duration,
    fall: u32,
    rise: u32,
    /// That a database must have.
    role: Option<Role>,
    /// What jitter grows from.
    seed: u64,
    rounds: u64,

    standing: Standing,
    reason: String,
    facts: Facts,
    hold_down: HoldDown,

    /// In a row, counted by when the check began.
    failures: u32,
    successes: u32,
    /// The last failure was a refusal of who asks.
    denied: bool,
    newest_failure: Option<u64>,
    newest_success: Option<u64>,
    /// How long an answer usually takes.
    usual: Duration,
    heard: Option<Instant>,
    /// When the first of those checks began that have met with silence since.
    silent_since: Option<Instant>,

    in_flight: Vec<Attempt>,
    last_began: Option<Instant>,
    next_round: Instant,
    records: VecDeque<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: u64,
    began: Instant,
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Its standing, or the reason for it.
    Standing,
    /// It is down unless somebody has doubts: `Judge::fall`.
    Condemned,
}

impl Judge {
    /// The first check begins at `first`.
    pub fn new(check: &Check, seed: u64, presumed: bool, first: Instant) -> Self {
        let (standing, reason) = match presumed {
            true => (Standing::Presumed, "as before, not checked yet".to_owned()),
            false => (Standing::Checking, "not checked yet".to_owned()),
        };
        Self {
            every: check.every,
            fall: check.fall,
            rise: check.rise,
            role: match &check.ask {
                Ask::Postgres(database) | Ask::Mysql(database) => database.role,
                Ask::Tcp | Ask::Http(_) | Ask::Exec(_) => None,
            },
            seed,
            rounds: 0,
            standing,
            reason,
            facts: Facts::default(),
            hold_down: HoldDown::default(),
            failures: 0,
            successes: 0,
            denied: false,
            newest_failure: None,
            newest_success: None,
            usual: Duration::ZERO,
            heard: None,
            silent_since: None,
            in_flight: Vec::new(),
            last_began: None,
            next_round: first,
            records: VecDeque::new(),
        }
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Empty when there is nothing to say.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Of the last good answer.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// It stands by because its role is another one, not for being late.
    pub fn has_other_role(&self) -> bool {
        self.standing == Standing::Standby
            && self.role.is_some()
            && self.facts.role.is_some()
            && self.facts.role != self.role
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    pub fn usual_latency(&self) -> Duration {
        self.usual
    }

    pub fn hold_down(&self) -> &HoldDown {
        &self.hold_down
    }

    /// Answering, as far as is known.
    pub fn is_alive(&self) -> bool {
        matches!(self.standing, Standing::Presumed | Standing::Up | Standing::Standby)
    }

    /// When its host was last heard from.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Since when its host has been silent: a check that took no answer, or has waited for one longer than usual.
    pub fn silent_since(&self, now: Instant) -> Option<Instant> {
        let overdue = self.overdue_at().filter(|&overdue| overdue <= now);
        let began = overdue.and_then(|_| self.in_flight.iter().map(|attempt| attempt.began).min());
        let began = began.filter(|&began| self.heard.is_none_or(|heard| heard < began));
        self.silent_since.into_iter().chain(began).min()
    }

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

    pub fn observed(&mut self, number: u64, observation: &Observation, now: Moment) -> Change {
        let Some(place) = self.in_flight.iter().position(|attempt| attempt.number == number) else {
            return Change::Nothing;
        };
        let attempt = self.in_flight.swap_remove(place);
        self.remember(observation, now.wall);
        self.listen(attempt, observation, now.monotonic);
        match &observation.outcome {
            Outcome::Up(facts) => self.answered(attempt, observation, "", facts, now.monotonic),
            Outcome::Standby(why, facts) => self.answered(attempt, observation, why, facts, now.monotonic),
            Outcome::Failed(_) if !observation.is_evidence() => self.unasked(observation),
            Outcome::Failed(_) => self.failed(attempt, observation),
        }
    }

    /// Carries the sentence out.
    pub fn fall(&mut self, now: Instant) {
        if self.is_alive() {
            self.hold_down.fell(now);
        }
        self.standing = Standing::Down;
        self.successes = 0;
        if let Some(last) = self.records.iter().rev().find(|record| is_failure(record)) {
            self.reason = self.told(&last.observation);
        }
    }

    /// What failed so far is forgotten: it said nothing about the backend.
    pub fn pardon(&mut self) {
        if self.is_alive() {
            self.failures = 0;
        }
    }

    fn answered(&mut self, at: Attempt, seen: &Observation, standby: &str, facts: &Facts, now: Instant) -> Change {
        if self.newest_failure.is_some_and(|failure| at.number < failure) {
            return Change::Nothing;
        }
        self.usual = match self.usual.is_zero() {
            true => seen.latency,
            false => (self.usual * 7 + seen.latency) / 8,
        };
        if self.newest_success.is_some_and(|success| at.number < success) {
            return Change::Nothing;
        }
        self.newest_success = Some(at.number);
        self.failures = 0;
        self.denied = false;
        self.successes = self.successes.saturating_add(1);
        let moved = (self.facts.role, self.facts.timeline) != (facts.role, facts.timeline);
        self.facts = facts.clone();
        if self.standing == Standing::Down && self.successes < self.rise {
            return Change::Nothing;
        }
        if self.standing == Standing::Down && self.hold_down.holds(now) {
            return self.explain(format!("answers again, {}", self.hold_down));
        }
        let standing = match standby.is_empty() {
            true => Standing::Up,
            false => Standing::Standby,
        };
        // While it stands, the first reason is as good as those that follow, which may differ in every number.
        if self.standing == standing {
            let explained = match standing {
                Standing::Up => self.explain(String::new()),
                _ => Change::Nothing,
            };
            return if moved { Change::Standing } else { explained };
        }
        self.standing = standing;
        self.reason = standby.to_owned();
        Change::Standing
    }

    fn failed(&mut self, attempt: Attempt, observation: &Observation) -> Change {
        if self.newest_success.is_some_and(|success| attempt.number < success) {
            return Change::Nothing;
        }
        self.newest_failure = self.newest_failure.max(Some(attempt.number));
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.denied = observation.is_denied();
        if self.standing == Standing::Down {
            return self.explain(self.told(observation));
        }
        if self.failures >= self.fall {
            Change::Condemned
        } else {
            Change::Nothing
        }
    }

    /// The check could not be made: nothing is known, so nothing changes.
    fn unasked(&mut self, observation: &Observation) -> Change {
        match self.standing {
            Standing::Checking | Standing::Presumed | Standing::Up => {
                self.explain(format!("cannot be checked: {observation}"))
            }
            Standing::Standby | Standing::Down => Change::Nothing,
        }
    }

    fn is_denied(&self) -> bool {
        self.denied && self.standing == Standing::Down
    }

    fn told(&self, failure: &Observation) -> String {
        match self.is_denied() {
            true => format!("{failure}; asked every {:?} only", self.every.max(DENIED_EVERY)),
            false => failure.to_string(),
        }
    }

    fn explain(&mut self, reason: String) -> Change {
        if self.reason == reason {
            return Change::Nothing;
        }
        self.reason = reason;
        Change::Standing
    }

    fn listen(&mut self, attempt: Attempt, observation: &Observation, now: Instant) {
        if observation.is_answer() {
            self.heard = Some(now);
            // What began after it may still be silent.
            self.silent_since = self.silent_since.filter(|&since| since > attempt.began);
        } else if observation.is_evidence() && self.heard.is_none_or(|heard| heard < attempt.began) {
            self.silent_since = Some(
                self.silent_since
                    .map_or(attempt.began, |since| since.min(attempt.began)),
            );
        }
    }

    fn remember(&mut self, observation: &Observation, at: SystemTime) {
        if self.records.len() == REMEMBERED {
            self.records.pop_front();
        }
        self.records.push_back(Record {
            at,
            observation: observation.clone(),
        });
    }

    /// When the oldest check under way has taken longer than it should.
    fn overdue_at(&self) -> Option<Instant> {
        let oldest = self.in_flight.iter().map(|attempt| attempt.began).min();
        oldest.map(|began| began + BURST.max(self.usual * 2))
    }

    /// When the next check of a burst is to begin: there is a failure or a late answer to make sure of.
    fn burst_at(&self) -> Option<Instant> {
        // One that still waits when a later one has failed decides nothing in time.
        let is_awaited = |attempt: &&Attempt| self.newest_failure.is_none_or(|failure| failure < attempt.number);
        let awaited = self.in_flight.iter().filter(is_awaited).count() as u32;
        if self.standing == Standing::Down || self.failures + awaited >= self.fall {
            return None;
        }
        let next = self.last_began? + BURST;
        if self.failures > 0 {
            return Some(next);
        }
        self.overdue_at().map(|overdue| overdue.max(next))
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

fn is_failure(record: &Record) -> bool {
    matches!(record.observation.outcome, Outcome::Failed(_)) && record.observation.is_evidence()
}
