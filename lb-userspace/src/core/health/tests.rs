//! Health before backends that answer, refuse or are silent at given times; the clock is a number.
//!
//! Long because: one stage, and every rule of judgement played on it.

mod own_fault;
mod shared;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lb_common::abi::{BackendId, ServiceId};
use proptest::prelude::*;

use super::judge::Standing::{self, Checking, Down, Presumed, Standby, Up};
use super::observation::{Code, Facts, Failure, Observation, Outcome, Phase};
use super::{Health, Target};
use crate::core::config::{Check, Protocol};
use crate::core::members::Name;
use crate::core::world::Moment;

/// What a backend does with a check that begins at this millisecond.
#[derive(Clone, Debug)]
enum Manner {
    Answers(u64),
    Refuses,
    Silent,
    /// The network says that there is no way.
    Unreachable,
    /// Accepts the connection, and nothing more comes for so long.
    Hangs(u64),
    Replica,
    Denies,
    CannotBeAsked,
}
use Manner::{Answers, CannotBeAsked, Denies, Hangs, Refuses, Replica, Silent, Unreachable};

type Behaviour = Box<dyn Fn(u64) -> Manner>;

struct Stage {
    health: Health,
    backends: BTreeMap<BackendId, Behaviour>,
    base: Instant,
    clock: Duration,
    /// By the time they arrive: backend, number, what is seen.
    under_way: BTreeMap<(Duration, u64), (BackendId, Observation)>,
    begun: Vec<(u64, BackendId)>,
    /// Every change of standing, with its millisecond.
    changes: Vec<(u64, BackendId, Standing)>,
    known: BTreeMap<BackendId, Standing>,
    check: Check,
    /// How many packets each backend's clients have got by this millisecond.
    packets: fn(u64) -> u64,
}

fn tcp() -> Check {
    Check::implied(Protocol::Tcp).unwrap()
}

fn target(id: BackendId, service: ServiceId, check: &Check) -> (BackendId, Target) {
    let address = SocketAddr::new([198, 18, (id >> 8) as u8, id as u8].into(), 80);
    let target = Target {
        service,
        name: Name {
            service: service.to_string(),
            backend: id.to_string(),
        },
        address,
        fingerprint: u64::from(id) * 7919,
        check: check.clone(),
    };
    (id, target)
}

impl Stage {
    /// Backends by service.
    fn new(services: Vec<Vec<Behaviour>>, check: Check, presumed: bool) -> Self {
        let mut stage = Self {
            health: Health::default(),
            backends: BTreeMap::new(),
            base: Instant::now(),
            clock: Duration::ZERO,
            under_way: BTreeMap::new(),
            begun: Vec::new(),
            changes: Vec::new(),
            known: BTreeMap::new(),
            check,
            packets: |_| 0,
        };
        let mut targets = Vec::new();
        for (service, behaviours) in (1..).zip(services) {
            for behaviour in behaviours {
                let id = targets.len() as BackendId + 1;
                targets.push(target(id, service, &stage.check));
                stage.backends.insert(id, behaviour);
            }
        }
        stage.health.watch(targets, |_| presumed, stage.base);
        stage
    }

    fn one(behaviour: impl Fn(u64) -> Manner + 'static) -> Self {
        Self::new(vec![vec![Box::new(behaviour)]], tcp(), false)
    }

    fn standing(&self, id: BackendId) -> Standing {
        self.health.judge(id).unwrap().standing()
    }

    fn reason(&self, id: BackendId) -> &str {
        self.health.judge(id).unwrap().reason()
    }

    fn run(&mut self, until: u64) {
        let until = Duration::from_millis(until);
        loop {
            let arrives = self.under_way.first_key_value().map(|(&(at, _), _)| at);
            let due = self
                .health
                .next_deadline()
                .map(|at| at.saturating_duration_since(self.base).max(self.clock));
            let Some(next) = arrives.into_iter().chain(due).min().filter(|&next| next <= until) else {
                break;
            };
            self.clock = next;
            if arrives == Some(next) {
                let ((_, number), (id, observation)) = self.under_way.pop_first().unwrap();
                self.see(id, number, &observation);
            } else {
                self.ask();
            }
        }
        self.clock = until;
    }

