//! Name servers as scenarios have them: each name has its answer, at once; who is not named meets silence.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_userspace::core::dns::{Answer, Family, Found, Nothing, Question, Rank, Record, Target, Wanted};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 53)), 53);
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Names {
    answers: BTreeMap<String, Answer>,
    /// By the time they arrive.
    under_way: BTreeMap<(Duration, Question), Answer>,
}

impl Names {
    /// Whether the command was one about names.
    pub fn change(&mut self, command: &str) -> Result<bool> {
        let Some((name, answer)) = command.strip_prefix("name ").and_then(|rest| rest.split_once(' ')) else {
            return Ok(false);
        };
        match read(answer)? {
            Some(answer) => drop(self.answers.insert(name.to_owned(), answer)),
            None => drop(self.answers.remove(name)),
        }
        Ok(true)
    }

    pub fn ask(&mut self, question: Question, now: Duration) {
        let (latency, answer) = match self.answers.get(&question.host) {
            Some(answer) => (Duration::ZERO, for_question(answer, &question)),
            None => (SILENCE, Answer::Failed("no answer in time".to_owned())),
        };
        self.under_way.insert((now + latency, question), answer);
    }

    /// When the next answer arrives.
    pub fn next(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn take(&mut self) -> Option<(Question, Answer)> {
        let ((_, question), answer) = self.under_way.pop_first()?;
        Some((question, answer))
    }

    /// After a crash nobody waits for them.
    pub fn forget(&mut self) {
        self.under_way.clear();
    }
}

/// A name may have records of many kinds; a server gives those it is asked for.
fn for_question(answer: &Answer, question: &Question) -> Answer {
    let Answer::Found(found) = answer else {
        return answer.clone();
    };
    let mut found = found.clone();
    found.name.clone_from(&question.host);
    found.records.retain(|(record, _)| match record {
        Record::Address(address) => question.wanted == Wanted::Addresses && Family::of(*address) == question.family,
        Record::Target(_) => question.wanted == Wanted::Targets,
    });
    match (found.records.is_empty(), question.wanted) {
        (true, Wanted::Addresses) => Answer::Nothing(Nothing::NoAddress, found.ttl),
        (true, Wanted::Targets) => Answer::Nothing(Nothing::NoTarget, found.ttl),
        (false, _) => Answer::Found(found),
    }
}

/// `198.18.1.11`, or `HOST:PORT@PRIORITY/WEIGHT`.
fn record(text: &str) -> Result<(Record, Rank)> {
    let Some((place, rank)) = text.split_once('@') else {
        let address = text.parse().context("read an address")?;
        return Ok((Record::Address(address), Rank::default()));
    };
    let (host, port) = place.rsplit_once(':').context("a target is HOST:PORT")?;
    let (priority, weight) = rank.split_once('/').context("a rank is PRIORITY/WEIGHT")?;
    let target = Target {
        host: host.to_owned(),
        port: port.parse()?,
    };
    let rank = Rank {
        priority: priority.parse()?,
        weight: weight.parse()?,
    };
    Ok((Record::Target(target), rank))
}

fn found(records: &[&str], seconds: &str, authoritative: bool) -> Result<Answer> {
    let seconds = seconds.strip_suffix('s').context("a life ends in s")?.parse()?;
    Ok(Answer::Found(Found {
        records: records.iter().map(|text| record(text)).collect::<Result<_>>()?,
        ttl: Duration::from_secs(seconds),
        server: SERVER,
        authoritative,
        name: String::new(),
        instead_of: None,
    }))
}

/// None: silence.
fn read(answer: &str) -> Result<Option<Answer>> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    Ok(Some(match words[..] {
        ["is", ref records @ .., "for", seconds, "passed", "on"] => found(records, seconds, false)?,
        ["is", ref records @ .., "for", seconds] => found(records, seconds, true)?,
        ["does", "not", "exist"] => Answer::Nothing(Nothing::NoName, Duration::from_secs(5)),
        ["fails:", why] => Answer::Failed(why.to_owned()),
        ["meets", "silence"] => return Ok(None),
        ["is", "not", "offered"] => Answer::Nothing(Nothing::NotOffered, Duration::from_secs(5)),
        _ => {
            bail!("a name is RECORD… for N s [passed on], does not exist, is not offered, fails: WHY, or meets silence")
        }
    }))
}
