//! Random frames that meet each other: few clients and services, answers and errors about what was sent on, fragments,
//! and then, at times, damage.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::Mode;
use lb_common::parse::SYN;

use super::builder::{Builder, Extension, Protocol};
use super::cut::{cut, shorten};
use super::world::{EMPTY, Family, KINDS, VIP};

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.draw() as u8).collect()
    }
}

/// How many packets that were sent on are remembered.
const MEMORY: usize = 64;

pub struct Generator {
    pub random: Random,
    /// Packets as they left, to be answered, quoted, and sent once more.
    seen: Vec<Builder>,
    /// What is to come now and then whatever else does.
    pub haunting: Vec<Builder>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            seen: Vec::new(),
            haunting: Vec::new(),
        }
    }

    /// Nothing that was sent on matters any more.
    pub fn forget(&mut self) {
        self.seen.clear();
        self.haunting.clear();
    }

    /// A packet, and the frame that may be left of it.
    pub fn frame(&mut self) -> (Builder, Vec<u8>) {
        let packet = self.packet();
        let frame = self.damaged(packet.build());
        (packet, frame)
    }

    /// A packet was sent on as this frame.
    pub fn saw(&mut self, packet: &Builder, frame: &[u8]) {
        let Some(seen) = as_sent(packet, frame) else { return };
        if self.seen.len() < MEMORY {
            self.seen.push(seen);
        } else {
            let place = self.random.below(MEMORY as u64) as usize;
            self.seen[place] = seen;
        }
    }

    fn packet(&mut self) -> Builder {
        if !self.haunting.is_empty() && self.random.one_in(16) {
            return self.random.of(&self.haunting).clone();
        }
        let packet = if self.seen.is_empty() || self.random.one_in(2) {
            self.a_clients_packet()
        } else {
            let seen = self.random.of(&self.seen).clone();
            match self.random.below(8) {
                0 => self.error(&seen),
                1 => self.vary(seen),
                _ => self.vary(seen.turned()),
            }
        };
        if self.random.one_in(8) {
            self.fragment(packet)
        } else {
            packet
        }
    }

    fn a_clients_packet(&mut self) -> Builder {
        let random = &mut self.random;
        let family = *random.of(&[Family::Ipv4, Family::Ipv6]);
        let port = 2000 + random.below(6) + 38_000 * random.below(2);
        let client = match random.below(64) {
            0 => "198.18.0.100".to_owned(),
            1 => "198.19.99.1".to_owned(),
            2 => "198.18.1.77".to_owned(),
            _ => format!("198.{}.0.{}", 18 + random.below(2), 2 + random.below(3)),
        };
        let kind = *random.of(&KINDS);
        let mode = *random.of(&[Mode::Nat, Mode::DsrL2, Mode::DsrIpip]);
        let listen = if random.one_in(32) { 22 } else { kind.port(mode) };
        let source = family.endpoint(&format!("{client}:{port}"));
        let mut packet = Builder::between(source, family.endpoint(&format!("{VIP}:{listen}")));
        if random.one_in(32) {
            packet.source = martian(family);
        }
        packet.protocol = *random.of(&[Protocol::Tcp, Protocol::Udp]);
        let mut packet = self.vary(packet);
        if kind.port == EMPTY.port || self.random.one_in(2) {
            packet.flags = SYN;
        }
        packet
    }

    fn vary(&mut self, mut packet: Builder) -> Builder {
        let random = &mut self.random;
        packet.flags = random.draw() as u8 & 0x17;
        packet.sequence = (
            random.draw() as u32 >> random.below(32),
            random.draw() as u32 >> random.below(32),
        );
        packet.ttl = if random.one_in(16) { random.below(3) as u8 } else { 64 };
        let tag = |random: &mut Random| (*random.of(&[0x8100, 0x88a8]), random.draw() as u16);
        packet.tags = (0..random.below(4) * random.below(2)).map(|_| tag(random)).collect();
        packet.options = vec![1; 4 * (random.below(11) * random.below(2)) as usize];
        let extension = |random: &mut Random| Extension {
            number: *random.of(&[0, 60, 60, 43, 44]),
            content: vec![1; 6 + 8 * random.below(4) as usize],
        };
        let extensions = random.below(6) * random.below(2) * random.below(2);
        packet.extensions = (0..extensions).map(|_| extension(random)).collect();
        let length = *random.of(&[0, 1, 8, 13, 29, 64]);
        packet.payload = random.bytes(length);
        if random.one_in(32) {
            packet.payload.resize(1430 + random.below(70) as usize, 0x55);
        }
        packet.udp_checksum = !random.one_in(8);
        packet
    }

    /// About a packet as it was sent on, from its receiver or a router; or another message.
    fn error(&mut self, about: &Builder) -> Builder {
        let random = &mut self.random;
        let quoted = about.build()[about.l3()..].to_vec();
        let quoted = &quoted[..quoted.len().min(random.below(80) as usize + 16)];
        let kind = match about.source {
            IpAddr::V4(_) => *random.of(&[3, 3, 4, 11, 12, 0, 8]),
            IpAddr::V6(_) => *random.of(&[1, 2, 3, 4, 128, 135]),
        };
        let head = [kind, random.below(5) as u8, 0, 0, 0, 0, 5, 0xdc];
        let mut error = about.clone().turned().with_header_of_ours();
        (error.protocol, error.payload) = (Protocol::Icmp, [&head[..], quoted].concat());
        if random.one_in(2) {
            let family = if error.source.is_ipv4() {
                Family::Ipv4
            } else {
                Family::Ipv6
            };
            error.source = family.address([198, 19, 3, 3]);
        }
        error
    }

    /// A part of it, under one of few numbers.
    fn fragment(&mut self, packet: Builder) -> Builder {
        let random = &mut self.random;
        let segment = packet.build()[packet.l4()..].to_vec();
        let start = random.below(4).min(segment.len() as u64 / 8) as usize * 8;
        let end = (start + 24 * (1 + random.below(2) as usize)).min(segment.len());
        let number = random.below(4) as u16;
        packet.fragment_of(&segment, start..end, number)
    }

    fn damaged(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let random = &mut self.random;
        if random.one_in(8) {
            for _ in 0..=random.below(3) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << random.below(8);
            }
        }
        if random.one_in(16) {
            let length = 14 + random.below(frame.len() as u64 - 14) as usize;
            frame = match shorten(&frame, length) {
                Some(shorter) if random.one_in(2) => shorter,
                _ => cut(&frame, length).to_vec(),
            };
        }
        frame
    }
}