    fn see(&mut self, id: BackendId, number: u64, observation: &Observation) {
        let now = Moment {
            monotonic: self.base + self.clock,
            wall: UNIX_EPOCH + self.clock,
        };
        let changed = self.health.observed(id, number, observation, now);
        if !(self.count() || changed) {
            return;
        }
        let at = self.clock.as_millis() as u64;
        for &id in self.backends.keys() {
            let Some(judge) = self.health.judge(id) else { continue };
            let standing = judge.standing();
            if self.known.insert(id, standing).unwrap_or(Checking) != standing {
                self.changes.push((at, id, standing));
            }
        }
    }

    /// True: somebody waited for it to be judged.
    fn count(&mut self) -> bool {
        let packets = (self.packets)(self.clock.as_millis() as u64);
        let packets = self.health.take_wanted().into_iter().map(|id| (id, packets));
        self.health.carried(&packets.collect(), self.base + self.clock)
    }

    fn ask(&mut self) {
        for launch in self.health.due(self.base + self.clock) {
            let at = self.clock.as_millis() as u64;
            self.begun.push((at, launch.backend));
            let (latency, phase, outcome) = match self.backends[&launch.backend](at) {
                Answers(latency) if latency < self.check.timeout.as_millis() as u64 => (
                    Duration::from_millis(latency),
                    Phase::Connect,
                    Outcome::Up(Facts::default()),
                ),
                Answers(_) | Silent => (self.check.timeout, Phase::Connect, failed("no answer in time", None)),
                Refuses => (
                    Duration::from_millis(1),
                    Phase::Connect,
                    failed("refused", Some(Code::Errno(111))),
                ),
                Unreachable => (
                    Duration::ZERO,
                    Phase::Connect,
                    failed("network is unreachable", Some(Code::Errno(101))),
                ),
                Hangs(time) => (
                    Duration::from_millis(time),
                    Phase::Request,
                    failed("no answer in time", None),
                ),
                Replica => {
                    let why = "is a replica".to_owned();
                    (
                        Duration::from_millis(1),
                        Phase::Query,
                        Outcome::Standby(why, Facts::default()),
                    )
                }
                Denies => (
                    Duration::from_millis(1),
                    Phase::Login,
                    failed("wrong password", Some(Code::Sql("28P01".to_owned()))),
                ),
                CannotBeAsked => (Duration::ZERO, Phase::Prepare, failed("too many open files", None)),
            };
            let observation = Observation {
                outcome,
                phase,
                latency,
            };
            self.under_way
                .insert((self.clock + latency, launch.number), (launch.backend, observation));
        }
        self.count();
    }

    fn doubt(&mut self, id: BackendId) {
        self.health.doubt(id, self.base + self.clock);
    }

    /// When the backend went into this state, after `from`.
    fn when(&self, id: BackendId, standing: Standing, from: u64) -> u64 {
        let found = self
            .changes
            .iter()
            .find(|(at, who, what)| *at >= from && (*who, *what) == (id, standing));
        found
            .unwrap_or_else(|| panic!("{id} never {standing:?} in {:?}", self.changes))
            .0
    }
}

fn failed(what: &str, code: Option<Code>) -> Outcome {
    let what = what.to_owned();
    Outcome::Failed(Failure { what, code })
}

/// Good until the given millisecond.
fn until(end: u64, manner: Manner) -> Behaviour {
    Box::new(move |at| if at < end { Answers(1) } else { manner.clone() })
}

#[test]
fn the_first_answer_opens_and_comes_at_once() {
    let mut stage = Stage::one(|_| Answers(1));
    assert_eq!((stage.standing(1), stage.reason(1)), (Checking, "not checked yet"));
    assert!(stage.health.is_undecided());
    stage.run(2);
    assert_eq!((stage.standing(1), stage.reason(1)), (Up, ""));
    assert!(!stage.health.is_undecided());
}

