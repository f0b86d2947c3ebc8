//! Names over a clock made by hand.

mod hurry;
pub mod searched;
mod targets;

use std::net::Ipv4Addr;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const DNS: Dns = Dns {
    servers: None,
    min_ttl: Duration::from_secs(1),
    max_ttl: Duration::from_secs(30),
};
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 53)), 53);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One name, and who asks about it.
struct Play {
    names: Names,
    question: Question,
    begun: Instant,
    clock: Duration,
}

impl Play {
    fn new() -> Self {
        Self::of(Question::new("app.example", Family::Ipv4, Wanted::Addresses))
    }

    fn of(question: Question) -> Self {
        let mut play = Self {
            names: Names::default(),
            question,
            begun: Instant::now(),
            clock: Duration::ZERO,
        };
        let questions = BTreeSet::from([play.question.clone()]);
        assert_eq!(play.names.follow(questions, play.now()), Change::default());
        assert_eq!(play.names.due(play.now().monotonic), [play.question.clone()]);
        play
    }

    fn now(&self) -> Moment {
        Moment {
            monotonic: self.begun + self.clock,
            wall: UNIX_EPOCH + self.clock,
        }
    }

    fn answer(&mut self, answer: Answer) -> Change {
        self.names.answered(&self.question, answer, &DNS, self.now())
    }

    fn found(&mut self, places: &[u8], ttl: u64) -> Change {
        let addresses = places.iter().map(|place| address(*place)).collect();
        self.answer(found(addresses, Duration::from_secs(ttl)))
    }

    fn let_go(&mut self, is_ready: impl Fn(IpAddr) -> bool) -> Change {
        self.names
            .let_go(|_, _, record| record.address().is_some_and(&is_ready), self.now())
    }

    /// Waits until the name is asked about, and tells how long that was.
    fn wait(&mut self) -> Duration {
        let from = self.clock;
        loop {
            let next = self.names.next_deadline().expect("there is always something to do");
            self.clock = self.clock.max(next.saturating_duration_since(self.begun));
            self.let_go(|_| false);
            if !self.names.due(self.now().monotonic).is_empty() {
                return self.clock - from;
            }
        }
    }

    fn places(&self) -> Vec<u8> {
        let addresses = self.names.addresses(&self.question);
        addresses
            .map(|address| match address {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(v6) => v6.octets()[15],
            })
            .collect()
    }

    fn trouble(&self) -> Option<String> {
        self.names.standing(&self.question)?.trouble
    }
}

fn address(place: u8) -> IpAddr {
    Ipv4Addr::new(198, 18, 1, place).into()
}

fn found(addresses: Vec<IpAddr>, ttl: Duration) -> Answer {
    let records = addresses
        .into_iter()
        .map(|address| (Record::Address(address), Rank::default()));
    Answer::Found(Found {
        records: records.collect(),
        ttl,
        server: SERVER,
        authoritative: true,
        name: "app.example".to_owned(),
        instead_of: None,
    })
}

fn texts(change: &Change) -> Vec<&str> {
    change.news.iter().map(|news| news.text.as_str()).collect()
}

#[test]
fn asked_again_when_the_answer_ends_within_bounds() {
    let mut play = Play::new();
    for (ttl, most) in [(5, 5000), (0, 1000), (1, 1000), (300, 30_000)] {
        play.found(&[11], ttl);
        let (waited, most) = (play.wait(), Duration::from_millis(most));
        assert!(waited <= most && waited >= most * 9 / 10, "{waited:?} of {most:?}");
    }
    play.answer(Answer::Failed("SERVFAIL".to_owned()));
    assert!(play.wait() <= DNS.min_ttl);
    assert!(
        play.names.due(play.now().monotonic).is_empty(),
        "one question at a time"
    );
}

#[test]
fn a_name_that_moves_keeps_its_old_address_until_the_new_one_is_ready() {
    let mut play = Play::new();
    assert_eq!(texts(&play.found(&[11], 1)), ["198.18.1.11 from now on"]);
    play.wait();
    assert!(play.found(&[12], 1).members);
    assert_eq!(play.places(), [11, 12]);
    assert_eq!(play.let_go(|_| false), Change::default());
    play.clock += 5 * MILLISECOND;
    let change = play.let_go(|address| address == self::address(12));
    assert_eq!(texts(&change), ["198.18.1.11 no more"]);
    assert_eq!(play.places(), [12]);
}

#[test]
fn a_new_address_that_is_never_ready_holds_nothing_up_for_long() {
    let mut play = Play::new();
    play.found(&[11], 5);
    play.wait();
    play.found(&[12], 5);
    play.clock += 299 * MILLISECOND;
    assert!(!play.let_go(|_| false).members);
    play.clock += MILLISECOND;
    assert!(play.let_go(|_| false).members);
    assert_eq!(play.places(), [12]);
}

#[test]
fn trouble_takes_nothing_away_and_is_told_once() {
    let mut play = Play::new();
    assert_eq!(play.trouble().as_deref(), Some("no answer yet"));
    play.found(&[11, 12], 1);
    for round in 0..1000 {
        play.wait();
        let change = play.answer(Answer::Failed("SERVFAIL".to_owned()));
        let expected = ["SERVFAIL; keeping its addresses"];
        assert_eq!(texts(&change), expected[..usize::from(round == 0)]);
    }
    assert_eq!(play.places(), [11, 12]);
    play.wait();
    assert_eq!(texts(&play.found(&[11, 12], 1)), ["is resolved again"]);
    assert_eq!(play.trouble(), None);
}

