//! Chooses among the backends of a service that could serve those that do, and with what share.
//!
//! Backup backends, and those of SRV records of a higher priority number, serve while no other is up; of more than `max_active` the one of the higher PostgreSQL timeline
//! stays, else the one that serves already; who comes back reaches its weight in steps. Hold-down chooses between
//! backends, so one that is held down serves while no other could. When nobody is up nobody serves, unless the service is
//! to go on with those that did last. Tested here, and by scenarios.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_common::abi::{BackendId, ServiceId};

use super::condition::{Condition, State};
use super::config::{Role, Service, WhenNoneUp};
use super::health::observation::Facts;

/// A slow start's shares, of a weight: fine enough for none to be felt.
const STEPS: u16 = 20;
/// Who begins to serve within this time of its service is one of the first, and not slow.
const FIRST: Duration = Duration::from_secs(1);
/// Who served within this time before the last went down is gone on with.
const LATELY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Selection {
    /// None: from the beginning, with its whole weight.
    serving: BTreeMap<BackendId, Option<Instant>>,
    /// When who serves no more did last.
    served: BTreeMap<BackendId, Instant>,
    /// Services where nobody is up, and who goes on all the same.
    going_on: BTreeMap<ServiceId, BTreeSet<BackendId>>,
    /// When each service was first looked at.
    began: BTreeMap<ServiceId, Instant>,
    next_step: Option<Instant>,
    quarrels: Vec<String>,
}

/// Whose turn it is: those of a later tier serve while nobody of an earlier one is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tier {
    /// In the file.
    pub backup: bool,
    /// By the priorities of SRV records.
    pub of_name: u16,
}

/// A backend of the service, as health and operators have it.
pub struct Candidate<'a> {
    pub id: BackendId,
    pub name: &'a str,
    pub fingerprint: u64,
    /// Two names may lead to one node.
    pub address: SocketAddr,
    pub tier: Tier,
    pub facts: Option<&'a Facts>,
    pub condition: &'a mut Condition,
}

impl Candidate<'_> {
    fn is_ready(&self) -> bool {
        self.condition.effective_weight > 0
    }

    fn timeline(&self) -> Option<u32> {
        self.facts?.timeline
    }

    fn is_primary(&self) -> bool {
        self.facts.is_some_and(|facts| facts.role == Some(Role::Primary))
    }

    fn stand_by(&mut self, why: &str) {
        self.condition.state = State::Standby;
        self.condition.effective_weight = 0;
        self.condition.share = 0;
        self.condition.add_reason(why);
    }
}

impl Selection {
    /// Before the services of one moment are looked at.
    pub fn begin(&mut self, backends: impl Fn(BackendId) -> bool) {
        self.next_step = None;
        self.quarrels.clear();
        self.serving.retain(|&id, _| backends(id));
        self.served.retain(|&id, _| backends(id));
    }

    pub fn choose(
        &mut self,
        id: ServiceId,
        name: &str,
        service: &Service,
        candidates: &mut [Candidate<'_>],
        now: Instant,
    ) {
        self.release_held(candidates);
        spare_backups(candidates);
        self.limit(name, service, candidates, now);
        let ready: BTreeSet<BackendId> = ids(candidates, |candidate| candidate.is_ready());
        let is_new = now < *self.began.entry(id).or_insert(now) + FIRST;
        self.take_up(candidates, &ready, is_new, now);
        if let Some(over) = service.slow_start {
            self.ramp(over, candidates, now);
        }
        if ready.is_empty() && service.when_none_up == WhenNoneUp::Last {
            self.go_on(id, candidates, now);
        } else {
            self.going_on.remove(&id);
        }
    }

    /// When a share is to grow.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_step
    }

    /// Services that have more than one primary, each in a sentence.
    pub fn quarrels(&self) -> impl Iterator<Item = &str> {
        self.quarrels.iter().map(String::as_str)
    }

