//! Follows the names of backends: which of them are asked about when, and where each leads.
//!
//! `now` and answers go in; questions, memberships and the next deadline come out. `name` is one of them: one with
//! addresses, or one with SRV records, whose targets are then names to follow too. As what else a name is looked for
//! is in `resolv_conf`, and what follows from that in `search`. Never asks anybody: that is for `io::dns`. Tested in
//! `tests.rs` beside it, and by the scenarios `dns_*`.

pub mod document;
mod known;
mod name;
mod question;
mod record;
mod replies;
mod resolv_conf;
mod search;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

pub use self::known::{Known, Set};
pub use self::name::MAX_RECORDS;
use self::name::Name;
pub use self::question::{Answer, Family, Found, Nothing, Question, Wanted};
pub use self::record::{Rank, Record, Target};
pub use self::replies::{Reply, agree};
pub use self::resolv_conf::ResolvConf;
pub use self::search::Search;
use super::config::Dns;
use super::world::Moment;

/// Something that people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub question: Question,
    pub text: String,
}

/// What an answer or time has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Some name leads elsewhere.
    pub members: bool,
    pub news: Vec<News>,
}

/// How a name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Why it leads nowhere, or keeps what it had, or has more than is used. None: all is well.
    pub trouble: Option<String>,
    /// When trouble began or ended.
    pub since: SystemTime,
    /// When it is asked about next; None: just now.
    pub next: Option<Instant>,
    /// The last answer with records, in this daemon's time.
    pub last: Option<Last>,
    /// As what it was found, in whatever search.
    pub found_as: Option<String>,
    /// When there was one, maybe before this start.
    pub answered_at: Option<SystemTime>,
    /// In the last answer, and followed.
    pub records: Vec<(Record, Rank)>,
    /// Followed though they are not in the last answer.
    pub missing: Vec<Record>,
    /// Those that were in the answers before, until a change, and when that was.
    pub before: Option<(Vec<Record>, SystemTime)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub at: Instant,
    pub ttl: Duration,
    pub server: SocketAddr,
    pub authoritative: bool,
}

#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<Question, Name>,
    /// Those that backends have; all others are their targets.
    asked_for: BTreeSet<Question>,
    /// Where names led before this start, until they are followed.
    recalled: Known,
    /// What is to be known after a restart has changed since this was asked.
    unkept: bool,
    kept_at: Option<Instant>,
}

/// How old the age of what is kept may be.
const KEPT_FOR: Duration = Duration::from_secs(60);

impl Change {
    fn add(&mut self, Self { members, news }: Self) {
        self.members |= members;
        self.news.extend(news);
    }
}

impl Names {
    /// What was known before this start: those that will be followed lead there until they are answered.
    pub fn recall(&mut self, known: Known) {
        self.recalled = known;
    }

    /// What is to be known after a restart, if that has changed.
    pub fn to_keep(&mut self, now: Instant) -> Option<Known> {
        let unkept = std::mem::take(&mut self.unkept);
        unkept.then(|| {
            self.kept_at = Some(now);
            self.known()
        })
    }

    pub fn known(&self) -> Known {
        let sets = self.names.iter();
        Known(
            sets.filter_map(|(question, name)| Some((question.clone(), name.set()?)))
                .collect(),
        )
    }

    /// Whom to follow from now on. What is known of those that stay is kept.
    pub fn follow(&mut self, questions: BTreeSet<Question>, now: Moment) -> Change {
        self.asked_for = questions;
        let mut change = self.follow_targets(now);
        // Those of names that were recalled just now.
        change.add(self.follow_targets(now));
        self.recalled = Known::default();
        self.unkept = true;
        change
    }

    fn follow_targets(&mut self, now: Moment) -> Change {
        let mut all = self.asked_for.clone();
        all.extend(self.asked_for.iter().flat_map(|question| self.targets(question)));
        self.names.retain(|question, _| all.contains(question));
        all.retain(|question| !self.names.contains_key(question));
        let mut change = Change::default();
        for question in all {
            let mut name = Name::new(&question, now);
            if let Some(set) = self.recalled.0.remove(&question) {
                change.add(name.recall(set, now).of(&question));
            }
            self.names.insert(question, name);
        }
        change
    }

    /// Questions to ask now; each is to be answered, if only by a failure.
    pub fn due(&mut self, now: Instant) -> Vec<Question> {
        let due = self.names.iter_mut().filter_map(|(question, name)| {
            let is_due = name.schedule().ask(now);
            is_due.then(|| question.clone())
        });
        due.collect()
    }

    /// There are others to ask.
    pub fn ask_anew(&mut self, now: Instant) {
        self.names.values_mut().for_each(|name| name.schedule().ask_anew(now));
    }

    pub fn answered(&mut self, question: &Question, answer: Answer, dns: &Dns, now: Moment) -> Change {
        // Else nobody wants to know any more.
        let Some(name) = self.names.get_mut(question) else {
            return Change::default();
        };
        let mut change = name.answered(answer, dns, now).of(question);
        let kept_long_ago = self.kept_at.is_none_or(|at| now.monotonic >= at + KEPT_FOR);
        self.unkept |= change.members || kept_long_ago;
        if change.members && question.wanted == Wanted::Targets {
            change.add(self.follow_targets(now));
        }
        change
    }

    /// A backend of the name, at this address, may be in trouble.
    pub fn doubt(&mut self, question: &Question, address: IpAddr, now: Instant) {
        for question in self.leading(question, address) {
            if let Some(name) = self.names.get_mut(&question) {
                name.schedule().doubt(now);
            }
        }
    }