#[test]
fn a_dead_one_is_known_in_less_than_a_tenth_of_a_second_at_start() {
    let mut stage = Stage::one(|_| Refuses);
    stage.run(100);
    assert_eq!(stage.standing(1), Down);
    assert_eq!(stage.reason(1), "connect failed: refused (errno 111)");
    assert_eq!(stage.when(1, Down, 0), 61);
}

#[test]
fn one_lost_packet_means_nothing() {
    let lost = |at: u64| {
        if (5_000..5_040).contains(&at) || at % 977 < 20 {
            Silent
        } else {
            Answers(1)
        }
    };
    let mut stage = Stage::one(lost);
    stage.run(60_000);
    assert_eq!(stage.changes.len(), 1, "{:?}", stage.changes);
}

#[test]
fn a_fall_has_to_be_in_a_row() {
    let mut check = tcp();
    check.fall = 4;
    // Three that begin 30 ms apart meet a good third of each 90 ms at least once.
    let patchy = |at: u64| if at % 90 < 50 { Refuses } else { Answers(1) };
    let mut stage = Stage::new(vec![vec![Box::new(patchy)]], check, true);
    stage.run(20_000);
    let wrong = stage
        .changes
        .iter()
        .filter(|(_, _, standing)| *standing == Down)
        .count();
    let rows = stage.health.judge(1).unwrap().records().count();
    assert_eq!((wrong, rows), (0, 10), "{:?}", stage.changes);
}

/// Each time the server writes into its log.
#[test]
fn who_is_denied_asks_seldom_and_is_up_soon_after_it_is_put_right() {
    let mut stage = Stage::one(|at| match at {
        0..1_000 | 32_000.. => Answers(1),
        1_000..20_000 => Denies,
        _ => Refuses,
    });
    stage.run(19_900);
    let down = stage.when(1, Down, 1_000);
    assert!(down < 1_300, "{down}");
    let asked = |from, to| {
        let asked = stage.begun.iter().filter(|(at, _)| (from..to).contains(at));
        asked.count()
    };
    assert_eq!((asked(1_000, down + 1), asked(down + 1, 19_900)), (3, 3));
    assert_eq!(
        stage.reason(1),
        "login failed: wrong password (code 28P01); asked every 5s only"
    );
    // Another failure is asked about as ever, and so is the answer.
    stage.run(40_000);
    let asked = stage.begun.iter().filter(|(at, _)| (26_000..31_000).contains(at));
    assert!((20..30).contains(&asked.count()));
    let up = stage.when(1, Up, 32_000);
    assert!(up < 32_700, "{up}");
}

#[test]
fn recovery_takes_rise_answers() {
    let mut stage = Stage::one(|at| {
        if (1_000..3_000).contains(&at) {
            Refuses
        } else {
            Answers(1)
        }
    });
    stage.run(5_000);
    let up = stage.when(1, Up, 3_000);
    assert!((3_180..=3_450).contains(&up), "{up}");
}

#[test]
fn flapping_is_held_down_longer_and_longer() {
    // Half a second good, half a second bad, for two minutes.
    let mut stage = Stage::one(|at| if at % 1_000 < 500 { Answers(1) } else { Refuses });
    stage.run(120_000);
    let falls = stage
        .changes
        .iter()
        .filter(|(_, _, standing)| *standing == Down)
        .count();
    assert!((6..=10).contains(&falls), "{:?}", stage.changes);
}

#[test]
fn a_role_is_believed_at_the_first_word() {
    let mut stage = Stage::one(|at| {
        if (1_000..2_000).contains(&at) {
            Replica
        } else {
            Answers(1)
        }
    });
    stage.run(3_000);
    let (standby, up) = (stage.when(1, Standby, 1_000), stage.when(1, Up, 2_000));
    assert!(standby <= 1_222 && up <= 2_222, "{:?}", stage.changes);
    assert_eq!(stage.changes.len(), 3, "standing by is no failure: {:?}", stage.changes);
}

