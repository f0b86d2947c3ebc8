//! What holds for several nodes whatever happens to them, on networks that are good, bad, or divided.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use lb_tests::packets::Random;
use lb_tests::vrrp::net::{Net, Quality};
use lb_tests::vrrp::{laws, words};
use lb_userspace::core::vrrp::Role;
use lb_userspace::core::vrrp::command::What;
use lb_userspace::core::vrrp::machine::Link;
use lb_userspace::core::vrrp::settings::Settings;
use lb_userspace::core::vrrp::track::Tracked;

const INTERVALS: [u64; 4] = [10, 20, 30, 40];

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn address() -> IpAddr {
    [198, 18, 0, 100].into()
}

/// Two or three nodes, their adverts this far apart.
fn net(random: &mut Random, interval: Duration, quality: Quality) -> Net {
    let mut net = Net::new(quality, random.draw());
    for node in 0..2 + random.below(2) as usize {
        let own = [198, 18, 0, node as u8 + 2].into();
        net.add(["a", "b", "c"][node], BTreeMap::from([("eth0".into(), own)]));
        net.nodes[node].settings = vec![settings(random, interval)];
        net.start(node);
    }
    net
}

fn settings(random: &mut Random, interval: Duration) -> Settings {
    let mut settings = words::settings("main", "").expect("good words");
    settings.interval = interval;
    settings.priority = *random.of(&[1, 99, 100, 100, 101, 150, 200, 254]);
    settings.preempt = !random.one_in(4);
    settings.preempt_delay = if random.one_in(4) {
        interval * 10
    } else {
        Duration::ZERO
    };
    settings
}

/// What may happen to a node that neither network nor operator is to blame for, and what operators do.
fn trouble(net: &mut Net, random: &mut Random, interval: Duration) -> String {
    let node = random.below(net.nodes.len() as u64) as usize;
    let now = net.now();
    let runs = net.nodes[node].vrrp.is_some();
    let what = match random.below(13) {
        _ if net.nodes[node].frozen => {
            net.thaw(node);
            "thaws"
        }
        _ if !runs => {
            net.start(node);
            "starts"
        }
        0 | 1 => {
            net.nodes[node].frozen = true;
            "freezes"
        }
        2 => {
            net.kill(node);
            "is killed"
        }
        3 => {
            net.crash(node);
            "crashes"
        }
        4 => {
            net.stop(node);
            "stops"
        }
        5 => {
            net.tell(node, |vrrp| vrrp.failover("main", now));
            "fails over"
        }
        6 => {
            net.tell(node, |vrrp| vrrp.failback("main", now));
            "fails back"
        }
        7 | 8 => {
            let sum = -(random.below(150) as i32);
            let tracked = Tracked {
                sum,
                ..Tracked::default()
            };
            net.tell(node, |vrrp| vrrp.weigh("main", tracked, now));
            "is weighed"
        }
        9 => {
            net.set_link(node, &"eth0".into(), Link::Down);
            "is unplugged"
        }
        10 => {
            let up = net.link_up(node, &"eth0".into());
            net.set_link(node, &"eth0".into(), up);
            "is plugged in"
        }
        11 => {
            net.want(node, vec![settings(random, interval)]);
            "is configured anew"
        }
        _ => {
            let mute = !net.nodes[node].mute;
            net.nodes[node].mute = mute;
            "changes its voice"
        }
    };
    format!("{:?}: {} {what}", net.clock, net.nodes[node].name)
}

fn all_well(net: &mut Net) {
    net.cut.clear();
    for node in 0..net.nodes.len() {
        net.nodes[node].mute = false;
        if net.nodes[node].vrrp.is_none() {
            net.start(node);
        }
        if net.nodes[node].frozen {
            net.thaw(node);
        }
        let up = net.link_up(node, &"eth0".into());
        net.set_link(node, &"eth0".into(), up);
        let now = net.now();
        net.tell(node, |vrrp| vrrp.weigh("main", Tracked::default(), now));
    }
}

fn told(net: &Net) -> String {
    let moved = net.log.iter().filter_map(|event| match &event.command.what {
        What::Moved(transition) => Some(format!("{:?}: {} {transition}", event.at, net.nodes[event.node].name)),
        _ => None,
    });
    let moved: Vec<String> = moved.collect();
    moved[moved.len().saturating_sub(12)..].join("\n")
}

fn masters(net: &Net) -> Vec<usize> {
    let is_master = |node: &usize| {
        let vrrp = net.nodes[*node].vrrp.iter();
        vrrp.flat_map(|vrrp| vrrp.instances())
            .any(|machine| machine.role() == Role::Master)
    };
    (0..net.nodes.len()).filter(is_master).collect()
}

/// A network that loses nothing and delivers within a twentieth of an interval, and within 0.9 ms; nodes that notice what
/// is due within a fifth of an interval, or freeze, die and come back at any time.
#[test]
fn on_a_good_network_no_two_nodes_ever_serve_an_address() {
    let mut served = Duration::ZERO;
    for seed in 0..400 {
        let mut random = Random(seed);
        let interval = Duration::from_millis(*random.of(&INTERVALS));
        let most = (interval / 20).min(micros(900));
        let quality = Quality {
            delay: (micros(20), most),
            loss: 0,
            lag: if random.one_in(2) { interval / 5 } else { micros(50) },
        };
        let mut net = net(&mut random, interval, quality);
        let mut troubles = Vec::new();
        for _ in 0..60 {
            let pause = interval * random.below(200) as u32 / 10;
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
            troubles.push(trouble(&mut net, &mut random, interval));
        }
    }
    assert!(
        served > Duration::from_secs(400),
        "somebody served for {served:?} in all"
    );
}

/// Whatever happened before: on any network that loses less than one advert in twenty.
#[test]
fn in_the_end_there_is_one_master_and_it_stays() {
    for seed in 0..200 {
        let mut random = Random(1000 + seed);
        let interval = Duration::from_millis(*random.of(&INTERVALS));
        let bad = Quality {
            delay: (micros(20), interval / 3),
            loss: 20,
            lag: interval / 4,
        };
        let mut net = net(&mut random, interval, bad);
        for _ in 0..40 {
            let pause = interval * random.below(100) as u32 / 10;
            net.pass(net.clock + pause, |_| {});
            trouble(&mut net, &mut random, interval);
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

/// Of two sides that each had a master: one yields within an interval, and the other is announced anew.
#[test]
fn a_divided_network_heals_within_an_interval() {
    for seed in 0..100 {
        let mut random = Random(2000 + seed);
        let interval = Duration::from_millis(*random.of(&INTERVALS));
        let quality = Quality {
            delay: (micros(20), micros(400)),
            loss: 0,
            lag: micros(100),
        };
        let mut net = net(&mut random, interval, quality);
        for (node, last) in [(0, 100), (1, 200)] {
            let mut settings = settings(&mut random, interval);
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
        let quality = Quality {
            delay: (micros(20), micros(400)),
            loss: 20,
            lag: micros(50),
        };
        let mut net = net(&mut random, interval, quality);
        for node in 0..net.nodes.len() {
            let mut settings = settings(&mut random, interval);
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
