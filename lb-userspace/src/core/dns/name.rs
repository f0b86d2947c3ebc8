//! One name: which of the records it was said to have are followed, as backends or, those of SRV, as names of backends.
//!
//! - A record that is in an answer is followed at once. One that is missing goes as soon as those in the answer can
//!   serve, `HANDOVER` later at the latest: a name that moves leaves no moment without a backend.
//! - A name may show its records in turns, a part at a time. Once some have come back three times, one that is missing
//!   stays for a minute, or for twenty answers.
//! - A rank is as the last answer has it.
//! - When it is asked about is for `schedule`.
//! - That there is nothing is believed after `EMPTY` answers and `EMPTY_FOR`, also where another name of a search has
//!   something. A failure says nothing at all.

mod schedule;
mod standing;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use self::schedule::Schedule;
use super::told::Told;
use super::{Answer, Family, Found, Last, Nothing, Question, Rank, Record, Set, Wanted};
use crate::core::config::Dns;
use crate::core::world::Moment;

/// How long a record goes on while those in its place have not been judged.
const HANDOVER: Duration = Duration::from_millis(300);
/// Records that came back so often within the memory come in turns.
const RETURNS: usize = 3;
const MEMORY: Duration = Duration::from_secs(60);
const MEMORY_ANSWERS: u32 = 20;
const EMPTY: u32 = 3;
const EMPTY_FOR: Duration = Duration::from_secs(10);
/// Each is a backend with an id and checks of its own.
pub const MAX_RECORDS: usize = 256;

#[derive(Debug)]
pub struct Name {
    host: String,
    family: Family,
    wanted: Wanted,
    members: BTreeMap<Record, Member>,
    last: Option<Last>,
    /// The absolute name that leads, of those searched.
    found_as: Option<String>,
    /// When it was answered with records, maybe before this start.
    answered_at: Option<SystemTime>,
    before: Option<(Vec<Record>, SystemTime)>,
    /// When those that are members no more were last in an answer.
    gone: BTreeMap<Record, Instant>,
    /// When records came back that had been missing.
    returns: VecDeque<Instant>,
    schedule: Schedule,
    /// When trouble began or ended.
    since: SystemTime,
    answered: bool,
    empty: Option<Empty>,
    failure: Option<String>,
    /// Records that there was no room for.
    left_out: usize,
}

#[derive(Debug)]
struct Member {
    rank: Rank,
    /// When it was last in an answer.
    seen: Instant,
    /// From the last answer.
    missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    leaves: Instant,
    /// It goes before when those in the answer can serve.
    replaced: bool,
}

#[derive(Clone, Copy, Debug)]
struct Empty {
    what: Nothing,
    since: Instant,
    answers: u32,
}

impl Name {
    pub fn new(question: &Question, now: Moment) -> Self {
        Self {
            host: question.host.clone(),
            family: question.family,
            wanted: question.wanted,
            members: BTreeMap::new(),
            last: None,
            found_as: None,
            answered_at: None,
            before: None,
            gone: BTreeMap::new(),
            returns: VecDeque::new(),
            schedule: Schedule::new(&question.host, now.monotonic),
            since: now.wall,
            answered: false,
            empty: None,
            failure: None,
            left_out: 0,
        }
    }

    /// It leads where it did before this start, until there is an answer.
    pub fn recall(&mut self, set: Set, now: Moment) -> Told {
        let mut told = Told::default();
        let named = self.within_bounds(set.records);
        self.answered_at = Some(set.at);
        self.found_as = set.found_as;
        self.take(&named, Duration::ZERO, now.monotonic, &mut told);
        told.texts
            .iter_mut()
            .for_each(|text| text.push_str(", as before this start"));
        told
    }

