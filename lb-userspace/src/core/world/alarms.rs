//! The world's part in alarms: what they read, and whose weights they shift.
//!
//! An operator's weight is not shifted, and the last who could serve is not taken away: where an alarm would leave
//! nobody it is not heeded.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{BackendId, ServiceId, Traffic};

use super::{Moment, World};
use crate::core::alarm::shift::{Before, Shifted};
use crate::core::alarm::{Alarms, News, State};
use crate::core::condition::Condition;
use crate::core::config::{Alarm, Metric};
use crate::core::journal::What;
use crate::core::members::{Member, Name};

impl World {
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Backends whose traffic alarms want to know.
    pub fn metered(&self) -> BTreeSet<BackendId> {
        let rules = self.alarms.iter().map(|(_, watch)| &watch.rule);
        rules.flat_map(|rule| self.watched(rule)).collect()
    }

    /// Why an alarm that rings, or is on the way back, changes no weight.
    pub fn without_effect(&self, alarm: &str) -> Option<String> {
        let (_, watch) = self.alarms.iter().find(|(name, _)| *name == alarm)?;
        if watch.bell.state() == State::Quiet || watch.rule.weights.is_empty() {
            return None;
        }
        let service = &watch.rule.service;
        let id = self.members.services.get(service)?;
        match self.alarms.decides(service) {
            Some((other, _)) if other != alarm => Some(format!("alarm {other} rang first")),
            _ if self.unheeded.contains(id) => Some("nobody else could serve".to_owned()),
            _ => None,
        }
    }

    pub(super) fn read(&mut self, traffic: &BTreeMap<BackendId, Traffic>, now: Moment) -> bool {
        let mut alarms = std::mem::take(&mut self.alarms);
        let news = alarms.read(|rule| self.values(rule, traffic), now);
        self.alarms = alarms;
        self.tell(news, now)
    }

    /// True: weights may have changed.
    pub(super) fn tell(&mut self, news: Vec<News>, now: Moment) -> bool {
        let changed = !news.is_empty();
        for news in news {
            self.journal.write(now.wall, What::Alarm(news));
        }
        changed
    }

    /// What alarms make of the weights, of every backend of the services they are about.
    pub(super) fn shifted(&self) -> BTreeMap<BackendId, Shifted> {
        let shifted = self.alarmed().into_iter().filter_map(|service| {
            let shift = self.alarms.shift(service)?;
            let of_it = self.serving().filter(|(_, name, _)| name.service == service);
            let before = of_it.map(|(id, name, member)| {
                let said = self.overrides.get(name).and_then(|said| said.weight.as_ref());
                Before {
                    id,
                    name: &name.backend,
                    weight: said.map_or(member.weight, |(weight, _)| *weight),
                    is_fixed: said.is_some(),
                }
            });
            Some(shift.apply(&before.collect::<Vec<_>>()))
        });
        shifted.flatten().collect()
    }

    /// Services about which an alarm decides, and where these conditions leave nobody.
    pub(super) fn without_anybody(&self, conditions: &BTreeMap<BackendId, Condition>) -> BTreeSet<ServiceId> {
        let alarmed = self.alarmed().into_iter();
        let decided = alarmed.filter(|service| self.alarms.decides(service).is_some());
        let mut left: BTreeSet<ServiceId> = decided
            .filter_map(|service| self.members.services.get(service).copied())
            .collect();
        if !left.is_empty() {
            for (id, _, member) in self.serving() {
                if conditions
                    .get(&id)
                    .is_some_and(|condition| condition.effective_weight > 0)
                {
                    left.remove(&member.service);
                }
            }
        }
        left
    }

    /// Services that alarms are about.
    fn alarmed(&self) -> BTreeSet<&str> {
        self.alarms
            .iter()
            .map(|(_, watch)| watch.rule.service.as_str())
            .collect()
    }

    fn serving(&self) -> impl Iterator<Item = (BackendId, &Name, &Member)> {
        let members = self.members.backends.iter();
        let members = members.filter(|(_, member)| member.leaving.is_none());
        members.filter_map(|(id, member)| Some((*id, member.name.as_ref()?, member)))
    }

    fn watched(&self, rule: &Alarm) -> impl Iterator<Item = BackendId> {
        let is_it = |name: &Name| {
            let any = rule.backend.is_none();
            name.service == rule.service && (any || rule.backend.as_ref() == Some(&name.backend))
        };
        self.serving()
            .filter(move |(_, name, _)| is_it(name))
            .map(|(id, _, _)| id)
    }

    /// Backends whose counters could not be read are missing.
    fn values(&self, rule: &Alarm, traffic: &BTreeMap<BackendId, Traffic>) -> BTreeMap<BackendId, u64> {
        let value = |id: BackendId| {
            let traffic = traffic.get(&id)?;
            let value = match rule.metric {
                Metric::NewFlows => traffic.new_flows,
                Metric::ActiveFlows => self.flows(id),
                Metric::Packets => traffic.packets_to_backend + traffic.packets_to_client,
                Metric::Bytes => traffic.bytes_to_backend + traffic.bytes_to_client,
            };
            Some((id, value))
        };
        self.watched(rule).filter_map(value).collect()
    }
}
