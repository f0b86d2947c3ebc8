//! Random and mutated frames: kernel and host must agree on verdict, reason, every byte and every counter.
//!
//! `NARU_FRAMES` says how many; the seed of a failing run is printed and `NARU_SEED` takes it.

use lb_common::parse::SYN;
use lb_tests::packets::{Builder, Extension, Protocol};

use super::net::runner;
use super::*;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn kernel_and_host_agree_on_random_frames() {
    let Some(mut runner) = runner("kernel_and_host_agree_on_random_frames") else {
        return;
    };
    let seed = number(
        "NARU_SEED",
        std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64,
    );
    let mut random = Random(seed);
    for round in 0..number("NARU_FRAMES", 40_000) {
        if round % 5000 == 0 {
            runner.reset().unwrap();
        }
        let frame = frame(&mut random);
        if let Err(error) = runner.send(&frame) {
            panic!("NARU_SEED={seed}, frame {round}: {frame:02x?}\n{error:#}");
        }
        if round % 5000 == 4999 {
            runner
                .check_traffic()
                .unwrap_or_else(|error| panic!("NARU_SEED={seed}: {error:#}"));
        }
    }
}

/// Few clients, ports and flags, so that frames meet each other's flows; then, at times, damage.
fn frame(random: &mut Random) -> Vec<u8> {
    let family = if random.one_in(2) { Family::Ipv4 } else { Family::Ipv6 };
    let port = 2000 + random.below(6);
    let client = format!("198.{}.0.{}:{port}", 18 + random.below(2), 2 + random.below(3));
    let listen = format!("198.18.0.100:{}", 80 + random.below(4) * random.below(2));
    let (source, destination) = if random.one_in(2) {
        (client, listen)
    } else {
        ("198.18.1.11:8080".to_owned(), format!("{SNAT}:{port}"))
    };
    let mut builder = Builder::between(family.endpoint(&source), family.endpoint(&destination));
    vary(&mut builder, random);
    let mut frame = builder.build();
    if random.one_in(4) {
        for _ in 0..=random.below(3) {
            let at = random.below(frame.len() as u64) as usize;
            frame[at] ^= 1 << random.below(8);
        }
    }
    if random.one_in(8) {
        frame.truncate(14 + random.below(frame.len() as u64 - 14) as usize);
    }
    frame
}

fn vary(builder: &mut Builder, random: &mut Random) {
    if random.one_in(2) {
        builder.protocol = Protocol::Udp;
    }
    builder.flags = if random.one_in(2) {
        SYN
    } else {
        random.next() as u8 & 0x17
    };
    builder.ttl = if random.one_in(16) { random.below(3) as u8 } else { 64 };
    let tag = |random: &mut Random| ([0x8100, 0x88a8][random.below(2) as usize], random.next() as u16);
    builder.tags = (0..random.below(4) * random.below(2)).map(|_| tag(random)).collect();
    builder.options = vec![1; 4 * (random.below(11) * random.below(2)) as usize];
    let extension = |random: &mut Random| Extension {
        number: [0, 60, 60, 43, 44][random.below(5) as usize],
        content: vec![1; 6 + 8 * random.below(4) as usize],
    };
    let extensions = random.below(6) * random.below(2) * random.below(2);
    builder.extensions = (0..extensions).map(|_| extension(random)).collect();
    builder.payload = (0..random.below(30)).map(|_| random.next() as u8).collect();
    builder.udp_checksum = !random.one_in(8);
}
