//! One address under several names, and one that is held down.

use super::*;
use crate::core::config::Ask;

fn alike(id: BackendId, service: ServiceId, check: &Check) -> (BackendId, Target) {
    let (_, mut target) = target(id, service, check);
    target.address = ([198, 18, 0, 99], 80).into();
    (id, target)
}

impl Stage {
    fn watch(&mut self, targets: &[(BackendId, Target)]) {
        let now = self.base + self.clock;
        self.health.watch(targets.iter().cloned(), |_| false, now);
    }
}

#[test]
fn what_is_known_of_an_address_is_known_of_each_of_its_names() {
    let mut stage = Stage::one(until(5_000, Refuses));
    let check = tcp();
    stage.watch(&[alike(1, 1, &check), alike(2, 1, &check), alike(3, 2, &check)]);
    stage.run(4_000);
    assert!((1..=3).all(|id| stage.standing(id) == Up));
    assert!(stage.begun.iter().all(|(_, id)| *id == 1), "it is asked once for all");
    stage.run(5_300);
    assert!((1..=3).all(|id| stage.standing(id) == Down));
    stage.watch(&[alike(1, 1, &check), alike(4, 3, &check)]);
    assert_eq!(
        (stage.standing(4), stage.reason(4)),
        (Down, "connect failed: refused (errno 111)")
    );
}

/// It is asked as another one from then on, and what was under way is nobody's.
#[test]
fn it_is_known_also_when_the_name_that_was_asked_goes() {
    let mut stage = Stage::one(|_| Refuses);
    stage
        .backends
        .insert(2, Box::new(|at| if at < 3_000 { Refuses } else { Answers(1) }));
    let check = tcp();
    stage.watch(&[alike(1, 1, &check), alike(2, 1, &check)]);
    stage.run(2_000);
    stage.ask();
    stage.watch(&[alike(2, 1, &check)]);
    assert!(stage.health.judge(1).is_none());
    assert_eq!(stage.standing(2), Down);
    stage.run(3_000);
    assert_eq!(stage.standing(2), Down);
    stage.run(3_500);
    assert_eq!(stage.standing(2), Up);
}

#[test]
fn another_check_or_a_program_is_another_question() {
    let mut stage = Stage::one(|_| Answers(1));
    stage.backends.insert(2, Box::new(|_| Refuses));
    let (check, impatient) = (tcp(), Check { fall: 1, ..tcp() });
    stage.watch(&[alike(1, 1, &check), alike(2, 1, &impatient)]);
    stage.run(100);
    assert_eq!((stage.standing(1), stage.standing(2)), (Up, Down));
    let program = Check {
        ask: Ask::Exec(vec!["/bin/true".to_owned()]),
        ..tcp()
    };
    stage.watch(&[alike(1, 1, &program), alike(2, 2, &program)]);
    stage.run(1_000);
    assert_eq!(
        (stage.standing(1), stage.standing(2)),
        (Up, Down),
        "it is told whom it is asked for"
    );
}

/// One that is held down is asked, and falls, as one that serves: it may be the one that does.
#[test]
fn one_that_is_held_down_and_answers_falls_by_failures_in_a_row_only() {
    let flapping = |at: u64| match at {
        1_000..1_800 | 3_000..3_800 | 5_000..5_800 => Refuses,
        _ => Answers(1),
    };
    let is_held = |stage: &Stage| stage.health.judge(1).unwrap().is_held();
    let mut before = Stage::one(flapping);
    before.run(6_900);
    assert!(is_held(&before) && before.standing(1) == Down);
    let check = before.begun.iter().find(|(at, _)| *at >= 6_500).unwrap().0;
    for (failing, held) in [(10, true), (500, false)] {
        let manner = move |at| {
            if (check..check + failing).contains(&at) {
                Refuses
            } else {
                flapping(at)
            }
        };
        let mut stage = Stage::one(manner);
        stage.run(check + 150);
        assert_eq!(
            (is_held(&stage), stage.standing(1)),
            (held, Down),
            "failing for {failing} ms"
        );
    }
}
