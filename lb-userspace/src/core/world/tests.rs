//! The laws of the world, under any order of events. What an operator sees of it is in `tests/it/scenarios`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use lb_common::abi::BackendId;
use proptest::prelude::*;

use super::*;
use crate::core::config::parse;
use crate::core::desired::desired;
use crate::core::dns::{Answer, Family, Rank, Record, Wanted};
use crate::core::health::observation::{Code, Facts, Failure, Observation, Outcome, Phase};
use crate::core::members::Name;
use crate::core::network::{Device, KernelRoute, Link, Own, Prefix};
use crate::core::overrides::Change;
use crate::core::plan::carry_out;

/// What happens to a daemon; small numbers, so that things meet.
#[derive(Clone, Debug)]
enum Step {
    /// Each service as bits: its backends, and whether it is `HEAVY`.
    File(Vec<u8>),
    /// Known neighbours, as bits.
    Neighbours(u8),
    /// Flows end: those of backends in these bits.
    FlowsEnd(u8),
    Drain(usize),
    /// Those of these bits answer their checks, the others refuse.
    Answer(u8),
    /// New flows on those of these bits, until the next such step.
    Load(u8),
    Tick,
    Restart,
}

/// With great weights, and slow for those that come back.
const HEAVY: u8 = 16;

fn step() -> impl Strategy<Value = (Step, Vec<bool>)> {
    let step = prop_oneof![
        3 => proptest::collection::vec(prop_oneof![0..2 * HEAVY, Just(HEAVY | 15)], 0..3).prop_map(Step::File),
        2 => (0..16u8).prop_map(Step::Neighbours),
        3 => any::<u8>().prop_map(Step::FlowsEnd),
        1 => (0..4usize).prop_map(Step::Drain),
        4 => any::<u8>().prop_map(Step::Answer),
        2 => prop_oneof![any::<u8>(), Just(0)].prop_map(Step::Load),
        1 => Just(Step::Tick),
        1 => Just(Step::Restart),
    ];
    (step, proptest::collection::vec(proptest::bool::weighted(0.1), 0..12))
}

fn file(services: &[u8]) -> String {
    let service = |(number, bits): (usize, &u8)| {
        let backends = (0..4).filter(|bit| bits & (1 << bit) != 0);
        let backends: Vec<String> = backends.map(|bit| format!("\"198.18.1.1{bit}:80\"")).collect();
        let listen = format!("listen = \"198.18.0.100:{}\"", 80 + number);
        let mut service = format!("[service.s{number}]\n{listen}\nbackends = [{}]\n", backends.join(", "));
        let weights = |backends: &[String], weight| {
            let weights: Vec<String> = backends.iter().map(|name| format!("{name} = {weight}")).collect();
            format!("weights = {{ {} }}\n", weights.join(", "))
        };
        if bits & HEAVY != 0 {
            service += &(weights(&backends, 1000) + "slow_start = \"20s\"\n");
        }
        let alarm = format!(
            "[alarm.a{number}]\nservice = \"s{number}\"\nmetric = \"new_flows\"\nabove = 0\nperiod = \"1s\"\n\
             datapoints = \"1 of 1\"\nclear_after = \"1s\"\nramp = \"2s\"\n{}",
            weights(&backends[1..], 0)
        );
        // Of one backend alone it would be an error.
        service + if backends.len() > 1 { &alarm } else { "" }
    };
    services
        .iter()
        .enumerate()
        .filter(|(_, bits)| **bits % HEAVY != 0)
        .map(service)
        .collect()
}

fn network(neighbours: u8) -> Network {
    let link = |name: &str, last, address: &str| Link {
        name: name.into(),
        mac: [2, 0, 0, 0, 0, last],
        up: true,
        mtu: 1500,
        addresses: vec![Own::lasting(address.parse().unwrap(), 24)],
        xdp: None,
        device: Device::Card,
    };
    let on_link = |third, ifindex| {
        let route = KernelRoute {
            ifindex,
            gateway: None,
            source: None,
        };
        (
            Prefix {
                address: [198, 18, third, 0].into(),
                length: 24,
            },
            route,
        )
    };
    let known = (0..4u8).filter(|bit| neighbours & (1 << bit) != 0);
    Network {
        links: BTreeMap::from([
            (2, link("eth0", 0xa, "198.18.0.2")),
            (3, link("eth1", 0xb, "198.18.1.2")),
        ]),
        routes: BTreeMap::from([on_link(0, 2), on_link(1, 3)]),
        neighbours: known
            .map(|bit| ((3, [198, 18, 1, 10 + bit].into()), [2, 0, 0, 0, 1, bit]))
            .collect(),
    }
}

