//! The world's part in health: whom to watch, and what is written down when a backend changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use lb_common::abi::BackendId;

use super::World;
use crate::core::condition::State;
use crate::core::health::judge::Judge;
use crate::core::health::{Launch, Target};
use crate::core::journal::What;
use crate::core::next_hops::NextHops;
use crate::core::world::Moment;

/// Why the node suspects itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It hears hardly anybody.
    Silence,
    /// It loses checks of backends that serve their clients well.
    Overload,
}

impl Doubt {
    const fn begins(self) -> &'static str {
        match self {
            Self::Silence => {
                "most services fall silent at once: suspecting this node, and judging no backend down for silence"
            }
            Self::Overload => {
                "checks go unanswered while backends serve their clients: this node is overloaded, and spares them for a while"
            }
        }
    }

    const fn ends(self) -> &'static str {
        match self {
            Self::Silence => "backends are heard again: judging them as usual",
            Self::Overload => "no backend has to be spared any more: judging them as usual",
        }
    }
}

impl World {
    /// Checks that the caller is to begin now; each is told once.
    pub fn take_launches(&mut self) -> Vec<Launch> {
        std::mem::take(&mut self.launches)
    }

    /// What is to be asked, by whom it is asked for. None: nobody any more.
    pub fn target(&self, backend: BackendId) -> Option<&Arc<Target>> {
        self.health.target(backend)
    }

    pub fn judge(&self, backend: BackendId) -> Option<&Judge> {
        self.health.judge(backend)
    }

    /// Whether a name has not been resolved, or a backend not been judged yet: what we would do now, we might take back in
    /// a moment.
    pub fn is_undecided(&self) -> bool {
        self.pace.next_deadline().is_some() || self.health.is_undecided() || self.names.is_undecided()
    }

    /// Backends whose packets to clients the caller is to count now, and tell by `Event::Carried`.
    pub fn take_wanted_counts(&mut self) -> BTreeSet<BackendId> {
        self.health.take_wanted()
    }

    /// Why checks that go unanswered may be this node's own fault; while it is so, what they say is doubted.
    pub fn suspects_itself(&self) -> Option<Doubt> {
        let is_overloaded = self.health.is_overloaded_until().is_some();
        let overload = is_overloaded.then_some(Doubt::Overload);
        self.health.suspects_itself().map(|_| Doubt::Silence).or(overload)
    }

    /// Those who take flows now go on until they are judged: after a restart, those the kernel has in its slots.
    pub(super) fn watch(&mut self, now: Moment) {
        let Some(applied) = &self.applied else { return };
        let services = &applied.file.config.services;
        let serving: BTreeSet<BackendId> = if self.tables.is_empty() || !self.acted {
            self.adopted.slots.values().flatten().copied().collect()
        } else {
            self.tables.values().flat_map(|table| &table.slots).copied().collect()
        };
        let members = self
            .members
            .backends
            .iter()
            .filter(|(_, member)| member.leaving.is_none());
        let targets = members.filter_map(|(&id, member)| {
            let name = member.name.as_ref()?;
            let target = Target {
                service: member.service,
                name: name.clone(),
                address: member.address,
                fingerprint: member.fingerprint,
                check: services.get(&name.service)?.check.clone()?,
            };
            Some((id, target))
        });
        self.health.watch(targets, |id| serving.contains(&id), now.monotonic);
        self.look_at_ways(now.monotonic);
    }

    /// Health is to know whether it is the node that has no way to a backend.
    pub(super) fn look_at_ways(&mut self, now: Instant) {
        let Some(network) = &self.network else { return };
        let hops = NextHops {
            network,
            interfaces: &self.interfaces,
        };
        self.health.look_at_ways(|address| hops.own_way(address), now);
    }

    /// Also when the node's trust in itself has changed. Until a first plan is carried out everything is on its way
    /// to be known, and nothing has changed.
    pub(super) fn write_down(&mut self, now: SystemTime) {
        if !self.acted {
            return;
        }
        self.written.retain(|id, _| self.conditions.contains_key(id));
        for (id, condition) in &self.conditions {
            let from = self.written.insert(*id, condition.state);
            let is_usual = |state| matches!(state, State::Checking | State::Up);
            if from == Some(condition.state) || from.is_none() && is_usual(condition.state) {
                continue;
            }
            let Some(member) = self.members.backends.get(id) else {
                continue;
            };
            let Some(name) = member.name.clone() else { continue };
            let is_named = self.question_of(&name).is_some();
            let what = What::Backend {
                name,
                address: is_named.then_some(member.address),
                from,
                to: condition.state,
                reason: condition.reason.clone(),
            };
            self.journal.write(now, what);
        }
        let doubt = self.suspects_itself();
        if doubt != self.suspected {
            let before = std::mem::replace(&mut self.suspected, doubt);
            let text = doubt.map(Doubt::begins).or_else(|| before.map(Doubt::ends));
            text.into_iter()
                .for_each(|text| self.journal.write(now, What::Node(text.to_owned())));
        }
    }
}
