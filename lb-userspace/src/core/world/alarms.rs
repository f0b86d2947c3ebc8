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

/// Of the services that alarms are about, by service: who is in the file.
#[derive(Default)]
struct Serving<'a>(BTreeMap<&'a str, Vec<(BackendId, &'a Name, &'a Member)>>);

impl World {
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Backends whose traffic alarms want to know.
    pub fn metered(&self) -> BTreeSet<BackendId> {
        let serving = self.serving(&self.alarms);
        let rules = self.alarms.iter().map(|(_, watch)| &watch.rule);
        rules.flat_map(|rule| serving.watched(rule)).collect()
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
        let serving = self.serving(&alarms);
        let news = alarms.read(|rule| self.values(rule, &serving, traffic), now);
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
        let serving = self.serving(&self.alarms);
        let shifted = serving.0.into_iter().filter_map(|(service, backends)| {
            let shift = self.alarms.shift(service)?;
            // The addresses of a name have one weight, and one of them speaks for all.
            let of_names = backends.iter().map(|(id, name, member)| (*name, (*id, *member)));
            let first: BTreeMap<&Name, (BackendId, &Member)> = of_names.collect();
            let before = first.iter().map(|(name, (id, member))| {
                let said = self.overrides.get(name).and_then(|said| said.weight.as_ref());
                Before {
                    id: *id,
                    name: &name.backend,
                    weight: said.map_or(member.weight, |(weight, _)| *weight),
                    is_fixed: said.is_some(),
                }
            });
            let shifted = shift.apply(&before.collect::<Vec<_>>());
            let each = backends.iter();
            let each = each.filter_map(|(id, name, _)| Some((*id, shifted.get(&first[name].0)?.clone())));
            Some(each.collect::<Vec<_>>())
        });
        shifted.flatten().collect()
    }

    /// Services about which an alarm decides, and where these conditions leave nobody.
    pub(super) fn without_anybody(&self, conditions: &BTreeMap<BackendId, Condition>) -> BTreeSet<ServiceId> {
        let serves = |(id, ..): &(BackendId, &Name, &Member)| {
            let condition = conditions.get(id);
            condition.is_some_and(|condition| condition.effective_weight > 0)
        };
        let serving = self.serving(&self.alarms).0.into_iter();
        let left = serving
            .filter(|(service, backends)| self.alarms.decides(service).is_some() && !backends.iter().any(serves));
        left.filter_map(|(service, _)| self.members.services.get(service).copied())
            .collect()
    }

    /// Goes through all members once, however many alarms there are.
    fn serving(&self, alarms: &Alarms) -> Serving<'_> {
        let alarmed: BTreeSet<&str> = alarms.iter().map(|(_, watch)| watch.rule.service.as_str()).collect();
        let mut serving = Serving::default();
        for (id, member) in &self.members.backends {
            let Some(name) = member.name.as_ref().filter(|_| member.leaving.is_none()) else {
                continue;
            };
            if alarmed.contains(name.service.as_str()) {
                serving.0.entry(&name.service).or_default().push((*id, name, member));
            }
        }
        serving
    }

    /// Backends whose counters could not be read are missing.
    fn values(
        &self,
        rule: &Alarm,
        serving: &Serving<'_>,
        traffic: &BTreeMap<BackendId, Traffic>,
    ) -> BTreeMap<BackendId, u64> {
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
        serving.watched(rule).filter_map(value).collect()
    }
}

impl Serving<'_> {
    fn watched(&self, rule: &Alarm) -> impl Iterator<Item = BackendId> {
        let of_it = self.0.get(rule.service.as_str()).into_iter().flatten();
        let is_it = |name: &Name| rule.backend.as_ref().is_none_or(|backend| *backend == name.backend);
        of_it.filter(move |(_, name, _)| is_it(name)).map(|(id, ..)| *id)
    }
}