const fn martian(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        Family::Ipv6 => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

/// The packet with the addresses and ports that it left with; none where it left within another one.
fn as_sent(packet: &Builder, frame: &[u8]) -> Option<Builder> {
    if matches!(packet.protocol, Protocol::Icmp | Protocol::Other(_)) || frame.len() != packet.build().len() {
        return None;
    }
    let (l3, l4) = (packet.l3(), packet.l4());
    let address = |at: usize| -> Option<IpAddr> {
        match packet.source {
            IpAddr::V4(_) => Some(
                <[u8; 4]>::try_from(frame.get(l3 + 12 + 4 * at..)?.get(..4)?)
                    .ok()?
                    .into(),
            ),
            IpAddr::V6(_) => Some(
                <[u8; 16]>::try_from(frame.get(l3 + 8 + 16 * at..)?.get(..16)?)
                    .ok()?
                    .into(),
            ),
        }
    };
    let port = |at: usize| {
        Some(u16::from_be_bytes([
            *frame.get(l4 + 2 * at)?,
            *frame.get(l4 + 2 * at + 1)?,
        ]))
    };
    let (source, destination) = (address(0)?, address(1)?);
    let sent = packet.clone().from(SocketAddr::new(source, port(0)?));
    Some(sent.to(SocketAddr::new(destination, port(1)?)))
}