    /// When it is asked about next.
    pub fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let missing = self.members.values().filter_map(|member| member.missing);
        missing.map(|missing| missing.leaves).chain(self.schedule.next()).min()
    }

    pub fn records(&self) -> impl Iterator<Item = (&Record, Rank)> {
        self.members.iter().map(|(record, member)| (record, member.rank))
    }

    /// Those in the last answer.
    pub fn named(&self) -> impl Iterator<Item = (&Record, Rank)> {
        let named = self.members.iter().filter(|(_, member)| member.missing.is_none());
        named.map(|(record, member)| (record, member.rank))
    }

    /// What is another answer than the last.
    fn remember(&mut self, named: &BTreeMap<Record, Rank>, now: SystemTime) {
        let before: Vec<Record> = self.named().map(|(record, _)| record.clone()).collect();
        if !before.is_empty() && !before.iter().eq(named.keys()) {
            self.before = Some((before, now));
        }
    }

    pub fn found_as(&self) -> Option<&str> {
        self.found_as.as_deref()
    }

    pub fn is_undecided(&self) -> bool {
        !self.answered
    }

    pub fn answered(&mut self, answer: Answer, dns: &Dns, now: Moment) -> Told {
        let was = self.answered.then(|| self.trouble().is_some());
        self.answered = true;
        let mut told = self.learn(answer, dns, now);
        let trouble = self.trouble();
        if was != Some(trouble.is_some()) {
            self.since = now.wall;
            let back = was.map(|_| "is resolved again".to_owned());
            told.texts.extend(trouble.or(back));
        }
        told
    }

    fn learn(&mut self, answer: Answer, dns: &Dns, now: Moment) -> Told {
        let mut told = Told::default();
        let answer = self.not_yet_instead(answer, now.monotonic);
        let wait = match answer {
            Answer::Found(found) => match self.within_bounds(found.records) {
                named if named.is_empty() => {
                    self.failure = Some(match self.wanted {
                        Wanted::Addresses => "none of its addresses can be that of a backend".to_owned(),
                        Wanted::Targets => "none of its targets can be a backend".to_owned(),
                    });
                    dns.min_ttl
                }
                named => {
                    (self.failure, self.empty) = (None, None);
                    let wait = found.ttl.clamp(dns.min_ttl, dns.max_ttl);
                    self.remember(&named, now.wall);
                    self.last = Some(Last {
                        at: now.monotonic,
                        ttl: found.ttl,
                        server: found.server,
                        authoritative: found.authoritative,
                    });
                    self.be(found.name, &mut told);
                    self.answered_at = Some(now.wall);
                    self.take(&named, wait, now.monotonic, &mut told);
                    wait
                }
            },
            Answer::Nothing(what, ttl) => {
                self.failure = None;
                self.believe(what, now.monotonic, &mut told);
                match self.members.is_empty() {
                    true => ttl.clamp(dns.min_ttl, dns.max_ttl),
                    false => dns.min_ttl,
                }
            }
            Answer::Failed(why) => {
                self.failure = Some(why);
                dns.min_ttl
            }
        };
        self.schedule.answered(wait, dns.min_ttl, now.monotonic);
        told
    }

    /// While it is not believed that the one has nothing that led before, another of a search does not take its place.
    fn not_yet_instead(&self, answer: Answer, now: Instant) -> Answer {
        match answer {
            Answer::Found(Found {
                instead_of: Some(what),
                ttl,
                ..
            }) if !self.members.is_empty() && !self.is_empty_once_more(now) => Answer::Nothing(what, ttl),
            answer => answer,
        }
    }

    fn be(&mut self, name: String, told: &mut Told) {
        let before = self.found_as.as_ref().unwrap_or(&self.host);
        if *before != name {
            told.texts.push(format!("stands for {name} from now on"));
        }
        self.found_as = Some(name);
    }

    /// Lets those go whose time is over. A name that moves leaves its old records when the new ones are ready.
    pub fn let_go(&mut self, ready: bool, now: Instant) -> Told {
        let goes = |missing: Missing| missing.leaves <= now || missing.replaced && ready;
        let mut left = Vec::new();
        self.members.retain(|record, member| {
            let stays = !member.missing.is_some_and(goes);
            if !stays {
                left.push(record.clone());
                self.gone.insert(record.clone(), member.seen);
            }
            stays
        });
        let mut told = Told::default();
        told.left(&left);
        told
    }

    /// Some leave as soon as those in the last answer serve.
    pub fn is_moving(&self) -> bool {
        let mut missing = self.members.values().filter_map(|member| member.missing);
        missing.any(|missing| missing.replaced)
    }

    /// Those that can be followed, and no more than there is room for: rather those that are followed already.
    fn within_bounds(&mut self, records: Vec<(Record, Rank)>) -> BTreeMap<Record, Rank> {
        let mut named: BTreeMap<Record, Rank> = BTreeMap::new();
        for (record, rank) in records.into_iter().filter(|(record, _)| record.can_serve(self.family)) {
            let known = named.entry(record).or_insert(rank);
            *known = known.better(rank);
        }
        let is_known = |(record, _): &(Record, Rank)| self.members.contains_key(record);
        let (known, new): (Vec<_>, Vec<_>) = named.into_iter().partition(is_known);
        let room = MAX_RECORDS.saturating_sub(self.members.len());
        self.left_out = new.len().saturating_sub(room);
        known.into_iter().chain(new.into_iter().take(room)).collect()
    }

    fn take(&mut self, named: &BTreeMap<Record, Rank>, wait: Duration, now: Instant, told: &mut Told) {
        let memory = MEMORY.max(wait * MEMORY_ANSWERS);
        let in_turns = self.remember_returns(named, memory, now);
        for (record, member) in &mut self.members {
            member.missing = match (named.contains_key(record), member.missing) {
                (true, _) => None,
                (false, Some(before)) if before.replaced && !in_turns => Some(before),
                (false, _) => Some(Missing {
                    leaves: if in_turns { member.seen + memory } else { now + HANDOVER },
                    replaced: !in_turns,
                }),
            };
        }
        let mut new = Vec::new();
        for (record, &rank) in named {
            self.gone.remove(record);
            let member = Member {
                rank,
                seen: now,
                missing: None,
            };
            match self.members.insert(record.clone(), member) {
                None => new.push(record.clone()),
                Some(before) if before.rank != rank => told.ranked(record, rank),
                Some(_) => {}
            }
        }
        told.joined(&new);
    }

    /// Whether the name shows its records in turns.
    fn remember_returns(&mut self, named: &BTreeMap<Record, Rank>, memory: Duration, now: Instant) -> bool {
        self.gone.retain(|_, seen| now < *seen + memory);
        self.returns.retain(|at| now < *at + memory);
        let is_back = |record: &Record| match self.members.get(record) {
            Some(member) => member.missing.is_some(),
            None => self.gone.contains_key(record),
        };
        if named.keys().any(is_back) {
            self.returns.push_back(now);
        }
        // More than enough are no better.
        if self.returns.len() > RETURNS {
            self.returns.pop_front();
        }
        self.returns.len() == RETURNS
    }

    /// Whether one more answer that there is nothing is believed.
    fn is_empty_once_more(&self, now: Instant) -> bool {
        let empty = self.empty.as_ref();
        empty.is_some_and(|empty| empty.answers >= EMPTY - 1 && now >= empty.since + EMPTY_FOR)
    }

    fn believe(&mut self, what: Nothing, now: Instant, told: &mut Told) {
        let believed = self.is_empty_once_more(now);
        let empty = self.empty.get_or_insert(Empty {
            what,
            since: now,
            answers: 0,
        });
        empty.what = what;
        empty.answers = empty.answers.saturating_add(1);
        if believed {
            let left = std::mem::take(&mut self.members);
            told.left(&left.keys().cloned().collect::<Vec<_>>());
            self.gone
                .extend(left.into_iter().map(|(record, member)| (record, member.seen)));
        }
    }
}
