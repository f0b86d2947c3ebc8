//! Judges one backend by what its checks saw, and says when to ask next.
//!
//! A check that fails, or is late, is followed by others at once, none waiting for the one before: a backend is down
//! when `fall` checks in a row have failed, and that many take little longer than one. What a backend says about its
//! role counts the first time it says so: no lost packet makes a primary call itself a replica.
//!
//! Knows nothing of other backends; whether a fall is believed is for `Health`, and whether a backend that is held down
//! serves all the same is for `core::selection`. When to ask is in `schedule`, what was heard of its host in
//! `listening`. Tested in `tests.rs` beside it.

mod listening;
mod schedule;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::hold_down::HoldDown;
use super::observation::{Facts, Observation, Outcome};
use super::own_way::OwnWay;
use crate::core::config::{Ask, Check, Role};
use crate::core::next_hops::Path;
use crate::core::world::Moment;

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
    /// How long silence takes to be known: an error of the network is believed no sooner.
    patience: Duration,
    /// That a database must have.
    role: Option<Role>,
    /// What jitter grows from.
    seed: u64,
    rounds: u64,

    standing: Standing,
    reason: String,
    facts: Facts,
    hold_down: HoldDown,
    /// It answers well again, and is down for having fallen too often.
    held: bool,
    way: OwnWay,

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
    /// When the first of those checks began that have ended in vain since its host's last word, at whatever step.
    wordless_since: Option<Instant>,
    /// When a check last met with silence that was not excused.
    lost_at: Option<Instant>,

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
            patience: check.connect_timeout.min(check.timeout),
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
            held: false,
            way: OwnWay::default(),
            failures: 0,
            successes: 0,
            denied: false,
            newest_failure: None,
            newest_success: None,
            usual: Duration::ZERO,
            heard: None,
            silent_since: None,
            wordless_since: None,
            lost_at: None,
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

    /// Whether it is down for nothing but having fallen too often.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes in the node's own way to it. When that is new, what was asked before says nothing.
    pub fn look_at_way(&mut self, way: Option<Path>, now: Instant) {
        if self.way.look(way, now) {
            self.pardon();
            if way.is_some() {
                self.abandon(now);
            }
        }
    }

    /// Answering, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.held || matches!(self.standing, Standing::Presumed | Standing::Up | Standing::Standby)
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
            Outcome::Failed(_) if !observation.is_word() && self.way.excuses(attempt.began) => Change::Nothing,
            Outcome::Failed(_) => self.failed(attempt, observation, now.monotonic),
        }
    }

    /// Carries the sentence out.
    pub fn fall(&mut self, now: Instant) {
        if self.is_alive() && !self.held {
            self.hold_down.fell(now);
        }
        self.standing = Standing::Down;
        self.held = false;
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
            let held = std::mem::replace(&mut self.held, standby.is_empty()) != standby.is_empty();
            let explained = self.explain(format!("answers again, {}", self.hold_down));
            return if moved || held { Change::Standing } else { explained };
        }
        self.held = false;
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

    fn failed(&mut self, attempt: Attempt, observation: &Observation, now: Instant) -> Change {
        if self.newest_success.is_some_and(|success| attempt.number < success) {
            return Change::Nothing;
        }
        self.newest_failure = self.newest_failure.max(Some(attempt.number));
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.denied = observation.is_denied();
        if self.is_down() {
            return self.explain(self.told(observation));
        }
        // The kernel says at once that there is no way, and the news of why comes a moment later.
        let is_early = observation.is_unreachable() && self.believed_at().is_some_and(|at| now < at);
        if self.failures >= self.fall && !is_early {
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

    /// When the failures so far can be silence that is known.
    fn believed_at(&self) -> Option<Instant> {
        Some(self.silent_since? + self.patience)
    }

    fn is_denied(&self) -> bool {
        self.denied && self.is_down()
    }

    /// It does not answer, and that is known.
    fn is_down(&self) -> bool {
        self.standing == Standing::Down && !self.held
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

    fn remember(&mut self, observation: &Observation, at: SystemTime) {
        if self.records.len() == REMEMBERED {
            self.records.pop_front();
        }
        self.records.push_back(Record {
            at,
            observation: observation.clone(),
        });
    }
}

fn is_failure(record: &Record) -> bool {
    matches!(record.observation.outcome, Outcome::Failed(_)) && record.observation.is_evidence()
}