#[test]
fn a_check_that_cannot_be_made_changes_nothing_but_the_reason() {
    let mut stage = Stage::one(|at| if at < 1_000 { Answers(1) } else { CannotBeAsked });
    stage.run(5_000);
    assert_eq!(stage.standing(1), Up);
    assert_eq!(
        stage.reason(1),
        "cannot be checked: prepare failed: too many open files"
    );
}

#[test]
fn a_slow_server_is_not_a_dead_one() {
    let mut check = tcp();
    check.timeout = Duration::from_secs(1);
    // 800 ms of garbage collection, and later one of five seconds.
    let paused = |at: u64| match at {
        2_000..2_800 => Answers(2_800 - at),
        10_000..15_000 => Answers(15_000 - at),
        _ => Answers(5),
    };
    let mut stage = Stage::new(vec![vec![Box::new(paused)]], check, false);
    stage.run(9_000);
    assert_eq!(stage.changes.len(), 1, "{:?}", stage.changes);
    stage.run(12_000);
    let down = stage.when(1, Down, 10_000);
    assert!((11_000..=11_300).contains(&down), "{down}");
    stage.run(20_000);
    assert_eq!(stage.standing(1), Up);
}

#[test]
fn never_more_than_fall_checks_at_once() {
    let mut stage = Stage::one(|_| Silent);
    stage.check.timeout = Duration::from_secs(3600);
    stage.run(60_000);
    assert_eq!(stage.begun.len(), 3);
}

#[test]
fn what_is_known_survives_a_reload_and_what_is_served_survives_a_restart() {
    let mut stage = Stage::new(vec![vec![Box::new(|_| Refuses), Box::new(|_| Answers(1))]], tcp(), true);
    assert_eq!((stage.standing(1), stage.standing(2)), (Presumed, Presumed));
    stage.run(1_000);
    assert_eq!((stage.standing(1), stage.standing(2)), (Down, Up));
    let slower = Check {
        every: Duration::from_secs(1),
        ..tcp()
    };
    let now = stage.base + stage.clock;
    stage
        .health
        .watch([target(1, 1, &tcp()), target(2, 1, &slower)], |id| id == 2, now);
    assert_eq!((stage.standing(1), stage.standing(2)), (Down, Presumed));
    stage.health.watch([target(2, 1, &slower)], |_| false, now);
    assert!(stage.health.judge(1).is_none());
    assert_eq!(stage.standing(2), Presumed);
}

#[test]
fn late_results_of_a_judge_that_is_gone_are_nobodys() {
    let mut stage = Stage::one(|_| Refuses);
    stage.ask();
    let ((_, number), (id, late)) = stage.under_way.pop_first().unwrap();
    let impatient = Check { fall: 1, ..tcp() };
    stage.health.watch([target(1, 1, &impatient)], |_| false, stage.base);
    stage.ask();
    stage.see(id, number, &late);
    assert_eq!(stage.standing(1), Checking);
}

#[test]
fn many_are_asked_spread_over_their_interval() {
    let many = (0..1000).map(|_| -> Behaviour { Box::new(|_| Answers(1)) }).collect();
    let mut stage = Stage::new(vec![many], tcp(), false);
    stage.run(10_000);
    let in_a_second: Vec<u64> = stage
        .begun
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at >= 9_000)
        .collect();
    assert!((4_500..=5_500).contains(&in_a_second.len()), "{}", in_a_second.len());
    let busiest = (9_000..10_000)
        .map(|at| in_a_second.iter().filter(|&&begun| begun == at).count())
        .max();
    assert!(busiest.unwrap() <= 25, "{busiest:?} in one millisecond");
}

#[test]
fn when_very_many_are_due_answers_are_heard_in_between() {
    let (mut health, base, check) = (Health::default(), Instant::now(), tcp());
    health.watch((1..=200).map(|id| target(id, 1, &check)), |_| false, base);
    let late = base + Duration::from_secs(1);
    let mut begun = Vec::new();
    while health.next_deadline().is_some_and(|at| at <= late) {
        let launches = health.due(late);
        assert!(launches.len() <= 64);
        begun.extend(launches.iter().map(|launch| launch.backend));
    }
    begun.sort_unstable();
    assert!(begun.into_iter().eq(1..=200));
}

