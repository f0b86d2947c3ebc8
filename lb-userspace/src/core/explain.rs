//! The documents of `naru explain` and `naru events`: why a backend is as it is, and what has changed.
//!
//! Their fields may be added to, never renamed. Built from what is known; never asks anybody. What people read of
//! them is in `tests/it/scenarios/explain.scn`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use lb_common::abi::BackendId;
use serde::{Deserialize, Serialize};

use super::alarm::News;
use super::condition::{Condition, State};
use super::config::{Backend, Check};
use super::health::judge::{Judge, Record};
use super::health::observation::{Outcome, Phase};
use super::journal::{Entry, What};
use super::members::{Member, Name};
use super::overrides::Override;
use super::timestamp::{rfc3339, rfc3339_millis};
use super::world::World;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub service: String,
    pub backend: String,
    /// `host:port`, or the name of its SRV records, where it has one.
    pub host: Option<String>,
    /// Of one that is unresolved, the same.
    pub address: String,
    pub state: State,
    pub reason: String,
    pub since: String,
    /// Why its name leads here still, though it is down.
    pub stays: Option<String>,
    /// As the file, an alarm or an operator has it.
    pub weight: u16,
    pub effective_weight: u16,
    /// What operators said: `drain by root since …`.
    pub overrides: Vec<String>,
    /// Null: it is not checked, and taken as up.
    pub check: Option<String>,
    pub usual_latency_ms: Option<f64>,
    /// The last ten, oldest first.
    pub results: Vec<CheckResult>,
    /// Of this backend, oldest first.
    pub events: Vec<Event>,
    /// The other addresses of its name, each in the same way.
    pub others: Vec<Self>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub at: String,
    /// `up`, `standby` or `failed`.
    pub outcome: String,
    pub phase: Phase,
    /// Such as `errno 111`, `status 503`.
    pub code: Option<String>,
    pub latency_ms: f64,
    /// All of it in a sentence.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: String,
    /// Null: the node as a whole.
    pub service: Option<String>,
    /// Null: the service, or the node, as a whole.
    pub backend: Option<String>,
    /// Which of the addresses of a name; else null.
    pub address: Option<String>,
    /// Null: it was new, or its state has not changed.
    pub from: Option<State>,
    /// Null: no state has changed.
    pub to: Option<State>,
    pub reason: String,
}

/// None: it is not in the file, or the network is not known yet.
pub fn explain(world: &World, name: &Name) -> Option<Explanation> {
    let (applied, _) = world.settled()?;
    let config = &applied.file.config;
    let file = config.backend(name)?;
    let members = world.members().backends.iter();
    let of_it = members.filter(|(_, member)| member.name.as_ref() == Some(name) && member.leaving.is_none());
    let mut explained = of_it.filter_map(|(id, member)| {
        let condition = world.conditions().get(id)?;
        Some(of_address(world, name, file, (*id, member), condition))
    });
    let Some(first) = explained.next() else {
        return unresolved(world, name, file);
    };
    Some(Explanation {
        others: explained.collect(),
        ..first
    })
}

fn of_address(
    world: &World,
    name: &Name,
    file: &Backend,
    (id, member): (BackendId, &Member),
    condition: &Condition,
) -> Explanation {
    let judge = world.judge(id);
    Explanation {
        address: member.address.to_string(),
        state: condition.state,
        reason: condition.reason.clone(),
        since: rfc3339(condition.since.wall),
        stays: world.held(id),
        weight: condition.weight,
        effective_weight: condition.effective_weight,
        check: world.target(id).map(|target| told(&target.check)),
        usual_latency_ms: judge
            .map(Judge::usual_latency)
            .filter(|usual| !usual.is_zero())
            .map(millis),
        results: judge
            .map(|judge| judge.records().map(result).collect())
            .unwrap_or_default(),
        events: history(world, name, Some(member.address)),
        ..of_name(world, name, file)
    }
}

/// Nobody knows an address of its name.
fn unresolved(world: &World, name: &Name, file: &Backend) -> Option<Explanation> {
    let trouble = world.names().trouble(&world.question_of(name)?);
    let (reason, since) = trouble.map_or_else(Default::default, |(why, since)| (why, rfc3339(since)));
    Some(Explanation {
        reason,
        since,
        events: history(world, name, None),
        ..of_name(world, name, file)
    })
}

/// What holds for the name, whatever its addresses.
fn of_name(world: &World, name: &Name, file: &Backend) -> Explanation {
    let overrides = world.overrides().get(name).into_iter();
    Explanation {
        service: name.service.clone(),
        backend: name.backend.clone(),
        host: file.place.name(),
        address: file.place.to_string(),
        state: State::Unresolved,
        reason: String::new(),
        since: String::new(),
        stays: None,
        weight: file.weight,
        effective_weight: 0,
        overrides: overrides.flat_map(Override::sentences).collect(),
        check: None,
        usual_latency_ms: None,
        results: Vec::new(),
        events: Vec::new(),
        others: Vec::new(),
    }
}

