//! Whose sealed messages are of now: a node draws a session when it begins, and numbers what it seals in it.
//!
//! Of a session that is known only higher numbers count. Any other is known once it has said a number again that was drawn
//! here and asked of it: so no recording is believed, whatever clocks say and whoever has forgotten what. What is known is
//! forgotten when nothing is heard for a while, and that is safe at any time. docs/adr/0007 says why. Tested here and by
//! the laws in `tests/it/vrrp`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU128;
use std::time::{Duration, Instant};

use super::random::{Random, Seed};
use super::refusal::Refusal;
use super::sealed::Stamp;

/// Who has said nothing to all for so long greets them, so that others know it, and it them.
pub const GREETS_EVERY: Duration = Duration::from_secs(1);
/// From then on a session has to be proven again: what was held back is not believed later.
const KNOWN_FOR: Duration = Duration::from_secs(3);
/// An answer counts for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A new question of one node: one that recordings have us ask would take the place of one that is being answered.
const ASKS_EVERY: Duration = Duration::from_millis(20);
const MOST_OTHERS: usize = 16;

#[derive(Debug)]
pub struct Sessions {
    own: u64,
    sealed: u64,
    random: Random,
    others: BTreeMap<IpAddr, Other>,
}

#[derive(Debug, Default)]
struct Other {
    session: Option<Session>,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    last: Stamp,
    heard: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    /// None: it was answered.
    question: Option<NonZeroU128>,
}

impl Sessions {
    pub fn new(seed: Seed) -> Self {
        let mut random = Random::new(seed);
        Self {
            own: random.draw() as u64,
            sealed: 0,
            random,
            others: BTreeMap::new(),
        }
    }

    /// For the next message.
    pub const fn stamp(&mut self) -> Stamp {
        self.sealed += 1;
        Stamp {
            session: self.own,
            number: self.sealed,
        }
    }

    /// Whether a message with a right tag is of now, and new.
    pub fn admit(
        &mut self,
        from: IpAddr,
        stamp: Stamp,
        answer: Option<NonZeroU128>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(other) = self.others.get_mut(&from) else {
            return Err(Refusal::Unproven);
        };
        let asked = other.asked.as_mut();
        let answered =
            asked.filter(|asked| answer.is_some() && asked.question == answer && now <= asked.at + ANSWER_WITHIN);
        let known = other.session.filter(|known| known.is_current(now));
        match (known.filter(|known| known.last.session == stamp.session), &answered) {
            (Some(known), _) if stamp.number <= known.last.number => return Err(Refusal::Replayed),
            (None, None) => return Err(Refusal::Unproven),
            _ => {}
        }
        if let Some(asked) = answered {
            // Another session cannot be proven by it.
            asked.question = None;
        }
        other.session = Some(Session {
            last: stamp,
            heard: now,
        });
        Ok(())
    }

    /// What to ask somebody who is not known. None: it has answered just now.
    pub fn question(&mut self, of: IpAddr, now: Instant) -> Option<NonZeroU128> {
        if !self.others.contains_key(&of) && self.others.len() >= MOST_OTHERS {
            self.others.retain(|_, other| other.is_of_use(now));
            if self.others.len() >= MOST_OTHERS {
                return None;
            }
        }
        let other = self.others.entry(of).or_default();
        if let Some(recent) = other.asked.filter(|asked| now < asked.at + ASKS_EVERY) {
            return recent.question;
        }
        let question = NonZeroU128::new(self.random.draw());
        other.asked = Some(Asked { at: now, question });
        question
    }

    /// Who is known, and when it was last heard.
    pub fn known(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Instant)> {
        let sessions = self
            .others
            .iter()
            .filter_map(|(from, other)| Some((*from, other.session?)));
        let current = sessions.filter(move |(_, session)| session.is_current(now));
        current.map(|(from, session)| (from, session.heard))
    }
}

impl Session {
    fn is_current(&self, now: Instant) -> bool {
        now <= self.heard + KNOWN_FOR
    }
}

