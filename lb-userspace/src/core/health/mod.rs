//! Health: which backends are asked when, and what their answers mean, for all of them together.
//!
//! `now` goes in; checks to begin and the next deadline come out. `judge` looks at one backend, `suspicion` at the
//! node itself, `observation` has the words. Tested in `tests.rs`, and by scenarios.

mod hold_down;
pub mod judge;
pub mod observation;
mod suspicion;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::abi::{BackendId, ServiceId};

use self::judge::{Change, Judge, Standing};
use self::observation::Observation;
use self::suspicion::{Suspicion, View};
use super::config::Check;
use super::fingerprint::mix;
use super::members::Name;
use super::world::Moment;

/// Backends that come together are first asked this far apart: about what a check costs, for what is asked faster than
/// that waits here, seems late, and is asked again.
const APART: Duration = Duration::from_micros(50);
/// How often witnesses are called, and how many.
const WITNESSES_EVERY: Duration = Duration::from_millis(100);
const WITNESSES: usize = 8;
/// How many checks are begun before answers are looked at again: a stall makes all due at once.
const AT_ONCE: usize = 64;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub service: ServiceId,
    pub name: Name,
    pub address: SocketAddr,
    /// The same on every node.
    pub fingerprint: u64,
    pub check: Check,
}

/// A check to begin now. The number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    pub backend: BackendId,
    pub number: u64,
}

#[derive(Debug, Default)]
pub struct Health {
    /// Boxed, since they are looked up many times a second: a map of ids and pointers stays in the cache.
    watched: BTreeMap<BackendId, Box<Watched>>,
    /// When each has something to do; an earlier word of the same backend is void.
    agenda: BTreeSet<(Instant, BackendId)>,
    suspicion: Suspicion,
    witnesses_called: Option<Instant>,
    number: u64,
}

#[derive(Debug)]
struct Watched {
    target: Arc<Target>,
    judge: Judge,
    on_agenda: Option<Instant>,
}

impl Target {
    /// Where its check goes.
    pub fn asked_at(&self) -> SocketAddr {
        SocketAddr::new(
            self.check.address.unwrap_or(self.address.ip()),
            self.check.port.unwrap_or(self.address.port()),
        )
    }
}

