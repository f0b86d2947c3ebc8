//! The world's part in health: whom to watch, and what is written down when a backend changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use lb_common::abi::BackendId;

use super::World;
use crate::core::condition::State;
use crate::core::health::judge::Judge;
use crate::core::health::{Launch, Target};
use crate::core::journal::What;
use crate::core::world::Moment;

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

    /// The node hears hardly anybody, and takes that for its own fault.
    pub fn suspects_itself(&self) -> bool {
        self.health.suspects_itself().is_some()
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
        let suspects = self.suspects_itself();
        if suspects != self.suspected {
            self.suspected = suspects;
            let text = match suspects {
                true => {
                    "most services fall silent at once: suspecting this node, and judging no backend down for silence"
                }
                false => "backends are heard again: judging them as usual",
            };
            self.journal.write(now, What::Node(text.to_owned()));
        }
    }
}
