//! The document of `naru dns`: each name that is followed, what is known of it, and when it is asked about next.
//!
//! Its fields may be added to, never renamed. What people read of it is in `tests/it/scenarios/dns_command.scn`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Family, Question, Rank, Record, Standing, Wanted};
use crate::core::timestamp::rfc3339;
use crate::core::world::{Moment, World};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameStatus {
    pub name: String,
    /// `A`, `AAAA` or `SRV`.
    pub record: String,
    /// The backends that have it, as `SERVICE/BACKEND`.
    pub backends: Vec<String>,
    /// Those in the last answer that had some; of SRV `TARGET:PORT (priority N, weight N)`.
    pub addresses: Vec<String>,
    /// Followed still, though the last answer is without them.
    pub missing: Vec<String>,
    /// What is left of the life of that answer; 0: it is over.
    pub ttl_left_seconds: Option<f64>,
    /// Who gave it; null: it is from before this start.
    pub server: Option<String>,
    /// False: that server passes on what others said, maybe a while ago.
    pub authoritative: Option<bool>,
    /// The absolute name that was found, where `name` is searched for.
    pub found_as: Option<String>,
    /// How old it is.
    pub age_seconds: Option<f64>,
    /// What is wrong now.
    pub error: Option<String>,
    /// When that began, or ended.
    pub since: String,
    /// The addresses of the answers before they changed, and when they did.
    pub previous: Vec<String>,
    pub changed_at: Option<String>,
    /// Null: it is being asked about.
    pub next_query_seconds: Option<f64>,
}

pub fn documents(world: &World, now: Moment) -> Vec<NameStatus> {
    let names = world.names().iter();
    let documents = names.map(|(question, standing)| {
        let backends = world.backends_of(question).into_iter();
        let backends = backends.map(|name| format!("{}/{}", name.service, name.backend));
        document(question, backends.collect(), standing, now)
    });
    documents.collect()
}

fn document(question: &Question, backends: Vec<String>, standing: Standing, now: Moment) -> NameStatus {
    let words = |records: &[Record]| records.iter().map(ToString::to_string).collect();
    let seconds = |duration: Duration| (duration.as_secs_f64() * 1000.0).round() / 1000.0;
    let left = |until: Instant| seconds(until.saturating_duration_since(now.monotonic));
    // A clock that was set back makes nothing older.
    let age = |at| seconds(now.wall.duration_since(at).unwrap_or_default());
    let record = match (question.wanted, question.family) {
        (Wanted::Addresses, Family::Ipv4) => "A",
        (Wanted::Addresses, Family::Ipv6) => "AAAA",
        (Wanted::Targets, _) => "SRV",
    };
    NameStatus {
        name: question.host.clone(),
        record: record.to_owned(),
        backends,
        addresses: standing.records.iter().map(ranked).collect(),
        missing: words(&standing.missing),
        ttl_left_seconds: standing.last.map(|last| left(last.at + last.ttl)),
        server: standing.last.map(|last| last.server.to_string()),
        authoritative: standing.last.map(|last| last.authoritative),
        found_as: standing.found_as.filter(|found_as| *found_as != question.host),
        age_seconds: standing.answered_at.map(age),
        error: standing.trouble,
        since: rfc3339(standing.since),
        previous: standing.before.iter().flat_map(|(before, _)| words(before)).collect(),
        changed_at: standing.before.as_ref().map(|(_, at)| rfc3339(*at)),
        next_query_seconds: standing.next.map(left),
    }
}

fn ranked((record, rank): &(Record, Rank)) -> String {
    match record {
        Record::Address(address) => address.to_string(),
        Record::Target(_) => format!("{record} ({rank})"),
    }
}

/// For people.
pub fn render(names: &[NameStatus]) -> String {
    match names {
        [] => "no backend is a name".to_owned(),
        _ => names.iter().map(render_name).collect::<Vec<_>>().join("\n\n"),
    }
}

fn render_name(name: &NameStatus) -> String {
    let list = |addresses: &[String]| match addresses {
        [] => "no record".to_owned(),
        _ => addresses.join(", "),
    };
    let mut text = format!("{} ({}): {}", name.name, name.record, list(&name.addresses));
    let mut line = |key: &str, value: &str| {
        let _infallible = write!(text, "\n  {key:<8} {value}");
    };
    line("backends", &name.backends.join(", "));
    if let Some(found_as) = &name.found_as {
        line("found as", found_as);
    }
    if let Some(age) = name.age_seconds {
        let how = match name.authoritative {
            Some(false) => "passed on by",
            _ => "of",
        };
        let from = name
            .server
            .as_ref()
            .map_or("before this start".to_owned(), |server| format!("{how} {server}"));
        let left = name.ttl_left_seconds.map(|left| format!(", good for {left:.1} s"));
        line("answer", &format!("{from}, {age:.1} s old{}", left.unwrap_or_default()));
    }
    if !name.missing.is_empty() {
        line("missing", &format!("{}, serving for a while yet", list(&name.missing)));
    }
    if let Some(at) = &name.changed_at {
        line("before", &format!("{}, until {at}", list(&name.previous)));
    }
    if let Some(error) = &name.error {
        line("error", &format!("{error}, since {}", name.since));
    }
    match name.next_query_seconds {
        Some(left) => line("next", &format!("asked about in {left:.1} s")),
        None => line("next", "being asked about"),
    }
    text
}
