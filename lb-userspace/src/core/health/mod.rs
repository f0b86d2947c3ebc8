//! Health: which backends are asked when, and what their answers mean, for all of them together.
//!
//! `now` goes in; checks to begin and the next deadline come out. `judge` looks at one backend, `suspicion` and `overload`
//! at the node itself, `own_way` at its way there, `observation` has the words. Tested in `tests.rs`, and by scenarios.
//!
//! Backends that are asked the same at one address share one judge, whatever names lead there: what one of them is, all
//! of them are at once.

mod hold_down;
pub mod judge;
pub mod observation;
mod overload;
mod own_way;
mod suspicion;
mod target;
mod watched;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::abi::BackendId;

use self::judge::{Change, Judge, Standing};
use self::observation::Observation;
use self::overload::Overload;
use self::suspicion::Suspicion;
pub use self::target::Target;
use self::target::alike;
use self::watched::Watched;
use super::fingerprint::mix;
use super::next_hops::Path;
use super::world::Moment;

/// Backends that come together are first asked this far apart: about what a check costs, for what is asked faster than
/// that waits here, seems late, and is asked again.
const APART: Duration = Duration::from_micros(50);
/// How often witnesses are called, and how many.
const WITNESSES_EVERY: Duration = Duration::from_millis(100);
const WITNESSES: usize = 8;
/// How many checks are begun before answers are looked at again: a stall makes all due at once.
const AT_ONCE: usize = 64;

/// A check to begin now. The number is never used twice. The backend is asked for all that share its judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    pub backend: BackendId,
    pub number: u64,
}

#[derive(Debug, Default)]
pub struct Health {
    /// By one of the backends that share it, which is asked for all. Boxed, since they are looked up many times a second:
    /// a map of ids and pointers stays in the cache.
    watched: BTreeMap<BackendId, Box<Watched>>,
    /// As which of those each backend is asked.
    asked_as: BTreeMap<BackendId, BackendId>,
    /// When each has something to do; an earlier word of the same backend is void.
    agenda: BTreeSet<(Instant, BackendId)>,
    suspicion: Suspicion,
    overload: Overload,
    witnesses_called: Option<Instant>,
    number: u64,
}

impl Health {
    /// Who is to be watched from now on. What is known of an address and its check is kept; of those that are new, or
    /// checked in another way, `serving` tells who goes on until it is judged.
    pub fn watch(
        &mut self,
        targets: impl IntoIterator<Item = (BackendId, Target)>,
        serving: impl Fn(BackendId) -> bool,
        now: Instant,
    ) {
        let mut before: BTreeMap<SocketAddr, Vec<(BackendId, Box<Watched>)>> = BTreeMap::new();
        for (id, watched) in std::mem::take(&mut self.watched) {
            let there = before.entry(watched.target.address).or_default();
            there.push((id, watched));
        }
        let mut first = now;
        for alike in alike(targets) {
            let (&id, target) = alike.first_key_value().expect("INVARIANT: one is alike at least");
            let there = before.get_mut(&target.address);
            let known = there.and_then(|there| {
                let place = there
                    .iter()
                    .position(|(_, watched)| watched.target.is_asked_as(target))?;
                Some(there.swap_remove(place))
            });
            let (id, judge) = match known {
                Some((asked_as, watched)) if alike.contains_key(&asked_as) => (asked_as, watched.judge),
                Some((_, mut watched)) => {
                    watched.judge.abandon(now);
                    (id, watched.judge)
                }
                None => {
                    let presumed = alike.keys().any(|id| serving(*id));
                    let judge = Judge::new(&target.check, mix(target.fingerprint), presumed, first);
                    first += APART;
                    (id, judge)
                }
            };
            self.watched.insert(id, Box::new(Watched::new(id, alike, judge)));
        }
        self.asked_as = self
            .watched
            .iter()
            .flat_map(|(id, watched)| watched.backends.keys().map(|backend| (*backend, *id)))
            .collect();
        self.agenda.clear();
        for (&id, watched) in &mut self.watched {
            enter(&mut self.agenda, id, watched);
        }
    }