/// What became of a backend, and not of another address of its name.
fn history(world: &World, name: &Name, address: Option<SocketAddr>) -> Vec<Event> {
    let own = |entry: &&Entry| {
        let other = match &entry.what {
            What::Backend { address: of, .. } => address.zip(*of).is_some_and(|(address, of)| address != of),
            What::Override { .. }
            | What::Resolved { .. }
            | What::Alarm(_)
            | What::Shared { .. }
            | What::Node(_)
            | What::File { .. } => false,
        };
        entry.what.backend() == Some(name) && !other
    };
    world.journal().entries().filter(own).map(event).collect()
}

/// Oldest first.
pub fn events(world: &World) -> Vec<Event> {
    world.journal().entries().map(event).collect()
}

fn event(Entry { at, what }: &Entry) -> Event {
    let name = what.backend();
    let told = |text: &str| Event {
        at: rfc3339_millis(*at),
        service: name.map(|name| name.service.clone()),
        backend: name.map(|name| name.backend.clone()),
        address: None,
        from: None,
        to: None,
        reason: text.to_owned(),
    };
    match what {
        What::Backend {
            address,
            from,
            to,
            reason,
            ..
        } => Event {
            address: address.map(|address| address.to_string()),
            from: *from,
            to: Some(*to),
            ..told(reason)
        },
        What::Override { text, .. } | What::Resolved { text, .. } | What::Node(text) => told(text),
        What::Shared { instance, text, .. } => told(&format!("vrrp {instance}: {text}")),
        What::Alarm(News { service, text, .. }) | What::File { service, text } => Event {
            service: Some(service.clone()),
            ..told(text)
        },
    }
}

fn told(check: &Check) -> String {
    let Check {
        ask,
        every,
        timeout,
        connect_timeout,
        fall,
        rise,
        ..
    } = check;
    let connect = match connect_timeout == timeout {
        true => String::new(),
        false => format!(" ({connect_timeout:?} to connect)"),
    };
    format!("{ask}, every {every:?}, timeout {timeout:?}{connect}, fall {fall}, rise {rise}")
}

fn result(Record { at, observation }: &Record) -> CheckResult {
    let (outcome, code) = match &observation.outcome {
        Outcome::Up(_) => ("up", None),
        Outcome::Standby(..) => ("standby", None),
        Outcome::Failed(failure) => ("failed", failure.code.as_ref().map(ToString::to_string)),
    };
    CheckResult {
        at: rfc3339_millis(*at),
        outcome: outcome.to_owned(),
        phase: observation.phase,
        code,
        latency_ms: millis(observation.latency),
        text: observation.to_string(),
    }
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// For people, the verdict first; each address of a name for itself.
pub fn render(explained: &Explanation) -> String {
    let all = std::iter::once(explained).chain(&explained.others);
    all.map(render_address).collect::<Vec<_>>().join("\n\n")
}

fn render_address(explained: &Explanation) -> String {
    let Explanation {
        service,
        backend,
        address,
        ..
    } = explained;
    let state = explained.state.word();
    let mut text = format!("{service}/{backend} at {address} is {state} since {}", explained.since);
    let mut line = |key: &str, value: &str| {
        let _infallible = write!(text, "\n  {key:<8} {value}");
    };
    if let Some(host) = &explained.host {
        line("name", host);
    }
    if !explained.reason.is_empty() {
        line("reason", &explained.reason);
    }
    if let Some(why) = &explained.stays {
        line("stays", why);
    }
    line(
        "weight",
        &format!("{} of {}", explained.effective_weight, explained.weight),
    );
    for said in &explained.overrides {
        line("override", said);
    }
    match (&explained.check, explained.state) {
        (Some(check), _) => line("check", check),
        (None, State::Unresolved) => {}
        (None, _) => line("check", "none: it is taken as up"),
    }
    if let Some(usual) = explained.usual_latency_ms {
        line("answers", &format!("in {usual:.1} ms, usually"));
    }
    if !explained.results.is_empty() {
        text.push_str("\n\nLast checks:");
        for result in &explained.results {
            let CheckResult {
                at,
                latency_ms,
                text: seen,
                ..
            } = result;
            let _infallible = write!(text, "\n  {at}  {latency_ms:>7.1} ms  {seen}");
        }
    }
    if !explained.events.is_empty() {
        text.push_str("\n\nLast changes:");
        for event in explained.events.iter().rev().take(10).rev() {
            let _infallible = write!(text, "\n  {}", render_event(event));
        }
    }
    text
}

/// On a line.
pub fn render_event(event: &Event) -> String {
    let Event { at, reason, .. } = event;
    let Some(service) = &event.service else {
        return format!("{at}  node: {reason}");
    };
    let Some(backend) = &event.backend else {
        return format!("{at}  {service}: {reason}");
    };
    let Some(to) = event.to else {
        return format!("{at}  {service}/{backend}: {reason}");
    };
    let from = event.from.map_or("new", State::word);
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    let address = event.address.as_ref().map(|address| format!(" at {address}"));
    let address = address.unwrap_or_default();
    format!("{at}  {service}/{backend}{address} {from} -> {}{reason}", to.word())
}