impl Other {
    fn is_of_use(&self, now: Instant) -> bool {
        let is_asked = self.asked.is_some_and(|asked| now <= asked.at + ANSWER_WITHIN);
        is_asked || self.session.is_some_and(|session| session.is_current(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 3));

    const fn stamp(session: u64, number: u64) -> Stamp {
        Stamp { session, number }
    }

    /// One who knows session 1 of the peer, up to its message 10.
    fn acquainted(now: Instant) -> Sessions {
        let mut sessions = Sessions::new([1; 32]);
        let question = sessions.question(PEER, now);
        assert_eq!(sessions.admit(PEER, stamp(1, 10), question, now), Ok(()));
        sessions
    }

    #[test]
    fn nobody_is_believed_who_was_not_asked_or_answers_something_else() {
        let now = Instant::now();
        let mut sessions = Sessions::new([1; 32]);
        assert_eq!(sessions.admit(PEER, stamp(1, 1), None, now), Err(Refusal::Unproven));
        let any = NonZeroU128::new(7);
        assert_eq!(sessions.admit(PEER, stamp(1, 2), any, now), Err(Refusal::Unproven));
        let question = sessions.question(PEER, now);
        assert_eq!(sessions.admit(PEER, stamp(1, 3), any, now), Err(Refusal::Unproven));
        assert_eq!(sessions.admit(PEER, stamp(1, 4), None, now), Err(Refusal::Unproven));
        let late = now + ANSWER_WITHIN + Duration::from_millis(1);
        assert_eq!(
            sessions.admit(PEER, stamp(1, 5), question, late),
            Err(Refusal::Unproven)
        );
        assert_eq!(sessions.known(late).count(), 0);
    }

    #[test]
    fn of_a_known_session_each_message_counts_once_and_none_after_a_later_one() {
        let now = Instant::now();
        let mut sessions = acquainted(now);
        assert_eq!(sessions.admit(PEER, stamp(1, 10), None, now), Err(Refusal::Replayed));
        assert_eq!(sessions.admit(PEER, stamp(1, 9), None, now), Err(Refusal::Replayed));
        assert_eq!(sessions.admit(PEER, stamp(1, 12), None, now), Ok(()));
        assert_eq!(sessions.admit(PEER, stamp(1, 11), None, now), Err(Refusal::Replayed));
        assert_eq!(sessions.known(now).collect::<Vec<_>>(), [(PEER, now)]);
    }

    #[test]
    fn a_question_proves_one_session() {
        let now = Instant::now();
        let mut sessions = Sessions::new([1; 32]);
        let question = sessions.question(PEER, now);
        assert_eq!(sessions.admit(PEER, stamp(2, 1), question, now), Ok(()));
        let older = sessions.admit(PEER, stamp(1, 100), question, now);
        assert_eq!(older, Err(Refusal::Unproven), "it had answered as well");
        let at = now + ASKS_EVERY;
        let question = sessions.question(PEER, at);
        assert_eq!(sessions.admit(PEER, stamp(2, 2), question, at), Ok(()));
        assert_eq!(
            sessions.admit(PEER, stamp(1, 101), question, at),
            Err(Refusal::Unproven)
        );
    }

    #[test]
    fn who_begins_anew_is_known_after_one_answer_and_its_former_self_no_more() {
        let now = Instant::now();
        let mut sessions = acquainted(now);
        let at = now + ASKS_EVERY;
        assert_eq!(sessions.admit(PEER, stamp(2, 1), None, at), Err(Refusal::Unproven));
        let question = sessions.question(PEER, at);
        assert_eq!(sessions.admit(PEER, stamp(2, 2), question, at), Ok(()));
        assert_eq!(sessions.admit(PEER, stamp(2, 3), None, at), Ok(()));
        assert_eq!(sessions.admit(PEER, stamp(1, 11), None, at), Err(Refusal::Unproven));
    }

    #[test]
    fn what_was_held_back_for_long_is_not_believed() {
        let now = Instant::now();
        let mut sessions = acquainted(now);
        let at = now + KNOWN_FOR;
        assert_eq!(sessions.admit(PEER, stamp(1, 11), None, at), Ok(()));
        let at = at + KNOWN_FOR + Duration::from_millis(1);
        assert_eq!(sessions.known(at).count(), 0);
        assert_eq!(sessions.admit(PEER, stamp(1, 12), None, at), Err(Refusal::Unproven));
    }

    #[test]
    fn a_question_holds_for_a_while_and_not_everybody_is_asked() {
        let now = Instant::now();
        let mut sessions = acquainted(now);
        let soon = now + ASKS_EVERY / 2;
        assert_eq!(sessions.question(PEER, soon), None, "it has answered");
        let at = now + ASKS_EVERY;
        let question = sessions.question(PEER, at);
        assert!(question.is_some());
        assert_eq!(
            sessions.question(PEER, at + ASKS_EVERY / 2),
            question,
            "whatever makes us ask again"
        );
        assert_ne!(sessions.question(PEER, at + ASKS_EVERY), question);
        let at = at + ASKS_EVERY;
        let stranger = |host: u8| IpAddr::from([198, 18, 1, host]);
        let asked = (0..100).filter(|host| sessions.question(stranger(*host), at).is_some());
        assert_eq!(asked.count(), MOST_OTHERS - 1);
        assert_eq!(sessions.admit(PEER, stamp(1, 11), None, at), Ok(()), "still known");
        let later = at + ANSWER_WITHIN + Duration::from_millis(1);
        assert!(sessions.question(stranger(200), later).is_some(), "they did not answer");
        assert_eq!(sessions.known(later).count(), 1);
    }
}
