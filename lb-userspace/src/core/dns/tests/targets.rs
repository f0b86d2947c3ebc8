//! Names of SRV records, whose targets are names too.

use super::*;

const NAME: &str = "_http._tcp.app.example";

/// A record: target `t<number>.example`, its port, priority and weight.
type Row = (u8, u16, u16, u16);

fn play() -> Play {
    Play::of(Question::new(NAME, Family::Ipv4, Wanted::Targets))
}

fn target(number: u8) -> Question {
    Question::new(&format!("t{number}.example."), Family::Ipv4, Wanted::Addresses)
}

fn targets(rows: &[Row], ttl: u64) -> Answer {
    let row = |&(number, port, priority, weight): &Row| {
        let host = target(number).host;
        (Record::Target(Target { host, port }), Rank { priority, weight })
    };
    Answer::Found(Found {
        records: rows.iter().map(row).collect(),
        ttl: Duration::from_secs(ttl),
        server: SERVER,
        authoritative: true,
        name: NAME.to_owned(),
        instead_of: None,
    })
}

impl Play {
    fn answer_to(&mut self, question: &Question, answer: Answer) -> Change {
        self.names.answered(question, answer, &DNS, self.now())
    }

    /// Each target has the address of its number.
    fn targets_are_found(&mut self, numbers: impl IntoIterator<Item = u8>, ttl: u64) {
        for number in numbers {
            self.answer_to(&target(number), found(vec![address(number)], Duration::from_secs(ttl)));
        }
    }

    /// Last byte of the address, port, priority and weight.
    fn endpoints(&self) -> Vec<Row> {
        let endpoints = self.names.endpoints(&self.question, None).into_iter();
        let row = |(address, rank): (SocketAddr, Rank)| match address.ip() {
            IpAddr::V4(v4) => (v4.octets()[3], address.port(), rank.priority, rank.weight),
            IpAddr::V6(_) => panic!("{address}"),
        };
        endpoints.map(row).collect()
    }
}

#[test]
fn targets_are_asked_for_each_for_itself() {
    let mut play = play();
    let change = play.answer(targets(&[(12, 81, 20, 0), (11, 80, 10, 3)], 5));
    assert_eq!(texts(&change), ["t11.example:80, t12.example:81 from now on"]);
    assert_eq!(play.names.due(play.now().monotonic), [target(11), target(12)]);
    assert!(play.endpoints().is_empty() && play.names.is_undecided());
    play.targets_are_found([11], 300);
    assert_eq!(play.endpoints(), [(11, 80, 10, 3)]);
    play.answer_to(&target(12), Answer::Failed("SERVFAIL".to_owned()));
    assert!(!play.names.is_undecided());
    let told = play.names.trouble(&play.question).map(|(why, _)| why);
    assert_eq!(told.as_deref(), Some("t12.example: SERVFAIL"));
    play.targets_are_found([12], 300);
    assert_eq!(play.endpoints(), [(11, 80, 10, 3), (12, 81, 20, 0)], "by priority");
    assert_eq!(play.names.behind(&target(12)), [&play.question]);
    // Its own records end sooner than those of its targets.
    assert!(play.wait() <= Duration::from_secs(5));
}

#[test]
fn a_rank_is_as_the_last_answer_has_it() {
    let mut play = play();
    play.answer(targets(&[(11, 80, 10, 3), (12, 80, 10, 1)], 5));
    play.targets_are_found([11, 12], 5);
    let change = play.answer(targets(&[(11, 80, 10, 3), (12, 80, 20, 7)], 5));
    assert_eq!(
        (change.members, texts(&change)),
        (true, vec!["t12.example:80 has priority 20, weight 7 now"])
    );
    assert_eq!(play.endpoints(), [(11, 80, 10, 3), (12, 80, 20, 7)]);
    // Of a target that is there twice the better rank holds, and of two targets with one address.
    play.answer(targets(&[(11, 80, 20, 3), (11, 80, 10, 1), (12, 80, 10, 9)], 5));
    play.answer_to(&target(12), found(vec![address(11)], Duration::ZERO));
    play.let_go(|_| true);
    assert_eq!(play.endpoints(), [(11, 80, 10, 9)]);
}

