//! What holds for several nodes whatever happens to them, on networks that are good, bad, or divided.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lb_tests::packets::Random;
use lb_tests::vrrp::laws;
use lb_tests::vrrp::net::Quality;
use lb_userspace::core::vrrp::command::What;
use lb_userspace::core::vrrp::settings::LEAST_FIT;
use lb_userspace::core::vrrp::track::Tracked;

use super::trouble::*;

/// On so many networks; and somebody serves for a second of each on average, or it would say nothing.
pub fn nobody_ever_serves_twice(networks: u64, terms: impl Fn(&mut Random) -> Terms) {
    let served: Duration = (0..networks).map(|seed| nobody_serves_twice(seed, &terms)).sum();
    assert!(
        served > Duration::from_secs(networks),
        "somebody served for {served:?} in all"
    );
}

/// Nodes freeze, die and come back at any time. How long somebody served.
fn nobody_serves_twice(seed: u64, terms: impl Fn(&mut Random) -> Terms) -> Duration {
    let mut served = Duration::ZERO;
    let mut random = Random(seed);
    let terms = terms(&mut random);
    let quality = good(&mut random, terms.interval);
    let mut net = net(&mut random, &terms, quality);
    let mut troubles = Vec::new();
    for _ in 0..60 {
        let pause = terms.interval * random.below(200) as u32 / 10;
        let (from, until) = (net.clock, net.clock + pause);
        net.pass(until, |net| {
            let servers = net.servers(address());
            assert!(
                servers.len() < 2,
                "seed {seed}, at {:?}: {servers:?}\n{}\n{}",
                net.clock,
                troubles.join("\n"),
                told(net)
            );
        });
        served += if net.servers(address()).is_empty() {
            Duration::ZERO
        } else {
            net.clock - from
        };
        troubles.push(trouble(&mut net, &mut random, &terms));
    }
    served
}

#[test]
fn on_a_good_network_no_two_nodes_ever_serve_an_address() {
    nobody_ever_serves_twice(400, Terms::open);
}

/// Whatever happened before: on any network that loses less than one advert in twenty.
#[test]
fn in_the_end_there_is_one_master_and_it_stays() {
    for seed in 0..200 {
        let mut random = Random(1000 + seed);
        let terms = if seed % 2 == 0 { Terms::open } else { Terms::with_key }(&mut random);
        let interval = terms.interval;
        let bad = Quality {
            delay: (micros(20), interval / 3),
            loss: 20,
            lag: interval / 4,
        };
        let mut net = net(&mut random, &terms, bad);
        for _ in 0..40 {
            let pause = interval * random.below(100) as u32 / 10;
            net.pass(net.clock + pause, |_| {});
            trouble(&mut net, &mut random, &terms);
            let count = net.nodes.len() as u64;
            let wire = (random.below(count) as usize, random.below(count) as usize);
            if random.one_in(2) {
                net.cut.insert(wire);
            } else {
                net.cut.remove(&wire);
            }
        }
        all_well(&mut net);
        net.quality = Quality {
            delay: (micros(20), micros(500)),
            loss: 0,
            lag: micros(50),
        };
        // A master that was deaf is let be for ten seconds.
        net.pass(net.clock + Duration::from_secs(12), |_| {});
        let (before, events) = (masters(&net), net.log.len());
        assert_eq!(before.len(), 1, "seed {seed}\n{}", told(&net));
        assert_eq!(net.servers(address()), before, "seed {seed}\n{}", told(&net));
        net.pass(net.clock + Duration::from_secs(5), |_| {});
        let later = net.log[events..].iter();
        let moved = later.filter(|event| matches!(event.command.what, What::Moved(_)));
        assert_eq!(moved.count(), 0, "seed {seed}\n{}", told(&net));
        assert_eq!(masters(&net), before);
    }
}

/// Whatever happened before: where anybody serves clients, the master does, and it stays.
#[test]
fn in_the_end_the_master_is_one_that_serves() {
    for seed in 0..200 {
        let mut random = Random(4000 + seed);
        let terms = if seed % 2 == 0 { Terms::open } else { Terms::with_key }(&mut random);
        let mut net = net(&mut random, &terms, good(&mut Random(seed), terms.interval));
        for _ in 0..30 {
            let pause = terms.interval * random.below(100) as u32 / 10;
            net.pass(net.clock + pause, |_| {});
            trouble(&mut net, &mut random, &terms);
        }
        all_well(&mut net);
        let mut fit = Vec::new();
        for node in 0..net.nodes.len() {
            let mut settings = settings(&mut random, &terms);
            settings.priority = settings.priority.max(LEAST_FIT);
            net.want(node, vec![settings]);
            let now = net.now();
            // An operator's word counts before all else.
            net.tell(node, |vrrp| vrrp.failback("main", now));
            let is_unfit = random.one_in(2);
            let tracked = Tracked {
                is_unfit,
                ..Tracked::default()
            };
            net.pass(net.clock + terms.interval * random.below(10) as u32, |_| {});
            let now = net.now();
            net.tell(node, |vrrp| vrrp.weigh("main", tracked, now));
            fit.extend((!is_unfit).then_some(node));
        }
        // A master that was deaf is let be for ten seconds.
        net.pass(net.clock + Duration::from_secs(12), |_| {});
        let (before, events) = (masters(&net), net.log.len());
        assert_eq!(before.len(), 1, "seed {seed}\n{}", told(&net));
        assert_eq!(net.servers(address()), before, "seed {seed}\n{}", told(&net));
        assert!(
            fit.is_empty() || fit.contains(&before[0]),
            "seed {seed}: {fit:?} serve\n{}",
            told(&net)
        );
        net.pass(net.clock + Duration::from_secs(5), |_| {});
        let later = net.log[events..].iter();
        let moved = later.filter(|event| matches!(event.command.what, What::Moved(_)));
        assert_eq!(moved.count(), 0, "seed {seed}\n{}", told(&net));
    }
}

