//! Random and mutated frames: kernel and host must agree on verdict, reason, every byte and every counter.
//!
//! `cargo xtask packet --random N` says how many; the seed of a failing run is printed and `NARU_SEED` takes it. In the
//! end it says how often each reason and each way through was reached, and none may be missing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Instant, UNIX_EPOCH};

use lb_common::abi::{BackendId, Mode};
use lb_common::lease::{ELSEWHERE, ENDED, FOR_GOOD};
use lb_common::verdict::Reason;
use lb_tests::lab::note;
use lb_tests::packets::{Builder, Generator, Protocol};

use super::net::{Shape, runner};
use super::*;

/// What a round of frames meets; the first of them for certain.
#[derive(Clone, Copy, PartialEq)]
enum Weather {
    Fair,
    /// Other CPUs are about to open some flows.
    Crowded,
    StagesMissing,
    TableFull,
    PortsTaken,
}

const ROUNDS: [Weather; 16] = {
    let mut rounds = [Weather::Fair; 16];
    rounds[12] = Weather::Crowded;
    rounds[13] = Weather::StagesMissing;
    rounds[14] = Weather::TableFull;
    rounds[15] = Weather::PortsTaken;
    rounds
};

/// Frames of a round, where so many are sent.
const LONGEST_ROUND: u64 = 50_000;
/// One in so many frames comes after some time of silence.
const SILENCE: u64 = 2000;
/// One in so many comes after all backends were lost, in fair weather: it would make room where there is to be none.
const LOSS: u64 = 400;
/// One in so many comes after the leases have changed.
const CHANGE: u64 = 400;
/// From so many frames on it is said how far they are.
const WORTH_TELLING: u64 = 1_000_000;

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn kernel_and_host_agree_on_random_frames() {
    let Some(runner) = runner("kernel_and_host_agree_on_random_frames") else {
        return;
    };
    let seed = number("NARU_SEED", UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64);
    let frames = number("NARU_FRAMES", 40_000);
    let length = (frames / ROUNDS.len() as u64).clamp(1, LONGEST_ROUND);
    let mut run = Run {
        net: Net::new(runner, shape(Family::Ipv4)),
        generator: Generator::new(seed),
        reached: BTreeMap::new(),
    };
    let start = Instant::now();
    for (round, weather) in (0..frames.div_ceil(length)).zip(ROUNDS.iter().cycle()) {
        run.begin(*weather);
        for haunting in run.generator.haunting.clone() {
            let met = run.meet(&haunting, &haunting.build());
            met.unwrap_or_else(|error| panic!("NARU_SEED={seed}, at the start of round {round}: {error:#}"));
        }
        for number in 0..length {
            run.one_frame(*weather)
                .unwrap_or_else(|error| panic!("NARU_SEED={seed}, frame {number} of round {round}: {error:#}"));
        }
        let counted = run.net.runner.check_counters();
        counted.unwrap_or_else(|error| panic!("NARU_SEED={seed}, round {round}: {error:#}"));
        if frames >= WORTH_TELLING {
            let done = (round + 1) * length;
            note(&format!(
                "random: {done} of {frames} frames, {} s",
                start.elapsed().as_secs()
            ));
        }
    }
    note(&run.told(seed));
    let missing = run.missing();
    assert!(missing.is_empty(), "NARU_SEED={seed}: never reached {missing:?}");
}

fn shape(family: Family) -> Shape {
    Shape {
        family,
        tags: &[],
        protocol: Protocol::Tcp,
        mode: Mode::Nat,
    }
}

struct Run {
    net: Net,
    generator: Generator,
    /// How often each reason, and each mode in each direction, by family.
    reached: BTreeMap<(String, Family), u64>,
}

impl Run {
    /// In the beginning there is no flow but what the weather needs.
    fn begin(&mut self, weather: Weather) {
        let net = &mut self.net;
        net.reset();
        self.generator.forget();
        for family in [Family::Ipv4, Family::Ipv6] {
            net.shape = shape(family);
            match weather {
                Weather::Fair => {}
                Weather::StagesMissing if family == Family::Ipv4 => net.runner.remove_stages().expect("their table"),
                Weather::StagesMissing => {}
                Weather::Crowded => {
                    let rival = net.from("198.18.0.9:2000");
                    net.runner.begin_elsewhere(&rival);
                    self.generator.haunting.push(rival);
                }
                Weather::TableFull => self.generator.haunting.push(new_flows::fill_the_table(net).1),
                Weather::PortsTaken => {
                    let wanting = net.from("198.18.0.9:2000");
                    ports::take_all_ports(net, &wanting);
                    self.generator.haunting.push(wanting);
                }
            }
        }
    }

    fn one_frame(&mut self, weather: Weather) -> anyhow::Result<()> {
        let random = &mut self.generator.random;
        if random.one_in(SILENCE) {
            let ticks = random.below(20) as u32;
            self.net.runner.pass_time(ticks);
        }
        if weather == Weather::Fair && random.one_in(LOSS) {
            self.net.runner.sweep();
            self.net.runner.lose_backends();
        }
        let random = &mut self.generator.random;
        if random.one_in(CHANGE) {
            let until = *random.of(&[FOR_GOOD, FOR_GOOD, ENDED, ELSEWHERE]);
            self.net.runner.set_leases(until);
        }
        if weather == Weather::PortsTaken {
            self.net.next_port(2000);
        }
        let (packet, frame) = self.generator.frame();
        self.meet(&packet, &frame)
    }

    fn meet(&mut self, packet: &Builder, frame: &[u8]) -> anyhow::Result<()> {
        let outcome = self.net.runner.send(frame)?;
        let way = match outcome.reason {
            Some(reason) => reason.name().to_owned(),
            None => way(self.net.runner.model.last_sent.get().expect("a packet was sent on")),
        };
        if outcome.reason.is_none() {
            self.generator.saw(packet, &outcome.frame);
        }
        let family = family(packet);
        *self.reached.entry((way, family)).or_default() += 1;
        Ok(())
    }

    fn missing(&self) -> Vec<(String, Family)> {
        let reasons = Reason::ALL.iter().map(|reason| reason.name().to_owned());
        let ways = MODES.into_iter().map(|mode| way((id(Family::Ipv4, mode, 0), false)));
        let all = reasons.chain(ways).chain([way((0, true))]);
        let wanted = all.flat_map(|what| [Family::Ipv4, Family::Ipv6].map(|family| (what.clone(), family)));
        wanted.filter(|what| !self.reached.contains_key(what)).collect()
    }

    fn told(&self, seed: u64) -> String {
        let mut text = format!("random: frames by what became of them, NARU_SEED={seed}");
        for ((what, family), count) in &self.reached {
            write!(text, "\n  {count:>9} {family:?} {what}").expect("a string takes all");
        }
        text
    }
}

const MODES: [Mode; 3] = [Mode::Nat, Mode::DsrL2, Mode::DsrIpip];

/// What a packet of this backend's flow went, by the mode.
fn way((backend, to_client): (BackendId, bool)) -> String {
    let direction = if to_client { "client" } else { "backend" };
    format!("sent to the {direction}, {:?}", mode_of(backend))
}

const fn family(packet: &Builder) -> Family {
    if packet.source.is_ipv4() {
        Family::Ipv4
    } else {
        Family::Ipv6
    }
}