#[test]
fn that_there_is_nothing_is_believed_after_three_answers_and_ten_seconds() {
    let mut play = Play::new();
    play.found(&[11], 1);
    play.wait();
    let nothing = || Answer::Nothing(Nothing::NoName, Duration::from_secs(5));
    let since = play.clock;
    assert_eq!(
        texts(&play.answer(nothing())),
        ["there is no such name; keeping its address"]
    );
    while play.clock < since + Duration::from_secs(10) {
        assert_eq!(play.places(), [11]);
        play.wait();
        play.answer(nothing());
    }
    assert!(play.places().is_empty());
    assert_eq!(play.trouble().as_deref(), Some("there is no such name"));
    // A good answer in between begins the count anew.
    play.found(&[11], 1);
    play.answer(nothing());
    play.clock += Duration::from_secs(60);
    play.found(&[11], 1);
    play.answer(nothing());
    play.answer(nothing());
    play.answer(nothing());
    assert_eq!(play.places(), [11]);
}

#[test]
fn addresses_that_come_in_turns_are_all_kept_and_go_when_they_stay_away() {
    let mut play = Play::new();
    // The first rounds show what kind of name it is.
    for place in [11, 12, 13, 11, 12, 13] {
        play.found(&[place], 1);
        play.wait();
    }
    for round in 0..100 {
        play.found(&[11 + round % 3], 1);
        play.wait();
        if round > 2 {
            assert_eq!(play.places(), [11, 12, 13], "round {round}");
        }
    }
    let since = play.clock;
    while play.places().contains(&13) {
        play.found(&[11 + u8::from(play.clock.as_millis().is_multiple_of(2))], 1);
        play.wait();
    }
    let stayed = play.clock - since;
    let minute = Duration::from_secs(60);
    assert!(
        stayed > minute - Duration::from_secs(5) && stayed < minute + Duration::from_secs(2),
        "{stayed:?}"
    );
}

#[test]
fn there_and_back_and_there_again_are_moves() {
    let mut play = Play::new();
    for place in [11, 12, 11, 12] {
        play.found(&[place], 1);
        play.let_go(|_| true);
        assert_eq!(play.places(), [place]);
        play.wait();
    }
}

#[test]
fn what_cannot_be_a_backend_is_no_answer() {
    let mut play = Play::new();
    play.found(&[11], 1);
    let addresses = ["127.0.0.1", "0.0.0.0", "224.0.0.1"].map(|text| text.parse().unwrap());
    let change = play.answer(found(addresses.to_vec(), Duration::ZERO));
    let told = ["none of its addresses can be that of a backend; keeping its address"];
    assert_eq!((change.members, texts(&change)), (false, told.to_vec()));
    assert_eq!(play.places(), [11]);
}

#[test]
fn no_more_than_there_is_room_for() {
    let mut play = Play::new();
    play.found(&[200], 1);
    let many = (0..300_u16).map(|n| Ipv4Addr::from([198, 19, (n >> 8) as u8, n as u8]).into());
    let mut many: Vec<IpAddr> = many.collect();
    many.push(address(200));
    let change = play.answer(found(many, Duration::ZERO));
    assert!(texts(&change).contains(&"has more than 256 addresses; 45 are left out"));
    assert_eq!(play.names.addresses(&play.question).count(), 256);
    assert!(play.names.addresses(&play.question).any(|known| known == address(200)));
}

#[test]
fn who_is_followed_no_more_is_forgotten_and_others_stay() {
    let mut play = Play::new();
    play.found(&[11], 1);
    let other = Question::new("Other.Example.", Family::Ipv6, Wanted::Addresses);
    assert_eq!((other.host.as_str(), other.absolute), ("other.example", true));
    play.names
        .follow([play.question.clone(), other.clone()].into(), play.now());
    assert_eq!(play.places(), [11]);
    assert_eq!(play.names.due(play.now().monotonic).first(), Some(&other));
    play.names.follow([other].into(), play.now());
    assert!(play.places().is_empty());
    assert_eq!(play.found(&[11], 1), Change::default(), "an answer that comes late");
}

proptest! {
    /// The order of an answer, and what is in it twice, mean nothing.
    #[test]
    fn order_never_matters(
        answers in prop::collection::vec(prop::collection::vec(0_u8..12, 1..6), 1..30),
        shuffle in any::<u64>(),
    ) {
        let (mut one, mut other) = (Play::new(), Play::new());
        other.begun = one.begun;
        for answer in answers {
            let mut mixed = answer.clone();
            mixed.sort_by_key(|place| super::super::fingerprint::mix(shuffle ^ u64::from(*place)));
            mixed.extend(answer.first());
            prop_assert_eq!(one.found(&answer, 1), other.found(&mixed, 1));
            prop_assert_eq!(one.wait(), other.wait());
            prop_assert_eq!(one.places(), other.places());
        }
    }

    /// Whatever comes: what is in the last answer is a member, and failures take nothing away.
    #[test]
    fn the_last_answer_holds(answers in prop::collection::vec(prop::collection::vec(0_u8..12, 0..6), 1..60)) {
        let mut play = Play::new();
        for answer in answers {
            let before = play.places();
            if answer.is_empty() {
                play.answer(Answer::Failed("no answer in time".to_owned()));
                prop_assert_eq!(play.places(), before);
            } else {
                play.found(&answer, 2);
                prop_assert!(answer.iter().all(|place| play.places().contains(place)));
            }
            play.wait();
        }
    }
}
