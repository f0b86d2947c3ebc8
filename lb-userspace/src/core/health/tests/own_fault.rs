//! What is the node's own fault: its way is gone, or it has too much to do.

use super::*;
use crate::core::fingerprint::mix;
use crate::core::next_hops::Path;

const WAY: Path = Path {
    ifindex: 3,
    next: std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 1)),
    source: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 2))),
};

impl Stage {
    fn way(&mut self, at: u64, way: Option<Path>) {
        self.run(at);
        self.health.look_at_ways(|_| way, self.base + self.clock);
    }

    fn is_overloaded(&self) -> bool {
        self.health.is_overloaded_until().is_some()
    }

    fn downs(&self) -> usize {
        self.changes.iter().filter(|(_, _, standing)| *standing == Down).count()
    }
}

fn two(behaviour: impl Fn(u64) -> Manner + Clone + 'static) -> Stage {
    Stage::new(
        vec![vec![Box::new(behaviour.clone()), Box::new(behaviour)]],
        tcp(),
        false,
    )
}

/// As long as it is away, however often, and while its neighbours are found again.
#[test]
fn nobody_falls_while_the_nodes_own_way_is_gone_and_nobody_is_held_down_for_it() {
    let mut stage = two(|at| match at {
        5_000..100_000 if at % 10_000 < 4_000 => Silent,
        _ => Answers(1),
    });
    stage.way(0, Some(WAY));
    for glitch in (10_000..100_000).step_by(10_000) {
        // The news comes a little later.
        stage.way(glitch + 100, None);
        stage.way(glitch + 2_500, Some(WAY));
    }
    stage.run(110_000);
    assert_eq!(stage.downs(), 0, "{:?}", stage.changes);
}

#[test]
fn an_error_that_says_unreachable_is_known_as_late_as_silence() {
    let mut stage = Stage::one(until(5_000, Unreachable));
    stage.run(6_000);
    let took = stage.when(1, Down, 5_000) - 5_000;
    assert!((150..=425).contains(&took), "{took}");
    // So there is time to hear that it is the node's own way.
    let mut stage = Stage::one(|at| {
        if (5_000..6_000).contains(&at) {
            Unreachable
        } else {
            Answers(1)
        }
    });
    stage.way(0, Some(WAY));
    stage.way(5_140, None);
    stage.way(6_050, Some(WAY));
    stage.run(10_000);
    assert_eq!(stage.downs(), 0);
}

#[test]
fn who_died_meanwhile_is_down_after_the_grace_and_who_refuses_at_once() {
    for (manner, least, most) in [(Silent, 3_000, 3_430), (Refuses, 0, 280)] {
        let mut stage = Stage::one(until(10_000, manner));
        stage.way(0, Some(WAY));
        stage.way(10_000, None);
        stage.way(11_000, Some(WAY));
        stage.run(20_000);
        let down = stage.when(1, Down, 0);
        if least > 0 {
            assert!((11_000 + least..=11_000 + most).contains(&down), "{down}");
        } else {
            // Even before: that is an answer.
            assert!(down <= 10_000 + most, "{down}");
        }
    }
}

#[test]
fn what_the_way_was_before_tells_nothing_of_those_that_are_asked_over_it_now() {
    let mut stage = Stage::one(until(12_000, Silent));
    stage.way(0, Some(WAY));
    stage.way(10_000, None);
    stage.way(11_000, Some(WAY));
    stage.run(20_000);
    // It answered over the way that came back, so nothing is excused any more.
    let took = stage.when(1, Down, 12_000) - 12_000;
    assert!(took <= 425, "{took}");
}

#[test]
fn a_check_where_no_way_ever_was_fails_as_ever() {
    let mut stage = Stage::one(|_| Unreachable);
    stage.way(0, None);
    stage.run(1_000);
    assert_eq!(stage.standing(1), Down);
}