#[test]
fn a_name_that_moves_keeps_its_old_targets_until_the_new_ones_are_ready() {
    let mut play = play();
    play.answer(targets(&[(11, 80, 0, 0)], 5));
    play.targets_are_found([11], 5);
    play.answer(targets(&[(12, 80, 0, 0)], 5));
    play.targets_are_found([12], 5);
    let now = play.now();
    assert_eq!(play.names.let_go(|_, _, _| false, now), Change::default());
    assert_eq!(play.endpoints(), [(11, 80, 0, 0), (12, 80, 0, 0)]);
    let change = play.names.let_go(|_, _, _| true, now);
    assert_eq!(texts(&change), ["t11.example:80 no more"]);
    assert_eq!(play.endpoints(), [(12, 80, 0, 0)]);
    assert!(
        play.names.standing(&target(11)).is_none(),
        "nobody asks about it any more"
    );
}

#[test]
fn a_failing_backend_has_its_records_and_its_target_asked_for() {
    let mut play = play();
    play.answer(targets(&[(11, 80, 0, 0), (12, 80, 0, 0)], 30));
    play.names.due(play.now().monotonic);
    play.targets_are_found([11, 12], 30);
    play.clock += Duration::from_secs(3);
    play.names.doubt(&play.question, address(12), play.now().monotonic);
    assert_eq!(
        play.names.due(play.now().monotonic),
        [play.question.clone(), target(12)]
    );
}

#[test]
fn what_cannot_be_a_target_is_none() {
    let mut play = play();
    let bad = |host: &str| {
        let target = Target {
            host: host.to_owned(),
            port: 80,
        };
        (Record::Target(target), Rank::default())
    };
    let Answer::Found(mut answer) = targets(&[(11, 0, 0, 0)], 5) else {
        unreachable!()
    };
    answer
        .records
        .extend([bad(""), bad("a b"), bad("\\000.example"), bad(&"x".repeat(64))]);
    play.answer(Answer::Found(answer));
    assert_eq!(play.trouble().as_deref(), Some("none of its targets can be a backend"));
}

#[test]
fn a_service_that_is_not_offered_is_believed_like_a_name_that_is_not() {
    let mut play = play();
    play.answer(targets(&[(11, 80, 0, 0)], 1));
    play.targets_are_found([11], 1);
    let nothing = || Answer::Nothing(Nothing::NotOffered, Duration::ZERO);
    let since = play.clock;
    play.answer(nothing());
    while play.clock < since + Duration::from_secs(10) {
        assert_eq!(play.endpoints(), [(11, 80, 0, 0)]);
        play.wait();
        play.answer(nothing());
    }
    assert!(play.endpoints().is_empty());
    let told = "its SRV record says that there is no such service";
    assert_eq!(play.trouble().as_deref(), Some(told));
}

#[test]
fn no_more_than_there_is_room_for() {
    let mut play = play();
    let rows: Vec<Row> = (0..=255)
        .flat_map(|number| [(number, 80, 1, 0), (number, 81, 0, 0)])
        .collect();
    play.answer(targets(&rows, 5));
    assert_eq!(
        play.trouble().as_deref(),
        Some("has more than 256 targets; 256 are left out")
    );
    let two = |number: u8| vec![address(number), Ipv4Addr::new(198, 18, 2, number).into()];
    for number in 0..=255 {
        play.answer_to(&target(number), found(two(number), Duration::ZERO));
    }
    let endpoints = play.endpoints();
    assert_eq!(endpoints.len(), 256);
    assert!(endpoints.iter().all(|row| row.2 == 0), "rather those that serve first");
}

proptest! {
    /// However an answer is ordered, nothing follows from the same set again.
    #[test]
    fn two_hundred_records_shuffled_at_each_answer_change_nothing(shuffles: [u64; 8]) {
        let mut play = play();
        let mut rows: Vec<Row> = (0..200).map(|n| (n % 4, 8000 + u16::from(n), u16::from(n % 3), u16::from(n) * 300)).collect();
        play.answer(targets(&rows, 5));
        play.targets_are_found(0..4, 5);
        let endpoints = play.endpoints();
        prop_assert_eq!(endpoints.len(), 200);
        for shuffle in shuffles {
            play.wait();
            rows.sort_by_key(|row| super::super::super::fingerprint::mix(shuffle ^ u64::from(row.1)));
            prop_assert_eq!(play.answer(targets(&rows, 5)), Change::default());
            play.targets_are_found(0..4, 5);
            prop_assert_eq!(play.endpoints(), endpoints.clone());
        }
    }
}