#[test]
fn a_node_that_hears_nobody_suspects_itself() {
    let cut_off = || -> Behaviour {
        Box::new(|at| {
            if (5_000..15_000).contains(&at) {
                Silent
            } else {
                Answers(1)
            }
        })
    };
    let services = vec![vec![cut_off(), cut_off()], vec![cut_off(), cut_off()], vec![cut_off()]];
    let mut stage = Stage::new(services, tcp(), false);
    stage.run(14_900);
    assert!(stage.health.suspects_itself().is_some());
    stage.run(20_000);
    assert!(stage.health.suspects_itself().is_none());
    assert_eq!(stage.changes.len(), 5, "each came up once: {:?}", stage.changes);
}

#[test]
fn the_death_of_one_host_is_not_the_nodes() {
    let good = || -> Behaviour { Box::new(|_| Answers(1)) };
    let services = vec![vec![until(5_000, Silent), good()], vec![good(), good()], vec![good()]];
    let mut stage = Stage::new(services, tcp(), false);
    stage.run(8_000);
    let down = stage.when(1, Down, 5_000);
    assert!(down <= 5_430, "{down}");
    assert!(stage.health.suspects_itself().is_none());
}

#[test]
fn when_some_are_heard_the_silent_ones_do_go_down() {
    let services = vec![
        vec![until(5_000, Silent)],
        vec![until(5_000, Silent)],
        vec![until(u64::MAX, Silent)],
    ];
    let mut stage = Stage::new(services, tcp(), false);
    stage.run(10_000);
    assert_eq!(
        (stage.standing(1), stage.standing(2), stage.standing(3)),
        (Down, Down, Up)
    );
    assert!(stage.when(1, Down, 5_000) <= 7_500, "{:?}", stage.changes);
}

#[test]
fn refusals_are_believed_however_many() {
    let services = vec![vec![until(5_000, Refuses)], vec![until(5_000, Refuses)]];
    let mut stage = Stage::new(services, tcp(), false);
    stage.run(5_300);
    assert_eq!((stage.standing(1), stage.standing(2)), (Down, Down));
}

/// The one check that had a connection when the node was cut off tells nothing of the time since, however late it ends.
/// A login was under way when the host was cut off: its server had said that it would answer.
#[test]
fn one_that_hangs_is_not_waited_for_when_others_meet_silence() {
    let mut before = Stage::one(|_| Answers(1));
    before.run(3_000);
    let cut = before.begun.iter().find(|(at, _)| *at >= 2_000).unwrap().0;
    let manner = move |at: u64| match at {
        at if at < cut => Answers(1),
        at if at == cut => Hangs(1_000),
        _ => Silent,
    };
    let mut stage = Stage::one(manner);
    stage.run(cut + 2_000);
    let took = stage.when(1, Down, cut) - cut;
    assert!(took <= 340, "{took}");
}

#[test]
fn a_check_that_waited_in_vain_is_no_word_of_a_backend() {
    let healthy = || -> Behaviour { Box::new(|_| Answers(1)) };
    let mut before = Stage::new(vec![vec![healthy()], vec![healthy()]], tcp(), false);
    before.run(3_000);
    let is_last = |(at, id): &&(u64, BackendId)| *at >= 2_000 && *id == 1;
    let cut = before.begun.iter().find(is_last).unwrap().0;
    let manner = move |at: u64| match at {
        at if at < cut => Answers(1),
        at if at == cut => Hangs(900),
        _ => Silent,
    };
    let mut stage = Stage::new(vec![vec![Box::new(manner)], vec![until(cut, Silent)]], tcp(), false);
    stage.run(cut + 800);
    assert!(stage.health.suspects_itself().is_some());
    stage.run(cut + 5_000);
    assert!(stage.health.suspects_itself().is_some());
    assert_eq!((stage.standing(1), stage.standing(2)), (Up, Up));
}

