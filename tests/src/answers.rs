//! What holds whatever name servers send: the oracle of a fuzzer, and of its corpus.
//!
//! Bytes become messages in the library; from there on it is the daemon's own way, from a message to where names lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::DnsResponse;
use lb_userspace::core::config::{Dns, is_routed};
use lb_userspace::core::dns::{Answer, Change, Family, MAX_RECORDS, Names, Question, Wanted, agree};
use lb_userspace::core::world::Moment;
use lb_userspace::io::dns::reading::Chain;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 53)), 53);
const DNS: Dns = Dns {
    servers: None,
    min_ttl: Duration::from_secs(1),
    max_ttl: Duration::from_secs(30),
};
/// A tenth less than that is the soonest, where nothing is known of backends in trouble.
const SOONEST: Duration = Duration::from_millis(900);
const PORT: u16 = 8080;

/// Before each message: whom it answers of those that were asked, how long that took, and its length.
const HEAD: usize = 4;

struct Play {
    names: Names,
    begun: Instant,
    clock: Duration,
    /// Not answered yet, each with how far its CNAMEs have led.
    asked: BTreeMap<Question, Chain>,
}

/// Answers questions with the messages of an input; panics where something does not hold.
pub fn hold(input: &[u8]) {
    let mut play = Play::new();
    let mut rest = input;
    while let Some((&[who, ticks, high, low], behind)) = rest.split_first_chunk::<HEAD>() {
        let (message, behind) = behind.split_at(behind.len().min(u16::from_be_bytes([high, low]).into()));
        play.pass(Duration::from_millis(u64::from(ticks) * 40));
        play.answer(who.into(), message);
        rest = behind;
    }
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            names: Names::default(),
            begun: Instant::now(),
            clock: Duration::ZERO,
            asked: BTreeMap::new(),
        };
        let questions = BTreeSet::from([
            Question::new("app.example", Family::Ipv4, Wanted::Addresses),
            Question::new("app.example", Family::Ipv6, Wanted::Addresses),
            Question::new("_http._tcp.app.example", Family::Ipv4, Wanted::Targets),
        ]);
        let now = play.now();
        assert_eq!(play.names.follow(questions, now), Change::default());
        play.ask();
        play
    }

    fn now(&self) -> Moment {
        Moment {
            monotonic: self.begun + self.clock,
            wall: SystemTime::UNIX_EPOCH + self.clock,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clock += time;
        let (ready, now) = (self.clock.as_millis().is_multiple_of(80), self.now());
        self.names.let_go(|_, _, _| ready, now);
        self.ask();
    }

    fn ask(&mut self) {
        for question in self.names.due(self.now().monotonic) {
            let chain = Chain::new(&question).expect("what is followed can be asked about");
            self.asked.insert(question, chain);
        }
    }

    fn answer(&mut self, who: usize, message: &[u8]) {
        let Some(question) = self.asked.keys().nth(who % self.asked.len().max(1)).cloned() else {
            return;
        };
        let mut chain = self.asked.remove(&question).expect("it was just found");
        let Some(reply) = chain.read(SERVER, message_of(message)) else {
            // Its end is asked about, and has come nearer.
            self.asked.insert(question, chain);
            return;
        };
        let answer = agree(vec![(SERVER, reply)]);
        let failed = matches!(answer, Answer::Failed(_));
        let before = self.leads(&question);
        let now = self.now();
        let change = self.names.answered(&question, answer, &DNS, now);
        if failed {
            assert_eq!(self.leads(&question), before, "a failure takes nothing away");
            assert!(!change.members);
        }
        if let Some(standing) = self.names.standing(&question) {
            let next = standing.next.expect("it will be asked about again");
            assert!(next >= now.monotonic + SOONEST, "asked about too soon");
            assert!(next <= now.monotonic + DNS.max_ttl, "asked about too late");
        }
        self.ask();
    }

    fn leads(&self, question: &Question) -> BTreeSet<SocketAddr> {
        let endpoints = self.names.endpoints(question, Some(PORT));
        assert!(endpoints.len() <= MAX_RECORDS);
        let addresses: BTreeSet<SocketAddr> = endpoints.into_iter().map(|(address, _)| address).collect();
        for address in &addresses {
            assert!(is_routed(address.ip()) && address.port() > 0, "{address}");
            assert_eq!(Family::of(address.ip()), question.family);
        }
        addresses
    }
}

/// As the library hands it on.
fn message_of(bytes: &[u8]) -> Result<DnsResponse, NetError> {
    let response = DnsResponse::from_buffer(bytes.to_vec())?;
    match response.truncation {
        true => Err(NetError::Truncated),
        false => Ok(DnsError::from_response(response)?),
    }
}

#[cfg(test)]
mod tests {
    use lb_userspace::core::dns::Reply;

    use super::*;

    /// Else none would get far.
    #[test]
    fn the_corpus_has_good_answers() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/answers");
        let mut found = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let input = std::fs::read(entry.unwrap().path()).unwrap();
            let question = Question::new("app.example", Family::Ipv4, Wanted::Addresses);
            let reply = Chain::new(&question)
                .unwrap()
                .read(SERVER, message_of(input.get(HEAD..).unwrap_or_default()));
            found += u32::from(matches!(reply, Some(Reply::Said(Answer::Found(_)))));
        }
        assert!(found > 0);
    }
}