    /// Takes in the node's own ways: by which an address is reached now, if by any.
    pub fn look_at_ways(&mut self, way_to: impl Fn(IpAddr) -> Option<Path>, now: Instant) {
        for (&id, watched) in &mut self.watched {
            watched.judge.look_at_way(way_to(watched.target.asked_at().ip()), now);
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
                if watched.judge.begin(self.number, now) {
                    doubted.get_or_insert(id);
                    self.overload.want(watched.backends.keys().copied());
                }
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
        let Some(&id) = self.asked_as.get(&id) else { return };
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
        Some(&self.watched_as(id)?.target)
    }

    /// None: nobody asks it.
    pub fn judge(&self, id: BackendId) -> Option<&Judge> {
        Some(&self.watched_as(id)?.judge)
    }

    /// All that share a judge with it.
    pub fn alike(&self, id: BackendId) -> impl Iterator<Item = BackendId> {
        let watched = self.watched_as(id).into_iter();
        watched.flat_map(|watched| watched.backends.keys().copied())
    }

    fn watched_as(&self, id: BackendId) -> Option<&Watched> {
        Some(self.watched.get(self.asked_as.get(&id)?)?)
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

    /// What was to be done at the next deadline is done only now, or all is in time.
    pub fn see_lateness(&mut self, now: Instant) {
        if let Some(due) = self.next_deadline() {
            self.overload.see_lateness(due, now);
        }
    }

    /// Until when the node spares backends that lose checks, for having too much to do.
    pub fn is_overloaded_until(&self) -> Option<Instant> {
        self.overload.lasts_until()
    }

    /// True: nobody had to be spared for a while, and the node is not overloaded any more.
    pub fn calms_down(&mut self, now: Instant) -> bool {
        self.overload.ends(now)
    }

    /// Backends whose packets to clients are to be counted now, for `carried`.
    pub fn take_wanted(&mut self) -> BTreeSet<BackendId> {
        self.overload.take_wanted()
    }

    /// Who waits to be judged is, by what was counted. True: somebody is down, or was spared.
    pub fn carried(&mut self, packets: &BTreeMap<BackendId, u64>, now: Instant) -> bool {
        for (id, packets) in packets {
            let asked_as = self.asked_as.get(id);
            if let Some(watched) = asked_as.and_then(|asked_as| self.watched.get_mut(asked_as)) {
                let silent_since = watched.judge.wordless_since();
                let carried = watched.backends.get_mut(id).map(|sharer| &mut sharer.carried);
                carried
                    .into_iter()
                    .for_each(|carried| carried.read(*packets, silent_since, now));
            }
        }
        let on_trial = self.overload.take_on_trial();
        for id in &on_trial {
            let Some(watched) = self.watched.get_mut(id) else {
                continue;
            };
            match watched.judge.wordless_since() {
                Some(since)
                    if watched
                        .backends
                        .values()
                        .any(|sharer| sharer.carried.goes_on(since, now)) =>
                {
                    self.overload.spared(now);
                }
                _ => watched.judge.fall(now),
            }
            self.schedule(*id);
        }
        !on_trial.is_empty()
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
            let views = || self.watched.values().flat_map(|other| other.views(since, now));
            if self.suspicion.stays(views, now) {
                return was.is_none();
            }
        }
        if let Some(since) = watched.judge.wordless_since() {
            let host = watched.target.address.ip();
            let others = self.watched.values();
            let others = others.filter(|other| other.target.address.ip() != host);
            if self
                .overload
                .is_possible(others.map(|other| other.judge.hearing(now)), since, now)
            {
                self.overload.want(watched.backends.keys().copied());
                self.overload.try_when_read(id);
                return false;
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
        let views = || self.watched.values().flat_map(|watched| watched.views(since, now));
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

    /// On other hosts: of each other service one, then any.
    fn witnesses(&self, doubted: &Watched) -> Vec<BackendId> {
        let host = doubted.target.address.ip();
        let mut services = doubted.services();
        let elsewhere = self.watched.iter();
        let elsewhere = elsewhere.filter(|(_, other)| other.judge.is_alive() && other.target.address.ip() != host);
        let (mut called, mut more) = (Vec::new(), Vec::new());
        for (&id, other) in elsewhere {
            if called.len() == WITNESSES {
                break;
            }
            if !other.services().is_subset(&services) {
                services.extend(other.services());
                called.push(id);
            } else if more.len() < WITNESSES {
                more.push(id);
            }
        }
        called.into_iter().chain(more).take(WITNESSES).collect()
    }

    /// Asks others at once whether it is the node that hears nobody, so that their answers are here when the burst
    /// is over.
    fn call_witnesses(&mut self, doubted: BackendId, now: Instant) -> Vec<Launch> {
        if self.witnesses_called.is_some_and(|last| now < last + WITNESSES_EVERY) {
            return Vec::new();
        }
        self.witnesses_called = Some(now);
        let called = self.witnesses(&self.watched[&doubted]);
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