#[test]
fn all_that_serve_their_clients_are_spared_when_all_lose_their_checks() {
    let mut stage = two(|at| {
        if (5_000..15_000).contains(&at) {
            Silent
        } else {
            Answers(1)
        }
    });
    stage.packets = |at| at / 20;
    stage.run(14_900);
    assert!(stage.is_overloaded());
    stage.run(20_000);
    assert_eq!(stage.downs(), 0, "{:?}", stage.changes);
    assert!(stage.health.calms_down(stage.base + stage.clock) && !stage.is_overloaded());
}

#[test]
fn those_that_serve_nobody_go_down_as_ever() {
    let mut stage = two(|at| if at < 5_000 { Answers(1) } else { Silent });
    stage.packets = |at| at.min(5_000);
    stage.run(6_000);
    assert_eq!(stage.downs(), 2);
    assert!(stage.when(2, Down, 5_000) <= 5_430);
}

#[test]
fn nobody_is_spared_for_longer_than_half_a_minute() {
    let mut stage = two(|at| if at < 5_000 { Answers(1) } else { Silent });
    stage.packets = |at| at;
    stage.run(34_000);
    assert_eq!(stage.downs(), 0, "{:?}", stage.changes);
    stage.run(36_000);
    assert_eq!(stage.downs(), 2, "{:?}", stage.changes);
}

#[test]
fn a_refusal_is_believed_whatever_is_still_served() {
    let mut stage = two(|at| if at < 5_000 { Answers(1) } else { Refuses });
    stage.packets = |at| at;
    stage.run(5_300);
    assert_eq!(stage.downs(), 2);
}

/// It serves old connections, and accepts no new ones.
#[test]
fn one_that_hangs_beside_others_that_do_not_is_down_in_time() {
    let good = || -> Behaviour { Box::new(|_| Answers(1)) };
    for (hanging, bound) in [(1, 430), (2, 430), (3, 3_500)] {
        let mut backends: Vec<Behaviour> = (0..hanging).map(|_| until(5_000, Silent)).collect();
        backends.push(good());
        let mut stage = Stage::new(vec![backends], tcp(), false);
        stage.packets = |at| at;
        stage.run(10_000);
        for id in 1..=hanging {
            let took = stage.when(id, Down, 5_000) - 5_000;
            assert!(took <= bound, "{id} of {hanging} took {took}");
        }
    }
}

/// A loop that is late finds answers late, and misses them.
#[test]
fn a_node_that_is_late_spares_who_serves_for_a_moment() {
    let mut stage = Stage::one(until(5_000, Silent));
    stage.packets = |at| at;
    for at in (5_000..10_000).step_by(500) {
        stage.run(at);
        let late = stage.base + stage.clock;
        stage
            .health
            .overload
            .see_lateness(late - Duration::from_millis(60), late);
    }
    let took = stage.when(1, Down, 5_000) - 5_000;
    assert!((3_000..=3_500).contains(&took), "{took}");
}

proptest! {
    /// As in a flood: of each check it is chance whether it comes through. Before others have lost any one may fall.
    #[test]
    fn chance_never_takes_all_down_that_serve(seed: u64, lost in 4..10_u64, backends in 2..6_usize) {
        let flooded = |which: u64| -> Behaviour {
            Box::new(move |at| {
                let is_lost = (5_000..35_000).contains(&at) && mix(mix(at ^ seed) ^ which) % 10 < lost;
                if is_lost { Silent } else { Answers(2) }
            })
        };
        let mut stage = Stage::new(vec![(0..backends as u64).map(flooded).collect()], tcp(), false);
        stage.packets = |at| at / 50;
        stage.run(40_000);
        let mut down = std::collections::BTreeSet::new();
        for (_, id, standing) in &stage.changes {
            let _is_news = if *standing == Down { down.insert(*id) } else { down.remove(id) };
            prop_assert!(down.len() < backends, "{:?}", stage.changes);
        }
    }
}
