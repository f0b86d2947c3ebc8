//! A name that is not absolute: its candidates are asked about one after another, until it is known which of them it is.
//!
//! - The first that has records is it.
//! - One that fails might be it. None after it takes its place, or backends would move for a name server's trouble;
//!   only the one that led before goes on to lead.
//! - Where that one has nothing any more, the next is not believed at once: that is for `name`.
//!
//! Never asks anybody. Tested here.

use std::collections::VecDeque;

use super::replies::both;
use super::{Answer, Found, Nothing};

pub struct Search {
    /// Not asked about yet, in the order in which they count.
    left: VecDeque<String>,
    are_several: bool,
    /// The one that led before.
    kept: Option<String>,
    /// What that says, where it has nothing.
    lost: Option<Nothing>,
    /// What all say so far; None: nobody was asked.
    outcome: Option<Answer>,
}

impl Search {
    pub fn new(candidates: Vec<String>, kept: Option<String>) -> Self {
        Self {
            are_several: candidates.len() > 1,
            left: candidates.into(),
            kept,
            lost: None,
            outcome: None,
        }
    }

    /// Who is to be asked about; None: it is known what comes of it.
    pub fn ask(&mut self) -> Option<String> {
        match self.outcome {
            Some(Answer::Found(_)) => None,
            Some(Answer::Failed(_)) => {
                let place = self.left.iter().position(|name| Some(name) == self.kept.as_ref())?;
                self.left.drain(..=place).next_back()
            }
            Some(Answer::Nothing(..)) | None => self.left.pop_front(),
        }
    }

    pub fn heard(&mut self, name: &str, answer: Answer) {
        self.outcome = Some(match (self.outcome.take(), answer) {
            (_, Answer::Found(found)) => Answer::Found(Found {
                instead_of: self.lost,
                ..found
            }),
            (Some(failed @ Answer::Failed(_)), _) => failed,
            (_, Answer::Failed(why)) if self.are_several => Answer::Failed(format!("{name}: {why}")),
            (_, Answer::Failed(why)) => Answer::Failed(why),
            (before, Answer::Nothing(what, ttl)) => {
                if self.kept.as_deref() == Some(name) {
                    self.lost = Some(what);
                }
                let before = match before {
                    Some(Answer::Nothing(what, ttl)) => Some((what, ttl)),
                    _ => None,
                };
                let (what, ttl) = both(before, (what, ttl));
                Answer::Nothing(what, ttl)
            }
        });
    }

    pub fn end(self) -> Answer {
        let nobody = || Answer::Failed("it cannot be a name, whatever is searched".to_owned());
        self.outcome.unwrap_or_else(nobody)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::core::dns::tests::searched::found_as;

    const LIFE: Duration = Duration::from_secs(5);
    const NAMES: [&str; 4] = ["db.a", "db.b", "db.c", "db"];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Says {
        Here,
        Empty,
        Broken,
    }
    use Says::{Broken, Empty, Here};

    /// What comes of it, and who was asked about.
    fn search(says: &[Says], kept: Option<usize>) -> (Answer, Vec<String>) {
        let names = NAMES.map(str::to_owned)[..says.len()].to_vec();
        let mut search = Search::new(names.clone(), kept.map(|place| NAMES[place].to_owned()));
        let mut asked = Vec::new();
        while let Some(name) = search.ask() {
            let place = names.iter().position(|one| *one == name).unwrap();
            search.heard(
                &name,
                match says[place] {
                    Here => found_as(&name),
                    Empty => Answer::Nothing(Nothing::NoName, LIFE),
                    Broken => Answer::Failed("SERVFAIL".to_owned()),
                },
            );
            asked.push(name);
        }
        (search.end(), asked)
    }

    fn found(place: usize, instead_of: Option<Nothing>) -> Answer {
        let Answer::Found(found) = found_as(NAMES[place]) else {
            unreachable!()
        };
        Answer::Found(Found { instead_of, ..found })
    }

    fn failed(why: &str) -> Answer {
        Answer::Failed(why.to_owned())
    }

    #[test]
    fn the_first_that_has_records_is_it_and_nobody_after_it_is_asked_about() {
        assert_eq!(search(&[Here, Here], None), (found(0, None), vec!["db.a".to_owned()]));
        assert_eq!(search(&[Empty, Here, Here], None).0, found(1, None));
        // Also where another led before.
        assert_eq!(search(&[Here, Here], Some(1)).0, found(0, None));
    }

    #[test]
    fn one_that_fails_is_not_passed_over_but_for_the_one_that_led_before() {
        assert_eq!(search(&[Broken, Here], None).0, failed("db.a: SERVFAIL"));
        assert_eq!(search(&[Empty, Broken, Here], None).0, failed("db.b: SERVFAIL"));
        let (answer, asked) = search(&[Broken, Here, Here], Some(2));
        assert_eq!(
            (answer, asked),
            (found(2, None), vec!["db.a".to_owned(), "db.c".to_owned()])
        );
        assert_eq!(search(&[Broken, Here, Empty], Some(2)).0, failed("db.a: SERVFAIL"));
        assert_eq!(search(&[Here, Broken], Some(1)).0, found(0, None));
    }

    #[test]
    fn that_the_one_that_led_has_nothing_is_told() {
        assert_eq!(search(&[Empty, Here], Some(0)).0, found(1, Some(Nothing::NoName)));
        assert_eq!(
            search(&[Empty, Empty, Here], Some(1)).0,
            found(2, Some(Nothing::NoName))
        );
        assert_eq!(search(&[Empty, Here], Some(3)).0, found(1, None));
    }

    #[test]
    fn nothing_is_the_word_of_all() {
        assert_eq!(
            search(&[Empty, Empty], Some(0)).0,
            Answer::Nothing(Nothing::NoName, LIFE)
        );
        assert_eq!(search(&[Empty, Broken], None).0, failed("db.b: SERVFAIL"));
        // A single one needs no name beside its trouble.
        assert_eq!(search(&[Broken], None).0, failed("SERVFAIL"));
        assert!(matches!(search(&[], None).0, Answer::Failed(_)));
    }

    proptest! {
        /// Trouble with a name server never makes another candidate lead.
        #[test]
        fn a_failure_never_moves_anybody(
            says in prop::collection::vec(prop_oneof![Just(Here), Just(Empty), Just(Broken)], 1..=4),
            kept in prop::option::of(0_usize..4),
            broken in 0_usize..4,
        ) {
            let leads = |says: &[Says]| match search(says, kept).0 {
                Answer::Found(found) => Some(found.name),
                _ => None,
            };
            let mut trouble = says.clone();
            if let Some(says) = trouble.get_mut(broken) {
                *says = Broken;
            }
            let kept = kept.map(|place| NAMES[place].to_owned());
            let (before, after) = (leads(&says), leads(&trouble));
            prop_assert!(after.is_none() || after == before || after == kept, "{before:?}, then {after:?}");
        }
    }
}