/// Checks begin every 200 ms, a twentieth more at most; a refusal is known after two more at 30 ms each, silence 150 ms
/// after the last of three began.
#[test]
fn wherever_in_the_interval_it_dies_it_is_known_in_time() {
    for death in (2_000..2_400).step_by(3) {
        for (manner, bound) in [(Refuses, 275), (Silent, 425)] {
            let mut stage = Stage::one(until(death, manner.clone()));
            stage.run(death + 1_000);
            let took = stage.when(1, Down, death) - death;
            assert!(took <= bound, "{manner:?} at {death} took {took}");
        }
    }
}

fn seldom() -> Check {
    Check {
        every: Duration::from_secs(30),
        ..tcp()
    }
}

#[test]
fn signs_of_trouble_bring_the_next_check_at_once() {
    for (manner, bound) in [(Refuses, 65), (Silent, 270)] {
        let mut stage = Stage::new(vec![vec![until(40_000, manner.clone())]], seldom(), false);
        stage.run(41_000);
        assert_eq!(stage.standing(1), Up);
        stage.doubt(1);
        stage.run(42_000);
        let took = stage.when(1, Down, 41_000) - 41_000;
        assert!(took <= bound, "{manner:?} took {took}");
    }
}

/// Whoever sends packets decides neither how often a backend is asked nor how it is judged.
#[test]
fn signs_alone_take_nobody_down() {
    let mut stage = Stage::new(vec![vec![Box::new(|_| Answers(1))]], seldom(), false);
    for at in 1_000..11_000 {
        stage.run(at);
        stage.doubt(1);
    }
    assert_eq!(stage.standing(1), Up);
    assert!((3..=5).contains(&stage.begun.len()), "{:?}", stage.begun);
    let mut gone = Stage::new(vec![vec![Box::new(|_| Refuses)]], seldom(), false);
    gone.run(1_000);
    let begun = gone.begun.len();
    gone.doubt(1);
    gone.run(2_000);
    assert_eq!((gone.standing(1), gone.begun.len()), (Down, begun));
}

proptest! {
    /// Whatever a backend does: no check is late, none is too many, and it ends as its last seconds were.
    #[test]
    fn it_ends_as_it_was(pattern in prop::collection::vec(0..5_u8, 1..40), last in 0..3_u8) {
        let manner = |kind: u8| match kind { 0 => Answers(3), 1 => Refuses, 2 => Silent, 3 => Answers(140), _ => CannotBeAsked };
        let length = pattern.len() as u64 * 70;
        let mut stage = Stage::one(move |at| manner(pattern.get((at / 70) as usize).copied().unwrap_or(last)));
        stage.run(length + 80_000);
        prop_assert_eq!(stage.standing(1), if last == 0 { Up } else { Down });
        let tail: Vec<u64> = stage.begun.iter().map(|(at, _)| *at).filter(|at| *at > length + 70_000).collect();
        prop_assert!(tail.windows(2).all(|pair| pair[1] - pair[0] <= 211), "{tail:?}");
    }

    /// Nothing here depends on more than its arguments.
    #[test]
    fn twice_the_same(seed in 0..1000_u64) {
        let play = || {
            let noisy = move |at: u64| if crate::core::fingerprint::mix(at ^ seed).is_multiple_of(3) { Silent } else { Answers(2) };
            let mut stage = Stage::one(noisy);
            stage.run(5_000);
            (stage.begun, stage.changes)
        };
        prop_assert_eq!(play(), play());
    }
}

#[test]
fn a_result_says_when_it_was() {
    let mut stage = Stage::one(|_| Answers(1));
    stage.run(5_000);
    let at: Vec<SystemTime> = stage
        .health
        .judge(1)
        .unwrap()
        .records()
        .map(|record| record.at)
        .collect();
    assert_eq!(at.len(), 10);
    assert!(at.is_sorted() && at[9] > UNIX_EPOCH + Duration::from_millis(4_700));
}
