//! What holds for nodes with a key, whoever records what they say.

use std::time::Duration;

use lb_tests::packets::Random;
use lb_tests::vrrp::net::{Net, Node};
use lb_userspace::core::vrrp::Vrrp;

use super::laws::nobody_ever_serves_twice;
use super::trouble::*;

/// Who has just begun has to be known by the others before it claims.
#[test]
fn nor_do_they_with_a_key() {
    nobody_ever_serves_twice(200, Terms::with_key);
}

/// Nodes with a key, and somebody who records them.
fn recorded(seed: u64) -> (Random, Terms, Net) {
    let mut random = Random(seed);
    let terms = Terms::with_key(&mut random);
    let quality = good(&mut random, terms.interval);
    let mut net = net(&mut random, &terms, quality);
    net.tape = Some(Vec::new());
    (random, terms, net)
}

/// Somebody records all that nodes say, and says it again at any time: nobody believes anything that it has believed before,
/// in this life or a former one, nor what is old.
#[test]
fn with_a_key_no_recording_is_believed() {
    let mut seen_through = 0;
    for seed in 0..50 {
        let (mut random, terms, mut net) = recorded(4000 + seed);
        for _ in 0..60 {
            for _ in 0..random.below(20) {
                let pause = terms.interval * random.below(20) as u32 / 10;
                net.pass(net.clock + pause, |_| {});
                let said = net.tape.as_ref().map_or(0, Vec::len);
                let back = *random.of(&[1, 10, 1000, u64::MAX]);
                if said > 0 {
                    net.replay(said - 1 - random.below(back.min(said as u64)) as usize);
                }
            }
            trouble(&mut net, &mut random, &terms);
        }
        assert_eq!(net.taken_in, [""; 0], "seed {seed}\n{}", told(&net));
        seen_through += net.seen_through;
    }
    assert!(seen_through > 5_000, "{seen_through} recordings");
}

/// Whatever is played to them meanwhile.
#[test]
fn with_a_key_who_begins_anew_is_known_within_three_intervals_or_sixty_milliseconds() {
    for seed in 0..30 {
        let (mut random, terms, mut net) = recorded(5000 + seed);
        for round in 0..10 {
            net.pass(net.clock + Duration::from_secs(1), |_| {});
            let node = random.below(net.nodes.len() as u64) as usize;
            net.crash(node);
            net.pass(net.clock + terms.interval * random.below(100) as u32 / 10, |_| {});
            net.start(node);
            let begun = net.now().monotonic;
            let until = net.clock + (terms.interval * 3).max(Duration::from_millis(60));
            while net.clock < until {
                let said = net.tape.as_ref().map_or(0, Vec::len) as u64;
                net.replay(random.below(said) as usize);
                net.pass((net.clock + Duration::from_millis(1)).min(until), |_| {});
            }
            let known = |of: &Node, to: &Node| {
                let mut instances = to.vrrp.iter().flat_map(Vrrp::instances);
                let [address] = of.addresses.values().copied().collect::<Vec<_>>()[..] else {
                    panic!("one address")
                };
                let now = net.now().monotonic;
                instances.any(|machine| {
                    machine
                        .acquaintances(now)
                        .any(|known| known.0 == address && known.1 >= begun)
                })
            };
            for other in (0..net.nodes.len()).filter(|other| *other != node) {
                let (new, old) = (&net.nodes[node], &net.nodes[other]);
                assert!(
                    known(new, old),
                    "seed {seed}, round {round}: {} knows {}",
                    old.name,
                    new.name
                );
                assert!(
                    known(old, new),
                    "seed {seed}, round {round}: {} knows {}",
                    new.name,
                    old.name
                );
            }
        }
    }
}
