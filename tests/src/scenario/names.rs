//! Name servers as scenarios have them: each name has its answer, at once; who is not named meets silence.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_userspace::core::dns::{Answer, Family, Found, Nothing, Question};

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
            Some(answer) => (Duration::ZERO, of_family(answer, question.family)),
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

/// A name may have addresses of both families; a server gives those it is asked for.
fn of_family(answer: &Answer, family: Family) -> Answer {
    let Answer::Found(found) = answer else {
        return answer.clone();
    };
    let mut found = found.clone();
    found.addresses.retain(|address| Family::of(*address) == family);
    match found.addresses.is_empty() {
        true => Answer::Nothing(Nothing::NoAddress, found.ttl),
        false => Answer::Found(found),
    }
}

/// None: silence.
fn read(answer: &str) -> Result<Option<Answer>> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    Ok(Some(match words[..] {
        ["is", ref addresses @ .., "for", seconds] => {
            let seconds = seconds.strip_suffix('s').context("a life ends in s")?.parse()?;
            let addresses = addresses.iter().map(|text| text.parse().context("read an address"));
            Answer::Found(Found {
                addresses: addresses.collect::<Result<_>>()?,
                ttl: Duration::from_secs(seconds),
                server: SERVER,
            })
        }
        ["does", "not", "exist"] => Answer::Nothing(Nothing::NoName, Duration::from_secs(5)),
        ["fails:", why] => Answer::Failed(why.to_owned()),
        ["meets", "silence"] => return Ok(None),
        _ => bail!("a name is ADDRESS… for N s, does not exist, fails: WHY, or meets silence"),
    }))
}
