//! What a name server's messages say about a name: through CNAMEs, which may need further questions, to its records.
//!
//! Never asks anybody. Bytes have become messages in the library. Tested here; random bytes come this way in
//! `tests/fuzz`.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsResponse, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record as Told, RecordType};

use crate::core::dns::{Answer, Family, Found, Nothing, Question, Rank, Record, Reply, Target, Wanted};

/// Longer chains are mistakes, and each of their names may need a question.
const LONGEST: usize = 16;

/// The way from a name along its CNAMEs.
#[derive(Clone, Debug)]
pub struct Chain {
    kind: RecordType,
    wanted: Wanted,
    names: Vec<Name>,
    /// Records of a chain end together with the first of them.
    ttl: u32,
    /// All who were asked on the way knew by themselves.
    authoritative: bool,
}

impl Chain {
    pub fn new(question: &Question) -> Result<Self, String> {
        let mut name = Name::from_ascii(&question.host).map_err(|error| error.to_string())?;
        name.set_fqdn(true);
        Ok(Self {
            kind: match (question.wanted, question.family) {
                (Wanted::Addresses, Family::Ipv4) => RecordType::A,
                (Wanted::Addresses, Family::Ipv6) => RecordType::AAAA,
                (Wanted::Targets, _) => RecordType::SRV,
            },
            wanted: question.wanted,
            names: vec![name],
            ttl: u32::MAX,
            authoritative: true,
        })
    }

    /// What is to be asked about.
    pub fn end(&self) -> &Name {
        self.names.last().expect("INVARIANT: a chain begins with a name")
    }

    pub const fn record_type(&self) -> RecordType {
        self.kind
    }

    /// None: it goes on, and its end is to be asked about.
    pub fn read(&mut self, server: SocketAddr, outcome: Result<DnsResponse, NetError>) -> Option<Reply> {
        let response = match outcome {
            Ok(response) => response,
            Err(error) => return Some(self.without_records(error)),
        };
        let asked = self.names.len();
        self.authoritative &= response.authoritative;
        if let Err(why) = self.follow(&response.answers) {
            return Some(Reply::Said(Answer::Failed(why)));
        }
        let own = || response.answers.iter().filter(|told| told.name == *self.end());
        let records: Vec<(Record, Rank)> = own().filter_map(|told| self.record(&told.data)).collect();
        let life = seconds(response.negative_ttl().unwrap_or_default());
        let of_kind = own().filter(|told| told.record_type() == self.kind);
        Some(Reply::Said(match of_kind.map(|told| told.ttl).min() {
            Some(ttl) if records.is_empty() => Answer::Nothing(Nothing::NotOffered, seconds(ttl.min(self.ttl))),
            Some(ttl) => Answer::Found(Found {
                records,
                ttl: seconds(ttl.min(self.ttl)),
                server,
                authoritative: self.authoritative,
                name: host(self.names.first().unwrap_or(self.end())),
                instead_of: None,
            }),
            None if self.names.len() == asked => Answer::Failed("its answer is about something else".to_owned()),
            None if response.response_code == ResponseCode::NXDomain => Answer::Nothing(Nothing::NoName, life),
            None if response.soa().is_some() => Answer::Nothing(self.none(), life),
            None => return None,
        }))
    }

    fn follow(&mut self, answers: &[Told]) -> Result<(), String> {
        let next = |end: &Name| {
            answers.iter().find_map(|told| match &told.data {
                RData::CNAME(to) if told.name == *end => Some((to.0.clone(), told.ttl)),
                _ => None,
            })
        };
        while let Some((to, ttl)) = next(self.end()) {
            if self.names.contains(&to) {
                return Err("its CNAMEs lead in a circle".to_owned());
            }
            if self.names.len() > LONGEST {
                return Err(format!("more than {LONGEST} CNAMEs, one after another"));
            }
            self.ttl = self.ttl.min(ttl);
            self.names.push(to);
        }
        Ok(())
    }

    fn record(&self, data: &RData) -> Option<(Record, Rank)> {
        match (data, self.wanted) {
            (RData::SRV(srv), Wanted::Targets) if !srv.target.is_root() => {
                let target = Target {
                    host: host(&srv.target),
                    port: srv.port,
                };
                let rank = Rank {
                    priority: srv.priority,
                    weight: srv.weight,
                };
                Some((Record::Target(target), rank))
            }
            (_, Wanted::Targets) => None,
            (data, Wanted::Addresses) => Some((Record::Address(data.ip_addr()?), Rank::default())),
        }
    }

    const fn none(&self) -> Nothing {
        match self.wanted {
            Wanted::Addresses => Nothing::NoAddress,
            Wanted::Targets => Nothing::NoTarget,
        }
    }

    fn without_records(&self, error: NetError) -> Reply {
        Reply::Said(match error {
            NetError::Timeout => return Reply::Silent("no answer in time".to_owned()),
            NetError::Io(error) => return Reply::Silent(error.to_string()),
            NetError::Truncated => Answer::Failed("its answer is cut off, by TCP too".to_owned()),
            NetError::Dns(DnsError::NoRecordsFound(none)) => self.nothing(&none),
            NetError::Dns(DnsError::ResponseCode(code)) => Answer::Failed(refusal(code)),
            other => Answer::Failed(other.to_string()),
        })
    }

    fn nothing(&self, none: &NoRecords) -> Answer {
        if none.ns.is_some() && none.soa.is_none() {
            return Answer::Failed("knows only of other servers to ask".to_owned());
        }
        let what = match none.response_code {
            ResponseCode::NXDomain => Nothing::NoName,
            _ => self.none(),
        };
        Answer::Nothing(what, seconds(none.negative_ttl.unwrap_or_default()))
    }
}