impl Health {
    /// Who is to be watched from now on. What is known of those that stay as they are is kept; of one that is new
    /// or checked in another way, `serving` tells who goes on until it is judged.
    pub fn watch(
        &mut self,
        targets: impl IntoIterator<Item = (BackendId, Target)>,
        serving: impl Fn(BackendId) -> bool,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.watched);
        let mut first = now;
        for (id, target) in targets {
            if let Some(same) = before.remove(&id).filter(|watched| *watched.target == target) {
                self.watched.insert(id, same);
                continue;
            }
            let watched = Watched {
                judge: Judge::new(&target.check, mix(target.fingerprint), serving(id), first),
                target: Arc::new(target),
                on_agenda: None,
            };
            first += APART;
            self.watched.insert(id, Box::new(watched));
        }
        self.agenda.clear();
        for (&id, watched) in &mut self.watched {
            watched.on_agenda = None;
            enter(&mut self.agenda, id, watched);
        }
    }

    /// Checks that are to begin now; when they are very many, some of them.
    pub fn due(&mut self, now: Instant) -> Vec<Launch> {
        let mut launches = Vec::new();
        let mut doubted = None;
        while launches.len() < AT_ONCE
            && let Some(&(at, id)) = self.agenda.first().filter(|(at, _)| *at <= now)
        {
            self.agenda.remove(&(at, id));
            let watched = self
                .watched
                .get_mut(&id)
                .expect("INVARIANT: the agenda names those watched");
            watched.on_agenda = None;
            if watched.judge.is_due(now) {
                self.number += 1;
                let is_burst = watched.judge.begin(self.number, now);
                doubted = doubted.or_else(|| is_burst.then_some(id));
                launches.push(Launch {
                    backend: id,
                    number: self.number,
                });
            }
            enter(&mut self.agenda, id, watched);
        }
        if let Some(doubted) = doubted {
            launches.extend(self.call_witnesses(doubted, now));
        }
        launches
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Packets tell that it may be in trouble.
    pub fn doubt(&mut self, id: BackendId, now: Instant) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.judge.doubt(now);
        }
        self.schedule(id);
    }

    /// Whether somebody's standing has changed, or the reason for it.
    pub fn observed(&mut self, id: BackendId, number: u64, observation: &Observation, now: Moment) -> bool {
        let Some(watched) = self.watched.get_mut(&id) else {
            return false;
        };
        let change = watched.judge.observed(number, observation, now);
        let changed = match change {
            Change::Nothing => false,
            Change::Standing => true,
            Change::Condemned => self.condemned(id, now.monotonic),
        };
        let relieved = observation.is_word() && self.heard(now.monotonic);
        self.schedule(id);
        changed || relieved
    }

    pub fn target(&self, id: BackendId) -> Option<&Arc<Target>> {
        Some(&self.watched.get(&id)?.target)
    }

    /// None: nobody asks it.
    pub fn judge(&self, id: BackendId) -> Option<&Judge> {
        Some(&self.watched.get(&id)?.judge)
    }

    /// Whether a first judgement is still out.
    pub fn is_undecided(&self) -> bool {
        let mut standings = self.watched.values().map(|watched| watched.judge.standing());
        standings.any(|standing| standing == Standing::Checking)
    }

    /// Since when the node has doubted itself more than its backends; until that ends, none goes down for silence.
    pub fn suspects_itself(&self) -> Option<Instant> {
        self.suspicion.since()
    }

    fn schedule(&mut self, id: BackendId) {
        if let Some(watched) = self.watched.get_mut(&id) {
            enter(&mut self.agenda, id, watched);
        }
    }

    /// True: it is down. One that has answered with a refusal is down whatever the node's own health.
    fn condemned(&mut self, id: BackendId, now: Instant) -> bool {
        let watched = &self.watched[&id];
        if watched.judge.is_alive()
            && let Some(since) = watched.judge.silent_since(now)
        {
            let was = self.suspicion.since();
            let views = || self.watched.values().map(|other| other.view(since, now));
            if self.suspicion.stays(views, now) {
                return was.is_none();
            }
        }
        let watched = self.watched.get_mut(&id).expect("INVARIANT: found above");
        watched.judge.fall(now);
        true
    }

    /// Somebody answers: perhaps the node can trust itself again.
    fn heard(&mut self, now: Instant) -> bool {
        let Some(since) = self.suspicion.since() else {
            return false;
        };
        let views = || self.watched.values().map(|watched| watched.view(since, now));
        if !self.suspicion.ends(views, now) {
            return false;
        }
        for watched in self.watched.values_mut() {
            watched.judge.pardon();
        }
        let ids: Vec<BackendId> = self.watched.keys().copied().collect();
        ids.into_iter().for_each(|id| self.schedule(id));
        true
    }

    /// Asks others at once whether it is the node that hears nobody, so that their answers are here when the burst
    /// is over.
    fn call_witnesses(&mut self, doubted: BackendId, now: Instant) -> Vec<Launch> {
        if self.witnesses_called.is_some_and(|last| now < last + WITNESSES_EVERY) {
            return Vec::new();
        }
        self.witnesses_called = Some(now);
        let target = &self.watched[&doubted].target;
        let (service, host) = (target.service, target.address.ip());
        let mut services = BTreeSet::from([service]);
        let mut called = Vec::new();
        for (&id, other) in &self.watched {
            if called.len() == WITNESSES {
                break;
            }
            if other.judge.is_alive() && other.target.address.ip() != host && services.insert(other.target.service) {
                called.push(id);
            }
        }
        for &id in &called {
            if let Some(witness) = self.watched.get_mut(&id) {
                witness.judge.hasten(now);
            }
            self.schedule(id);
        }
        // They are due now; none of them is in a burst by being asked.
        if called.is_empty() { Vec::new() } else { self.due(now) }
    }
}

impl Watched {
    /// How it looks in a doubt that began at `since`.
    fn view(&self, since: Instant, now: Instant) -> View {
        View {
            service: self.target.service,
            host: self.target.address.ip(),
            heard: self.judge.is_alive() && self.judge.heard().is_some_and(|heard| heard >= since),
            silent: self.judge.is_alive() && self.judge.silent_since(now).is_some(),
        }
    }
}

/// Puts the next deadline down, in the place of the one before.
fn enter(agenda: &mut BTreeSet<(Instant, BackendId)>, id: BackendId, watched: &mut Watched) {
    let due = watched.judge.due_at();
    if due == watched.on_agenda {
        return;
    }
    if let Some(before) = watched.on_agenda {
        agenda.remove(&(before, id));
    }
    agenda.extend(due.map(|due| (due, id)));
    watched.on_agenda = due;
}
