//! Alarms: which ring, which are on the way back, and whose weights a service has at this moment.
//!
//! Readings and the time go in, weights and the next deadline come out. How readings become data points is for
//! `meter`, when an alarm rings and is over for `bell`, what a shift makes of a backend for `shift`. Tested here, in those,
//! and by the scenarios `alarm_*`.

mod bell;
mod meter;
pub mod shift;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use lb_common::abi::BackendId;

pub use self::bell::State;
use self::bell::{Bell, Turn};
use self::meter::{Kind, Meter};
use self::shift::Shift;
use super::config::{Alarm, Metric};
use super::world::Moment;

/// Of the way back: fine enough for none to be felt, and no more work for the kernel than that.
const MOST_STEPS: u16 = 20;
const SHORTEST_STEP: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub struct Alarms(BTreeMap<String, Watch>);

/// An alarm at work.
#[derive(Debug)]
pub struct Watch {
    pub rule: Alarm,
    pub bell: Bell,
    meter: Meter,
    /// When it came into its state.
    pub since: Moment,
    /// Steps on the way back; 0 while it rings.
    back: u16,
}

/// A change that people want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub service: String,
    /// Else it ends, in whatever way.
    pub rings: bool,
    pub text: String,
}

impl Alarms {
    /// An alarm whose section has not changed goes on; any other begins quiet.
    pub fn follow(&mut self, rules: &BTreeMap<String, Alarm>, now: Moment) -> Vec<News> {
        let mut news = Vec::new();
        self.0.retain(|name, watch| {
            let stays = rules.get(name) == Some(&watch.rule);
            if !stays && watch.bell.state() != State::Quiet {
                news.push(watch.news(name, false, "has ended: its section has changed"));
            }
            stays
        });
        for (name, rule) in rules {
            self.0
                .entry(name.clone())
                .or_insert_with(|| Watch::new(rule.clone(), now));
        }
        news
    }

    /// What is known of each backend that an alarm watches, by its metric.
    pub fn read(&mut self, values: impl Fn(&Alarm) -> BTreeMap<BackendId, u64>, now: Moment) -> Vec<News> {
        let mut news = Vec::new();
        for (name, watch) in &mut self.0 {
            let values = values(&watch.rule);
            let points = watch.meter.read(&values, now.monotonic);
            news.extend(watch.hear(name, points, now));
        }
        news
    }

    /// When the deadline has passed.
    pub fn pass(&mut self, now: Moment) -> Vec<News> {
        let mut news = Vec::new();
        for (name, watch) in &mut self.0 {
            let points = watch.meter.pass(now.monotonic);
            news.extend(watch.hear(name, points, now));
            news.extend(watch.step_back(name, now));
        }
        news
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self
            .0
            .values()
            .flat_map(|watch| [watch.meter.deadline(), watch.next_step()]);
        deadlines.flatten().min()
    }

    /// Who decides over the weights of a service. Of several that ring it is the first: what it shifts may well be
    /// what makes the next one ring, and they would push the load to and fro. One without weights only tells.
    pub fn decides(&self, service: &str) -> Option<(&str, &Watch)> {
        let of_it = self.iter().filter(|(_, watch)| watch.rule.service == service);
        let of_it = of_it.filter(|(_, watch)| !watch.rule.weights.is_empty());
        of_it
            .filter(|(_, watch)| watch.bell.state() != State::Quiet)
            .min_by_key(|(name, watch)| (watch.bell.state(), watch.since.monotonic, *name))
    }

    pub fn shift(&self, service: &str) -> Option<Shift<'_>> {
        let (alarm, watch) = self.decides(service)?;
        Some(Shift {
            alarm,
            weights: &watch.rule.weights,
            back: watch.back,
            steps: watch.steps(),
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Watch)> {
        self.0.iter().map(|(name, watch)| (name.as_str(), watch))
    }
}

impl Watch {
    fn new(rule: Alarm, now: Moment) -> Self {
        let kind = match rule.metric {
            Metric::ActiveFlows => Kind::Level,
            Metric::NewFlows | Metric::Packets | Metric::Bytes => Kind::Counter,
        };
        Self {
            meter: Meter::new(kind, rule.period),
            bell: Bell::default(),
            since: now,
            back: 0,
            rule,
        }
    }

    fn hear(&mut self, name: &str, points: Vec<Option<f64>>, now: Moment) -> Vec<News> {
        let turns = points.into_iter().filter_map(|point| {
            let turn = self.bell.hear(point, &self.rule, now.monotonic)?;
            // Before the next one is heard: what is told is how it stands.
            Some(self.turned(name, turn, now))
        });
        turns.collect()
    }