    /// Names without which a service has nobody up; their targets are needed as much.
    pub fn need(&mut self, mut needed: BTreeSet<Question>) {
        let targets: Vec<Question> = needed.iter().flat_map(|question| self.targets(question)).collect();
        needed.extend(targets);
        for (question, name) in &mut self.names {
            name.schedule().need(needed.contains(question));
        }
    }

    /// The answer that a server passed on, by which the name leads to the address, and when its life ends.
    pub fn passed_on(&self, question: &Question, address: IpAddr) -> Option<(Last, SystemTime)> {
        let mut leading = self.leading(question, address).into_iter();
        leading.find_map(|question| self.names.get(&question)?.passed_on())
    }

    /// By which names this one leads to the address; itself is the last.
    fn leading(&self, question: &Question, address: IpAddr) -> Vec<Question> {
        let targets = self.targets(question);
        let leading = targets.filter(|target| self.addresses(target).any(|one| one == address));
        leading.chain([question.clone()]).collect()
    }

    /// Records leave whose time is over, and those whose successors need them no more: `is_ready` tells whether what a
    /// record leads to has been judged and serves.
    pub fn let_go(&mut self, is_ready: impl Fn(&Self, &Question, &Record) -> bool, now: Moment) -> Change {
        let moving = self.names.iter().filter(|(_, name)| name.is_moving());
        let ready: BTreeSet<Question> = moving
            .filter(|(question, name)| name.named().all(|(record, _)| is_ready(self, question, record)))
            .map(|(question, _)| question.clone())
            .collect();
        let mut all = Change::default();
        for (question, name) in &mut self.names {
            let change = name.let_go(ready.contains(question), now.monotonic);
            all.add(change.of(question));
        }
        if all.members {
            all.add(self.follow_targets(now));
        }
        all
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.names.values().filter_map(Name::next_deadline).min()
    }

    /// Where the name leads now: to its addresses with this port, or by SRV records, to those of its targets.
    pub fn endpoints(&self, question: &Question, port: Option<u16>) -> Vec<(SocketAddr, Rank)> {
        let mut found: BTreeMap<SocketAddr, Rank> = BTreeMap::new();
        let mut lead = |address, port, rank: Rank| {
            let known = found.entry(SocketAddr::new(address, port)).or_insert(rank);
            *known = known.better(rank);
        };
        for (record, rank) in self.records(question) {
            match (record, port) {
                (Record::Address(address), Some(port)) => lead(*address, port, rank),
                (Record::Address(_), None) => {}
                (Record::Target(target), _) => {
                    let question = question.about(target);
                    self.addresses(&question)
                        .for_each(|address| lead(address, target.port, rank));
                }
            }
        }
        let mut found: Vec<(SocketAddr, Rank)> = found.into_iter().collect();
        found.sort_by_key(|(_, rank)| rank.priority);
        found.truncate(MAX_RECORDS);
        found
    }

    /// The addresses that a name has itself.
    pub fn addresses(&self, question: &Question) -> impl Iterator<Item = IpAddr> {
        self.records(question).filter_map(|(record, _)| record.address())
    }

    /// Of all names.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let records = self.names.values().flat_map(Name::records);
        records.filter_map(|(record, _)| record.address())
    }

    /// The addresses that a record leads to.
    pub fn addresses_behind(&self, question: &Question, record: &Record) -> Vec<IpAddr> {
        match record {
            Record::Address(address) => vec![*address],
            Record::Target(target) => self.addresses(&question.about(target)).collect(),
        }
    }

    pub fn leads_anywhere(&self, question: &Question) -> bool {
        let mut records = self.records(question);
        records.any(|(record, _)| !self.addresses_behind(question, record).is_empty())
    }

    /// Those that backends have, and that this one is asked for.
    pub fn behind(&self, question: &Question) -> Vec<&Question> {
        let asked_for = self.asked_for.iter();
        asked_for
            .filter(|asked_for| *asked_for == question || self.targets(asked_for).any(|target| target == *question))
            .collect()
    }

    /// Whether a first answer is still out.
    pub fn is_undecided(&self) -> bool {
        self.names.values().any(Name::is_undecided)
    }

    /// None: nobody follows it.
    pub fn standing(&self, question: &Question) -> Option<Standing> {
        self.names.get(question).map(Name::standing)
    }

    /// Why the name leads to nobody, and since when: what is wrong with itself, or else with the first of its targets.
    pub fn trouble(&self, question: &Question) -> Option<(String, SystemTime)> {
        let own = self.standing(question)?;
        let of_target = |target: Question| {
            let standing = self.standing(&target)?;
            Some((format!("{}: {}", target.host, standing.trouble?), standing.since))
        };
        match own.trouble {
            Some(trouble) => Some((trouble, own.since)),
            None => self.targets(question).find_map(of_target),
        }
    }

    /// As what the name was found last, in whatever search.
    pub fn found_as(&self, question: &Question) -> Option<&str> {
        self.names.get(question)?.found_as()
    }

    /// How every name stands.
    pub fn iter(&self) -> impl Iterator<Item = (&Question, Standing)> {
        self.names.iter().map(|(question, name)| (question, name.standing()))
    }

    fn records(&self, question: &Question) -> impl Iterator<Item = (&Record, Rank)> {
        self.names.get(question).into_iter().flat_map(Name::records)
    }

    fn targets(&self, question: &Question) -> impl Iterator<Item = Question> {
        let targets = self.records(question).filter_map(|(record, _)| record.target());
        targets.map(|target| question.about(target))
    }
}
