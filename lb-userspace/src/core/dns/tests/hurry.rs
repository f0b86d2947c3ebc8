//! When names are asked about sooner than their records end.

use super::*;

#[test]
fn trouble_of_a_backend_has_its_name_asked_for_at_once_and_again_soon() {
    let mut play = Play::new();
    play.found(&[11], 30);
    play.clock += Duration::from_secs(3);
    play.names.doubt(&play.question, address(11), play.now().monotonic);
    assert_eq!(play.wait(), Duration::ZERO);
    for wait in [100, 200, 400, 800] {
        play.found(&[11], 30);
        // A check that fails, every now and then, keeps the doubt alive and begins nothing anew.
        play.names.doubt(&play.question, address(11), play.now().monotonic);
        assert_eq!(play.wait(), Duration::from_millis(wait));
        play.names.doubt(&play.question, address(11), play.now().monotonic);
    }
    play.clock += Duration::from_secs(2);
    play.found(&[11], 30);
    assert!(
        play.wait() > Duration::from_secs(26),
        "nothing was heard of it for a while"
    );
}

#[test]
fn other_servers_are_asked_at_once() {
    let mut play = Play::new();
    play.found(&[11], 30);
    play.clock += Duration::from_secs(3);
    play.names.ask_anew(play.now().monotonic);
    assert_eq!(play.wait(), Duration::ZERO);
    play.found(&[11], 30);
    assert!(play.wait() > Duration::from_secs(26), "and then as ever");
}

#[test]
fn a_failing_name_of_a_failing_backend_is_not_asked_for_more_often_than_it_may_be() {
    let mut play = Play::new();
    play.found(&[11], 1);
    let mut asked = 0;
    for _ in 0..6000 {
        play.clock += 10 * MILLISECOND;
        play.names.doubt(&play.question, address(11), play.now().monotonic);
        if !play.names.due(play.now().monotonic).is_empty() {
            asked += 1;
            play.answer(Answer::Failed("SERVFAIL".to_owned()));
        }
    }
    assert!((60..75).contains(&asked), "{asked} in a minute");
}

impl Play {
    fn need(&mut self, is_needed: bool) {
        let needed = is_needed.then(|| self.question.clone());
        self.names.need(needed.into_iter().collect());
    }
}

#[test]
fn a_name_without_which_nobody_is_up_is_asked_about_once_in_min_ttl() {
    let mut play = Play::new();
    play.found(&[11], 30);
    play.clock += Duration::from_secs(3);
    play.need(true);
    assert_eq!(play.wait(), Duration::ZERO, "its last answer is older than that");
    for round in 0..1000 {
        match round % 3 {
            0 => play.found(&[11], 30),
            1 => play.answer(Answer::Failed("SERVFAIL".to_owned())),
            _ => play.answer(Answer::Nothing(Nothing::NoName, Duration::from_secs(30))),
        };
        let waited = play.wait();
        assert!(
            waited <= DNS.min_ttl && waited >= DNS.min_ttl * 9 / 10,
            "{waited:?} in round {round}"
        );
    }
    play.need(false);
    play.found(&[11], 30);
    assert!(play.wait() >= Duration::from_secs(27), "somebody is up again");
}

/// Checks that fail for as long as nobody is up, however seldom, bring no question beyond the first few.
#[test]
fn trouble_that_goes_on_while_nobody_is_up_adds_no_questions() {
    for every in [200, 1500, 5000].map(Duration::from_millis) {
        let mut play = Play::new();
        play.found(&[11], 30);
        play.clock += Duration::from_secs(20);
        let begun = play.clock;
        let mut asked = Vec::new();
        let mut doubted = begun;
        while play.clock < begun + Duration::from_secs(60) {
            if play.clock >= doubted {
                play.names.doubt(&play.question, address(11), play.now().monotonic);
                play.need(true);
                doubted += every;
            }
            if !play.names.due(play.now().monotonic).is_empty() {
                asked.push(play.clock - begun);
                play.found(&[11], 30);
            }
            play.clock += MILLISECOND;
        }
        assert_eq!(asked[0], Duration::ZERO);
        assert!(
            asked.windows(2).all(|pair| pair[1] - pair[0] <= DNS.min_ttl),
            "{every:?}: {asked:?}"
        );
        let hurried = asked.windows(2).filter(|pair| pair[1] - pair[0] < DNS.min_ttl * 9 / 10);
        assert!(hurried.count() <= 4, "{every:?}: {asked:?}");
    }
}
