//! Follows the names of backends: which of them are asked about when, and which addresses each has.
//!
//! `now` and answers go in; questions, memberships and the next deadline come out. `name` is one of them. Never asks
//! anybody: that is for `io::dns`. Tested in `tests.rs` beside it, and by the scenarios `dns_*`.

pub mod document;
mod name;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use self::name::Name;
pub use self::replies::{Reply, agree};
use super::config::Dns;
use super::world::Moment;

/// What a name server is asked. The families of a name are apart: trouble with one is none of the other's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// In lower case, without a dot at its end.
    pub host: String,
    pub family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found(Found),
    /// There is no such name, or it has no address of this family; for so long.
    Nothing(Nothing, Duration),
    /// Nothing was found out, and why.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The order means nothing.
    pub addresses: Vec<IpAddr>,
    /// The shortest life of all records that led there.
    pub ttl: Duration,
    pub server: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    NoName,
    NoAddress,
}

/// Something that people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub question: Question,
    pub text: String,
}

/// What an answer or time has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Some name has other addresses.
    pub members: bool,
    pub news: Vec<News>,
}

/// How a name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Why it has no address, or keeps those it had, or has more than are used. None: all is well.
    pub trouble: Option<String>,
    /// When trouble began or ended.
    pub since: SystemTime,
    /// When it is asked about next; None: just now.
    pub next: Option<Instant>,
    /// The last answer with addresses.
    pub last: Option<Last>,
    /// In the last answer, and backends.
    pub addresses: Vec<IpAddr>,
    /// Backends though they are not in the last answer.
    pub missing: Vec<IpAddr>,
    /// Those that were in the answers before, until a change, and when that was.
    pub before: Option<(Vec<IpAddr>, SystemTime)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub at: Instant,
    pub ttl: Duration,
    pub server: SocketAddr,
}

#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<Question, Name>,
}

impl Question {
    pub fn new(host: &str, family: Family) -> Self {
        Self {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            family,
        }
    }
}

impl Family {
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "there is no such name",
            Self::NoAddress => "has no address of the service's family",
        })
    }
}

impl Names {
    /// Whom to follow from now on. What is known of those that stay is kept.
    pub fn follow(&mut self, questions: BTreeSet<Question>, now: Moment) {
        self.names.retain(|question, _| questions.contains(question));
        for question in questions {
            let seed = &question;
            self.names
                .entry(question.clone())
                .or_insert_with(|| Name::new(seed, now));
        }
    }

    /// Questions to ask now; each is to be answered, if only by a failure.
    pub fn due(&mut self, now: Instant) -> Vec<Question> {
        let due = self.names.iter_mut().filter_map(|(question, name)| {
            let is_due = name.ask(now);
            is_due.then(|| question.clone())
        });
        due.collect()
    }

    pub fn answered(&mut self, question: &Question, answer: Answer, dns: &Dns, now: Moment) -> Change {
        match self.names.get_mut(question) {
            Some(name) => name.answered(answer, dns, now).of(question),
            // Nobody wants to know any more.
            None => Change::default(),
        }
    }

    /// A backend of the name may be in trouble.
    pub fn doubt(&mut self, question: &Question, now: Instant) {
        if let Some(name) = self.names.get_mut(question) {
            name.doubt(now);
        }
    }

    /// Those leave whose time is over, and those whose successors need them no more: `is_ready` tells of an address whether
    /// it has been judged and serves.
    pub fn let_go(&mut self, is_ready: impl Fn(&Question, IpAddr) -> bool, now: Instant) -> Change {
        let mut all = Change::default();
        for (question, name) in &mut self.names {
            let change = name.let_go(|address| is_ready(question, address), now);
            let Change { members, news } = change.of(question);
            all.members |= members;
            all.news.extend(news);
        }
        all
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.names.values().filter_map(Name::next_deadline).min()
    }

    /// The addresses that are backends now.
    pub fn addresses(&self, question: &Question) -> impl Iterator<Item = IpAddr> {
        self.names.get(question).into_iter().flat_map(Name::addresses)
    }

    /// Whether a first answer is still out.
    pub fn is_undecided(&self) -> bool {
        self.names.values().any(Name::is_undecided)
    }

    /// None: nobody follows it.
    pub fn standing(&self, question: &Question) -> Option<Standing> {
        self.names.get(question).map(Name::standing)
    }

    /// How every name stands.
    pub fn iter(&self) -> impl Iterator<Item = (&Question, Standing)> {
        self.names.iter().map(|(question, name)| (question, name.standing()))
    }
}
