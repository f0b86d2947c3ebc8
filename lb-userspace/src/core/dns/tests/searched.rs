//! Names that a search finds, now as this and now as that.

use super::*;

/// With a record, under this name.
pub fn found_as(name: &str) -> Answer {
    place_as(11, name, None)
}

fn place_as(place: u8, name: &str, instead_of: Option<Nothing>) -> Answer {
    let Answer::Found(found) = found(vec![address(place)], Duration::from_secs(1)) else {
        unreachable!()
    };
    Answer::Found(Found {
        name: name.to_owned(),
        instead_of,
        ..found
    })
}

#[test]
fn a_search_that_finds_another_moves_when_it_is_believed_that_the_one_before_is_gone() {
    let mut play = Play::new();
    assert_eq!(
        texts(&play.answer(place_as(11, "app.example", None))),
        ["198.18.1.11 from now on"]
    );
    let instead = || place_as(12, "app.example.b", Some(Nothing::NoName));
    let since = play.clock;
    while play.clock < since + Duration::from_secs(10) {
        play.answer(instead());
        assert_eq!(play.places(), [11]);
        assert_eq!(
            play.trouble().as_deref(),
            Some("there is no such name; keeping its address")
        );
        play.wait();
    }
    let change = play.answer(instead());
    let told = [
        "stands for app.example.b from now on",
        "198.18.1.12 from now on",
        "is resolved again",
    ];
    assert_eq!(texts(&change), told);
    assert_eq!(play.places(), [11, 12], "no moment without a backend");
    play.let_go(|_| true);
    assert_eq!(play.places(), [12]);
    // Of a name that has appeared and comes first nobody waits for anything.
    let change = play.answer(place_as(13, "app.example.a", None));
    assert_eq!(
        texts(&change),
        ["stands for app.example.a from now on", "198.18.1.13 from now on"]
    );
    // What led in a search goes on to after a restart.
    let (known, mut after) = (play.names.known(), Names::default());
    after.recall(known);
    after.follow([play.question.clone()].into(), play.now());
    assert_eq!(after.found_as(&play.question), Some("app.example.a"));
}