/// In lower case, without a dot at its end.
fn host(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn refusal(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_str().to_owned(),
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::{Message, OpCode, Query};
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA, SRV};

    use super::*;

    const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 53)), 53);

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn cname(from: &str, to: &str, ttl: u32) -> Told {
        Told::from_rdata(name(from), ttl, RData::CNAME(CNAME(name(to))))
    }

    fn address(of: &str, ttl: u32) -> Told {
        Told::from_rdata(name(of), ttl, RData::A(A::new(198, 18, 1, 11)))
    }

    fn srv(of: &str, priority: u16, target: &str, ttl: u32) -> Told {
        let srv = SRV::new(priority, 5, 8080, name(target));
        Told::from_rdata(name(of), ttl, RData::SRV(srv))
    }

    fn message(answers: Vec<Told>, code: ResponseCode, soa: bool) -> Result<DnsResponse, NetError> {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.authoritative = true;
        message.metadata.response_code = code;
        message.add_query(Query::query(name("app.example."), RecordType::A));
        message.add_answers(answers);
        if soa {
            let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 600, 7);
            message.add_authority(Told::from_rdata(name("example."), 7, RData::SOA(soa)));
        }
        Ok(DnsResponse::from_message(message).unwrap())
    }

    fn chain(host: &str, wanted: Wanted) -> Chain {
        Chain::new(&Question::new(host, Family::Ipv4, wanted)).unwrap()
    }

    fn said(chain: &mut Chain, answers: Vec<Told>) -> Option<Answer> {
        said_with(chain, answers, ResponseCode::NoError, false)
    }

    fn said_with(chain: &mut Chain, answers: Vec<Told>, code: ResponseCode, soa: bool) -> Option<Answer> {
        match chain.read(SERVER, message(answers, code, soa))? {
            Reply::Said(answer) => Some(answer),
            Reply::Silent(why) => panic!("{why}"),
        }
    }

    fn found(name: &str, records: Vec<(Record, Rank)>, ttl: u32) -> Option<Answer> {
        Some(Answer::Found(Found {
            records,
            ttl: seconds(ttl),
            server: SERVER,
            authoritative: true,
            name: name.to_owned(),
            instead_of: None,
        }))
    }

    fn target(host: &str, priority: u16) -> (Record, Rank) {
        let host = host.to_owned();
        (
            Record::Target(Target { host, port: 8080 }),
            Rank { priority, weight: 5 },
        )
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_records_in_whatever_order_they_come() {
        let mut way = chain("App.Example", Wanted::Addresses);
        let answers = vec![
            address("b.example.", 9),
            cname("A.example.", "b.example.", 3),
            cname("app.example.", "a.example.", 5),
        ];
        let one = (Record::Address([198, 18, 1, 11].into()), Rank::default());
        assert_eq!(said(&mut way, answers), found("app.example", vec![one], 3));
    }

    #[test]
    fn a_chain_that_leaves_the_server_is_asked_for_on() {
        let mut way = chain("app.example", Wanted::Targets);
        assert_eq!(
            said(&mut way, vec![cname("app.example.", "_http._tcp.other.", 2)]),
            None
        );
        assert_eq!(way.end(), &name("_http._tcp.other."));
        let answers = vec![
            srv("_http._tcp.other.", 1, "Db1.other.", 300),
            srv("_http._tcp.other.", 2, "db2.other.", 300),
        ];
        let targets = vec![target("db1.other", 1), target("db2.other", 2)];
        assert_eq!(said(&mut way, answers), found("app.example", targets, 2));
    }

    #[test]
    fn a_service_that_is_not_offered_is_told_from_one_that_is() {
        let name = "_http._tcp.app.example.";
        let nowhere = said(&mut chain(name, Wanted::Targets), vec![srv(name, 0, ".", 9)]);
        assert_eq!(nowhere, Some(Answer::Nothing(Nothing::NotOffered, seconds(9))));
        let one = said(
            &mut chain(name, Wanted::Targets),
            vec![srv(name, 0, ".", 9), srv(name, 0, "db1.other.", 9)],
        );
        assert_eq!(one, found("_http._tcp.app.example", vec![target("db1.other", 0)], 9));
    }

    #[test]
    fn nothing_at_the_end_of_a_chain_is_nothing() {
        let way = || {
            (
                chain("app.example", Wanted::Addresses),
                vec![cname("app.example.", "a.example.", 5)],
            )
        };
        let (mut chain, answers) = way();
        let gone = said_with(&mut chain, answers, ResponseCode::NXDomain, true);
        assert_eq!(gone, Some(Answer::Nothing(Nothing::NoName, seconds(7))));
        let (mut chain, answers) = way();
        let empty = said_with(&mut chain, answers, ResponseCode::NoError, true);
        assert_eq!(empty, Some(Answer::Nothing(Nothing::NoAddress, seconds(7))));
    }

    #[test]
    fn circles_and_long_chains_and_other_names_are_failures() {
        let failed = |answers| said(&mut chain("app.example", Wanted::Addresses), answers);
        let circle = vec![
            cname("app.example.", "a.example.", 5),
            cname("a.example.", "APP.example.", 5),
        ];
        assert_eq!(
            failed(circle),
            Some(Answer::Failed("its CNAMEs lead in a circle".to_owned()))
        );
        let names: Vec<String> = (0..30).map(|n| format!("n{n}.example.")).collect();
        let mut long = vec![cname("app.example.", "n0.example.", 5)];
        long.extend(names.windows(2).map(|pair| cname(&pair[0], &pair[1], 5)));
        assert_eq!(
            failed(long),
            Some(Answer::Failed("more than 16 CNAMEs, one after another".to_owned()))
        );
        let other = Some(Answer::Failed("its answer is about something else".to_owned()));
        assert_eq!(failed(vec![address("other.example.", 5)]), other);
    }
}