    fn step_back(&mut self, name: &str, now: Moment) -> Option<News> {
        while self.back < self.steps() && self.next_step().is_some_and(|at| at <= now.monotonic) {
            self.back += 1;
        }
        (self.back > 0 && self.back == self.steps()).then(|| {
            self.bell.be_quiet();
            self.turned(name, Turn::Quiet, now)
        })
    }

    fn turned(&mut self, name: &str, turn: Turn, now: Moment) -> News {
        let for_seconds = now.monotonic.saturating_duration_since(self.since.monotonic).as_secs();
        self.since = now;
        self.back = u16::from(turn == Turn::Over);
        let rule = &self.rule;
        let text = match turn {
            Turn::Rings => {
                let (over, of, period) = (self.bell.over(), rule.datapoints.of, rule.period);
                let (last, hold) = (self.last(), self.bell.hold(rule));
                format!(
                    "rings: {self} in {over} of {of} periods of {period:?}, {last}; over after {hold:?} without one"
                )
            }
            Turn::Over => format!(
                "is over after {for_seconds}s; its weights give way over {:?}",
                rule.ramp
            ),
            Turn::Quiet => "is quiet again".to_owned(),
        };
        self.news(name, turn == Turn::Rings, &text)
    }

    fn news(&self, name: &str, rings: bool, text: &str) -> News {
        News {
            service: self.rule.service.clone(),
            rings,
            text: format!("alarm {name:?} {text}"),
        }
    }

    /// `last 612.0/s`.
    pub fn last(&self) -> String {
        let per_second = if self.is_rate() { "/s" } else { "" };
        match self.bell.last() {
            Some(value) => format!("last {value:.1}{per_second}"),
            None => "no data".to_owned(),
        }
    }

    fn is_rate(&self) -> bool {
        self.rule.metric != Metric::ActiveFlows
    }

    fn next_step(&self) -> Option<Instant> {
        let step = self.rule.ramp / u32::from(self.steps());
        (self.back > 0).then(|| self.since.monotonic + step * u32::from(self.back))
    }

    /// Of the way back.
    fn steps(&self) -> u16 {
        let most = self.rule.ramp.as_nanos() / SHORTEST_STEP.as_nanos();
        u16::try_from(most).map_or(MOST_STEPS, |steps| steps.clamp(1, MOST_STEPS))
    }
}

/// `new_flows of web/rack above 500/s`.
impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Alarm {
            service, metric, above, ..
        } = &self.rule;
        let backend = self.rule.backend.as_ref().map(|backend| format!("/{backend}"));
        let per_second = if self.is_rate() { "/s" } else { "" };
        let metric = word(*metric);
        write!(
            f,
            "{metric} of {service}{} above {}{per_second}",
            backend.unwrap_or_default(),
            above.0
        )
    }
}

/// As the file has it.
pub const fn word(metric: Metric) -> &'static str {
    match metric {
        Metric::NewFlows => "new_flows",
        Metric::ActiveFlows => "active_flows",
        Metric::Packets => "packets",
        Metric::Bytes => "bytes",
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::core::config::parse;

    const FILE: &str = r#"
[service.web]
listen = "198.18.0.100:80"
backends = ["198.18.1.11:80", "198.18.1.12:80"]
[alarm.a]
service = "web"
metric = "new_flows"
above = 100
datapoints = "1 of 3"
period = "10s"
clear_after = "20s"
weights = {}
"#;

    /// As after the machine's sleep: the first period is that in which it fell asleep.
    #[test]
    fn of_several_data_points_at_once_each_is_told_as_it_is_heard() {
        let start = Instant::now();
        let at = |seconds| Moment {
            monotonic: start + Duration::from_secs(seconds),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        };
        let rules = parse("naru.toml", FILE).unwrap().config.alarms;
        let mut alarms = Alarms::default();
        alarms.follow(&rules, at(0));
        for seconds in 0..9 {
            assert_eq!(alarms.read(|_| BTreeMap::from([(1, 200 * seconds)]), at(seconds)), []);
        }
        let news: Vec<String> = alarms.pass(at(60)).into_iter().map(|news| news.text).collect();
        assert_eq!(
            news,
            [
                "alarm \"a\" rings: new_flows of web above 100/s in 1 of 3 periods of 10s, last 200.0/s; over after 20s \
                 without one",
                "alarm \"a\" is over after 0s; its weights give way over 30s",
            ]
        );
    }
}
