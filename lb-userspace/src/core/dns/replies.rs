//! What several name servers say together, when none of them found a record.
//!
//! That there is nothing must be the word of all that answer: a server that has lost its zone, or is of another network,
//! must not take backends away. Tested here.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Answer, Nothing};

/// Of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Said(Answer),
    /// Why it said nothing.
    Silent(String),
}

pub fn agree(replies: Vec<(SocketAddr, Reply)>) -> Answer {
    let (mut nothing, mut failures, mut silent) = (None, Vec::new(), Vec::new());
    for (server, reply) in replies {
        match reply {
            Reply::Said(found @ Answer::Found(_)) => return found,
            Reply::Said(Answer::Nothing(what, ttl)) => nothing = Some(both(nothing, (what, ttl))),
            Reply::Said(Answer::Failed(why)) => failures.push(format!("{server}: {why}")),
            Reply::Silent(why) => silent.push(format!("{server}: {why}")),
        }
    }
    match nothing {
        Some((what, ttl)) if failures.is_empty() => Answer::Nothing(what, ttl),
        _ if failures.is_empty() && silent.is_empty() => Answer::Failed("there is no name server to ask".to_owned()),
        _ => {
            failures.append(&mut silent);
            failures.sort();
            Answer::Failed(failures.join(", "))
        }
    }
}

/// The weaker claim, and the shorter life.
pub fn both(one: Option<(Nothing, Duration)>, (what, ttl): (Nothing, Duration)) -> (Nothing, Duration) {
    let Some((other, life)) = one else { return (what, ttl) };
    let what = if what == Nothing::NoName { other } else { what };
    (what, ttl.min(life))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::dns::{Found, Rank, Record};

    const TTL: Duration = Duration::from_secs(5);

    fn found() -> Reply {
        Reply::Said(Answer::Found(Found {
            records: vec![(Record::Address("198.18.1.11".parse().unwrap()), Rank::default())],
            ttl: TTL,
            server: "198.18.0.1:53".parse().unwrap(),
            authoritative: true,
            name: "app.example".to_owned(),
            instead_of: None,
        }))
    }

    fn no_name(ttl: Duration) -> Reply {
        Reply::Said(Answer::Nothing(Nothing::NoName, ttl))
    }

    fn failed() -> Reply {
        Reply::Said(Answer::Failed("SERVFAIL".to_owned()))
    }

    fn silent() -> Reply {
        Reply::Silent("no answer in time".to_owned())
    }

    fn together(replies: Vec<Reply>) -> Answer {
        let server = |(place, reply)| (SocketAddr::new([198, 18, 0, place].into(), 53), reply);
        agree((1..).zip(replies).map(server).collect())
    }

    #[test]
    fn an_address_wins_over_everything() {
        let Reply::Said(found_it) = found() else { unreachable!() };
        assert_eq!(together(vec![no_name(TTL), failed(), silent(), found()]), found_it);
    }

    #[test]
    fn nothing_must_be_the_word_of_all_that_answer() {
        let nothing = Answer::Nothing(Nothing::NoName, TTL);
        assert_eq!(together(vec![no_name(TTL * 2), no_name(TTL)]), nothing);
        assert_eq!(together(vec![silent(), no_name(TTL)]), nothing);
        let no_address = Reply::Said(Answer::Nothing(Nothing::NoAddress, TTL));
        assert_eq!(
            together(vec![no_name(TTL), no_address]),
            Answer::Nothing(Nothing::NoAddress, TTL)
        );
        assert_eq!(
            together(vec![no_name(TTL), failed()]),
            Answer::Failed("198.18.0.2:53: SERVFAIL".to_owned())
        );
    }

    #[test]
    fn failures_name_their_servers() {
        let told = "198.18.0.1:53: no answer in time, 198.18.0.2:53: SERVFAIL";
        assert_eq!(together(vec![silent(), failed()]), Answer::Failed(told.to_owned()));
        assert_eq!(
            together(vec![]),
            Answer::Failed("there is no name server to ask".to_owned())
        );
    }
}