    /// Who serves so goes on when others come back: to take it out again would help nobody.
    fn release_held(&self, candidates: &mut [Candidate<'_>]) {
        let is_needed = !candidates.iter().any(Candidate::is_ready);
        for candidate in candidates {
            if is_needed || self.serving.contains_key(&candidate.id) {
                candidate.condition.release("serves since no other could");
            }
        }
    }

    fn limit(&mut self, name: &str, service: &Service, candidates: &mut [Candidate<'_>], now: Instant) {
        let Some(most) = service.max_active.filter(|&most| most > 0) else {
            return;
        };
        let mut ready: Vec<&mut Candidate<'_>> =
            candidates.iter_mut().filter(|candidate| candidate.is_ready()).collect();
        if ready.len() <= most {
            return;
        }
        ready.sort_by_key(|candidate| {
            let serves = self.serving.contains_key(&candidate.id);
            (std::cmp::Reverse(candidate.timeline()), !serves, candidate.fingerprint)
        });
        let (chosen, spare) = ready.split_at_mut(most);
        let names = |list: &[&mut Candidate<'_>]| list.iter().map(|one| told(one)).collect::<Vec<_>>().join(" and ");
        let both = chosen.iter().chain(spare.iter());
        let primaries = both.filter(|candidate| candidate.is_primary());
        let primaries: BTreeSet<SocketAddr> = primaries.map(|candidate| candidate.address).collect();
        if primaries.len() > most {
            let (chosen, spare) = (names(chosen), names(spare));
            self.quarrels.push(format!(
                "service {name:?}: more primaries than max_active {most}: using {chosen}, not {spare}"
            ));
        }
        let why = format!("max_active {most}: {} serves", names(chosen));
        let used: BTreeSet<SocketAddr> = chosen.iter().map(|candidate| candidate.address).collect();
        for candidate in spare {
            candidate.stand_by(&why);
            // What it writes nobody will read.
            if candidate.is_primary() && !used.contains(&candidate.address) {
                candidate.condition.dead_from = Some(now);
            }
        }
    }

    /// Who begins to serve beside others is slow, if the service is.
    fn take_up(&mut self, candidates: &[Candidate<'_>], ready: &BTreeSet<BackendId>, is_new: bool, now: Instant) {
        let others = candidates
            .iter()
            .any(|candidate| self.serving.contains_key(&candidate.id));
        let slow = others && !is_new;
        for candidate in candidates {
            if ready.contains(&candidate.id) {
                self.serving.entry(candidate.id).or_insert_with(|| slow.then_some(now));
            } else if self.serving.remove(&candidate.id).is_some() {
                self.served.insert(candidate.id, now);
            }
        }
    }

    fn ramp(&mut self, over: Duration, candidates: &mut [Candidate<'_>], now: Instant) {
        let step = (over / u32::from(STEPS)).max(Duration::from_millis(1));
        let mut parts = BTreeMap::new();
        for candidate in candidates.iter() {
            let Some(&Some(since)) = self.serving.get(&candidate.id) else {
                continue;
            };
            let passed = now.saturating_duration_since(since).as_nanos() / step.as_nanos();
            if let Some(part) = u16::try_from(passed)
                .ok()
                .map(|passed| passed + 1)
                .filter(|part| *part < STEPS)
            {
                parts.insert(candidate.id, part);
                let next = since + step * u32::from(part);
                self.next_step = self.next_step.into_iter().chain([next]).min();
            }
        }
        if parts.is_empty() {
            return;
        }
        let ready = candidates.iter().filter(|candidate| candidate.is_ready());
        let part_of = |id| parts.get(&id).copied().unwrap_or(STEPS);
        let in_small_coin = |one: &Candidate<'_>| (one.id, u32::from(one.condition.share) * u32::from(part_of(one.id)));
        let shares: BTreeMap<BackendId, u32> = ready.map(in_small_coin).collect();
        // Great shares do not fit as they are: all of them in a coin so much larger.
        let coin = shares.values().max().map_or(1, |most| most.div_ceil(u16::MAX.into()));
        for candidate in candidates.iter_mut().filter(|candidate| candidate.is_ready()) {
            let part = part_of(candidate.id);
            let condition = &mut *candidate.condition;
            condition.share = narrow(shares[&candidate.id] / coin);
            if part < STEPS {
                condition.effective_weight =
                    narrow(u32::from(condition.effective_weight) * u32::from(part) / u32::from(STEPS));
                condition.add_reason(&format!("slow start, {} %", 100 * part / STEPS));
            }
        }
    }

    fn go_on(&mut self, id: ServiceId, candidates: &mut [Candidate<'_>], now: Instant) {
        let served = &self.served;
        let lately = |id: &BackendId| served.get(id).is_some_and(|&last| now < last + LATELY);
        let going_on = self
            .going_on
            .entry(id)
            .or_insert_with(|| ids(candidates, |candidate| lately(&candidate.id)));
        for candidate in candidates.iter_mut() {
            let condition = &mut *candidate.condition;
            if going_on.contains(&candidate.id) && condition.state == State::Down && condition.next_hop.is_known() {
                condition.effective_weight = condition.weight;
                condition.share = condition.weight;
                condition.dead_from = None;
                condition.add_reason("used all the same, as one of the last");
            }
        }
    }
}

fn spare_backups(candidates: &mut [Candidate<'_>]) {
    let ready = candidates.iter().filter(|candidate| candidate.is_ready());
    let Some(first) = ready.map(|candidate| candidate.tier).min() else {
        return;
    };
    for candidate in candidates
        .iter_mut()
        .filter(|candidate| candidate.is_ready() && candidate.tier > first)
    {
        candidate.stand_by("backup, others are up");
    }
}

/// More than nothing stays so.
fn narrow(part: u32) -> u16 {
    u16::try_from(part.max(1)).unwrap_or(u16::MAX)
}

fn ids(candidates: &[Candidate<'_>], of: impl Fn(&Candidate<'_>) -> bool) -> BTreeSet<BackendId> {
    candidates
        .iter()
        .filter(|candidate| of(candidate))
        .map(|candidate| candidate.id)
        .collect()
}

fn told(candidate: &Candidate<'_>) -> String {
    match candidate.timeline() {
        Some(timeline) => format!("{} (timeline {timeline})", candidate.name),
        None => candidate.name.to_owned(),
    }
}