/// Of two sides that each had a master: one yields within an interval, and the other is announced anew.
#[test]
fn a_divided_network_heals_within_an_interval() {
    for seed in 0..100 {
        let mut random = Random(2000 + seed);
        let terms = if seed % 2 == 0 { Terms::open } else { Terms::with_key }(&mut random);
        let interval = terms.interval;
        let quality = Quality {
            delay: (micros(20), micros(400)),
            loss: 0,
            lag: micros(100),
        };
        let mut net = net(&mut random, &terms, quality);
        for (node, last) in [(0, 100), (1, 200)] {
            let mut settings = settings(&mut random, &terms);
            settings.priority = last;
            net.want(node, vec![settings]);
        }
        net.kill(net.nodes.len() - 1);
        net.start(net.nodes.len() - 1);
        net.cut.extend([(0, 1), (1, 0), (0, 2), (2, 0)]);
        net.pass(Duration::from_secs(3), |_| {});
        assert!(
            net.servers(address()).len() == 2,
            "seed {seed}: each side has one\n{}",
            told(&net)
        );
        net.cut.clear();
        let (healed, events) = (net.clock, net.log.len());
        let mut last = healed;
        net.pass(healed + Duration::from_secs(5), |net| {
            if net.servers(address()).len() > 1 {
                last = net.clock;
            }
        });
        assert!(
            last <= healed + interval + micros(1500),
            "seed {seed}: {:?}\n{}",
            last - healed,
            told(&net)
        );
        let [master] = masters(&net)[..] else {
            panic!("seed {seed}: one master\n{}", told(&net))
        };
        let announced = |what: &What| matches!(what, What::Announce(_));
        let anew = net.log[events..]
            .iter()
            .filter(|event| event.node == master && announced(&event.command.what));
        assert!(anew.count() > 0, "seed {seed}: announced anew\n{}", told(&net));
    }
}

/// One advert in twenty gets lost: a master that seems silent is asked before anybody takes over.
#[test]
fn loss_alone_moves_nothing() {
    let mut in_vain = 0;
    for seed in 0..8 {
        let mut random = Random(3000 + seed);
        let interval = Duration::from_millis(10);
        let terms = Terms {
            interval,
            ..if seed % 2 == 0 { Terms::open } else { Terms::with_key }(&mut random)
        };
        let quality = Quality {
            delay: (micros(20), micros(400)),
            loss: 20,
            lag: micros(50),
        };
        let mut net = net(&mut random, &terms, quality);
        for node in 0..net.nodes.len() {
            let mut settings = settings(&mut random, &terms);
            settings.priority = 100 + node as u8;
            net.want(node, vec![settings]);
        }
        net.pass(Duration::from_secs(2), |_| {});
        let events = net.log.len();
        net.pass(Duration::from_secs(120), |_| {});
        let owned = |what: &What| matches!(what, What::Own(_) | What::Disown(_));
        let moves = net.log[events..]
            .iter()
            .filter(|event| owned(&event.command.what))
            .count();
        assert!(moves <= 2, "seed {seed}: {moves}\n{}", told(&net));
        let instances = net
            .nodes
            .iter()
            .filter_map(|node| node.vrrp.as_ref())
            .flat_map(|vrrp| vrrp.instances());
        in_vain += instances.map(|machine| machine.counters().claims_in_vain).sum::<u64>();
    }
    assert!(in_vain > 10, "{in_vain} times somebody asked");
}

/// Those that the fuzzer found worth keeping, and adverts with a byte or two changed.
#[test]
fn whatever_arrives_is_an_advert_or_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/vrrp");
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("the folder of the corpus") {
        laws::hold(&fs::read(entry.expect("its entry").path()).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 10, "{inputs} inputs in {}", folder.display());
    for seed in 0..2000 {
        laws::hold(&laws::input(&mut Random(seed)));
    }
}