fn event(step: &Step, flows: &BTreeMap<BackendId, u64>) -> Event {
    match step {
        Step::File(services) => Event::Config(parse("naru.toml", &file(services)).map_err(|_| "bad".to_owned())),
        Step::Neighbours(bits) => Event::Network(network(*bits)),
        Step::FlowsEnd(_) => Event::FlowCounts(flows.clone()),
        Step::Drain(backend) => Event::Override {
            name: Name {
                service: "s0".into(),
                backend: format!("198.18.1.1{backend}:80"),
            },
            change: Change::Drain,
            by: "root".into(),
        },
        Step::Answer(_) | Step::Load(_) | Step::Tick | Step::Restart => Event::Tick,
    }
}

fn answer(world: &mut World, bits: u8, now: Moment) {
    for launch in world.take_launches() {
        let outcome = match bits & (1 << (launch.backend % 8)) {
            0 => Outcome::Failed(Failure::coded("connection refused", Code::Errno(111))),
            _ => Outcome::Up(Facts::default()),
        };
        let observation = Observation {
            outcome,
            phase: Phase::Connect,
            latency: Duration::from_millis(1),
        };
        world.handle(Event::Observed(vec![(launch, observation)]), now);
    }
}

/// A second of conclusions is followed by a second for checks.
#[test]
fn what_checks_tell_meanwhile_is_concluded_from_after_a_rest() {
    let start = Instant::now();
    let at = |seconds| Moment {
        monotonic: start + Duration::from_secs(seconds),
        wall: SystemTime::UNIX_EPOCH,
    };
    let mut world = World::adopt(&KernelState::default(), at(0));
    world.handle(Event::Network(network(u8::MAX)), at(0));
    world.handle(Event::Config(Ok(parse("naru.toml", &file(&[3])).unwrap())), at(0));
    world.handle(Event::Tick, at(1));
    let up = Observation {
        outcome: Outcome::Up(Facts::default()),
        phase: Phase::Connect,
        latency: Duration::from_millis(1),
    };
    let mut seen = world
        .take_launches()
        .into_iter()
        .map(|launch| vec![(launch, up.clone())]);
    let mut observed = || Event::Observed(seen.next().unwrap());
    let ups = |world: &World| {
        world
            .conditions()
            .values()
            .filter(|condition| condition.state == State::Up)
            .count()
    };

    assert!(world.handle(observed(), at(1)));
    world.handle(Event::Failures(Vec::new()), at(2));
    assert!(!world.handle(observed(), at(2)) && world.is_undecided());
    assert_eq!(ups(&world), 1);
    assert!(
        world
            .next_deadline()
            .is_some_and(|deadline| deadline <= at(3).monotonic)
    );
    assert!(world.handle(Event::Tick, at(3)) && !world.is_undecided());
    assert_eq!(ups(&world), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two daemons that see the same agree; whatever they want is safe; no alarm leaves a service without anybody; and
    /// while a backend has flows, its id is nobody else's.
    #[test]
    fn ids_last_as_long_as_flows(steps in proptest::collection::vec(step(), 1..40)) {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let at = |seconds| Moment { monotonic: start + Duration::from_secs(seconds), wall: wall + Duration::from_secs(seconds) };
        let mut actual = KernelState::default();
        let mut worlds = [World::adopt(&actual, at(0)), World::adopt(&actual, at(0))];
        let mut owners: BTreeMap<BackendId, u64> = BTreeMap::new();
        let (mut load, mut counted) = (0, Counted::default());
        for (seconds, (step, fails)) in (1..).zip(steps) {
            let now = at(seconds);
            if let Step::FlowsEnd(bits) = &step {
                owners.retain(|id, _| bits & (1 << (id % 8)) == 0);
            }
            if let Step::Load(bits) = step {
                load = bits;
            }
            for id in worlds[0].metered() {
                counted.traffic.entry(id).or_default().new_flows += u64::from(load >> (id % 8)) & 1;
            }
            let flows = owners.keys().map(|&id| (id, 1)).collect();
            for world in &mut worlds {
                if let Step::Restart = step {
                    *world = World::adopt(&actual, now);
                }
                world.handle(event(&step, &flows), now);
                if let Step::Answer(bits) = step {
                    answer(world, bits, now);
                }
                world.handle(Event::Counted(counted.clone()), now);
                world.handle(Event::Tick, now);
            }
            for (id, condition) in worlds[0].conditions() {
                // Of these services nobody stands by but for an alarm.
                let service = worlds[0].members().backends[id].service;
                prop_assert!(condition.state != State::Standby || !worlds[0].slots(service).is_empty());
            }
            let goal = desired(&worlds[0]);
            prop_assert_eq!(&goal, &desired(&worlds[1]));
            prop_assert_eq!(goal.unsafe_reason(), None);
            let mut fails = fails.into_iter();
            let failures = carry_out(&mut actual, &goal, |_| if fails.next() == Some(true) { Err("no") } else { Ok(()) });
            for world in &mut worlds {
                world.handle(Event::Failures(failures.clone()), now);
                let retry = world.next_deadline().is_some_and(|at| at <= now.monotonic + RETRY);
                prop_assert!(retry || failures.is_empty());
            }
            for (id, owner) in &owners {
                prop_assert_eq!(actual.backends.get(id).map(|backend| backend.fingerprint), Some(*owner));
            }
            // Every backend with a slot gets a flow.
            for id in actual.slots.values().flatten() {
                owners.entry(*id).or_insert(actual.backends[id].fingerprint);
            }
        }
    }
}

#[test]
fn a_wrong_name_is_answered_with_the_right_ones() {
    let now = Moment {
        monotonic: Instant::now(),
        wall: SystemTime::UNIX_EPOCH,
    };
    let mut world = World::adopt(&KernelState::default(), now);
    world.handle(Event::Config(Ok(parse("naru.toml", &file(&[3])).unwrap())), now);
    let find = |service: &str, backend: &str| {
        let found = world.find(&Name {
            service: service.into(),
            backend: backend.into(),
        });
        found.map_err(|unknown| unknown.to_string())
    };
    assert_eq!(find("s0", "198.18.1.10:80"), Ok(()));
    assert_eq!(
        find("s1", "198.18.1.10:80").unwrap_err(),
        "no service \"s1\"; there are: s0"
    );
    assert_eq!(
        find("s0", "x").unwrap_err(),
        "service \"s0\" has no backend \"x\"; it has: 198.18.1.10:80, 198.18.1.11:80"
    );
}

/// Whoever reports what became of a plan acts on no answer: what is to be done then must not be lost.
#[test]
fn an_address_never_leaves_while_nobody_would_act_on_it() {
    let begun = Instant::now();
    let at = |millis| Moment {
        monotonic: begun + Duration::from_millis(millis),
        wall: SystemTime::UNIX_EPOCH,
    };
    let file = "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"app.example:80\"]\n";
    let question = Question::new("app.example", Family::Ipv4, Wanted::Addresses);
    let answer = |last| {
        let found = crate::core::dns::Found {
            records: vec![(Record::Address([198, 18, 1, last].into()), Rank::default())],
            ttl: Duration::from_secs(1),
            server: ([198, 18, 0, 53], 53).into(),
            authoritative: true,
            name: "app.example".to_owned(),
            instead_of: None,
        };
        Event::Resolved(question.clone(), Answer::Found(found))
    };
    let mut world = World::adopt(&KernelState::default(), at(0));
    world.handle(Event::Network(network(0b1111)), at(0));
    world.handle(Event::Config(Ok(parse("naru.toml", file).unwrap())), at(0));
    assert_eq!(world.take_questions(), std::slice::from_ref(&question));
    assert!(world.handle(answer(10), at(0)) && world.handle(answer(11), at(500)));
    let serving = |world: &World| {
        let members = world.members().backends.values();
        members.filter(|member| member.leaving.is_none()).count()
    };
    assert!(!world.handle(Event::Failures(vec![]), at(900)));
    assert_eq!(serving(&world), 2);
    assert!(world.next_deadline() <= Some(at(900).monotonic));
    assert!(world.handle(Event::Tick, at(900)));
    assert_eq!(serving(&world), 1);
}
