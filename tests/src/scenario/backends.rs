//! Backends as scenarios have them: each answers its checks in its manner, at once or never.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_userspace::core::health::observation::{Code, Facts, Failure, Observation, Outcome, Phase};
use lb_userspace::core::health::{Launch, Target};

/// Whoever is not named answers well.
#[derive(Default)]
pub struct Backends {
    manners: BTreeMap<SocketAddr, Manner>,
    others: Manner,
    /// By the time they arrive.
    under_way: BTreeMap<(Duration, u64), (Launch, Observation)>,
}

#[derive(Clone, Default)]
enum Manner {
    #[default]
    Answers,
    /// As a primary of this timeline.
    Timeline(u32),
    Refuses,
    Silent,
    Standby(String),
}

impl Backends {
    /// Whether the command was one about backends.
    pub fn change(&mut self, command: &str) -> Result<bool> {
        let Some((who, manner)) = command.strip_prefix("backend ").and_then(|rest| rest.split_once(' ')) else {
            let Some(manner) = command.strip_prefix("every backend ") else {
                return Ok(false);
            };
            self.manners.clear();
            self.others = read(manner)?;
            return Ok(true);
        };
        self.manners
            .insert(who.parse().context("a backend is ADDRESS:PORT")?, read(manner)?);
        Ok(true)
    }

    pub fn ask(&mut self, launch: Launch, target: &Target, now: Duration) {
        let manner = self.manners.get(&target.address).unwrap_or(&self.others);
        let facts = |timeline| Facts {
            timeline,
            ..Facts::default()
        };
        let (outcome, phase, latency) = match manner {
            Manner::Answers => (Outcome::Up(facts(None)), Phase::Connect, Duration::ZERO),
            Manner::Timeline(number) => (Outcome::Up(facts(Some(*number))), Phase::Query, Duration::ZERO),
            Manner::Standby(why) => (Outcome::Standby(why.clone(), facts(None)), Phase::Query, Duration::ZERO),
            Manner::Refuses => {
                let failure = Failure::coded("connection refused", Code::Errno(111));
                (Outcome::Failed(failure), Phase::Connect, Duration::ZERO)
            }
            Manner::Silent => {
                let failure = Failure::new("no answer in time");
                (Outcome::Failed(failure), Phase::Connect, target.check.connect_timeout)
            }
        };
        let observation = Observation {
            outcome,
            phase,
            latency,
        };
        self.under_way
            .insert((now + latency, launch.number), (launch, observation));
    }

    /// When the next answer arrives.
    pub fn next(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|(&(at, _), _)| at)
    }

    pub fn take(&mut self) -> Option<(Launch, Observation)> {
        self.under_way.pop_first().map(|(_, seen)| seen)
    }

    /// After a crash nobody waits for them.
    pub fn forget(&mut self) {
        self.under_way.clear();
    }
}

fn read(manner: &str) -> Result<Manner> {
    Ok(match manner {
        "answers" => Manner::Answers,
        "refuses" => Manner::Refuses,
        "is silent" => Manner::Silent,
        _ => match (
            manner.strip_prefix("is standby: "),
            manner.strip_prefix("answers on timeline "),
        ) {
            (Some(why), _) => Manner::Standby(why.to_owned()),
            (_, Some(timeline)) => Manner::Timeline(timeline.parse()?),
            _ => bail!("a backend answers (on timeline N), refuses, is silent or is standby: WHY"),
        },
    })
}
