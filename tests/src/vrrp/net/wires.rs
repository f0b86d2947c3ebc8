//! What nodes say to each other, on its way; and somebody who records it, and says it again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_userspace::core::vrrp::command::Datagram;
use lb_userspace::core::vrrp::machine::Machine;
use lb_userspace::core::vrrp::packet::{Envelope, TTL};
use lb_userspace::core::vrrp::{Heard, Vrrp};
use lb_userspace::core::world::Moment;

use super::Net;

/// What is sealed counts no later than this after it was said.
const OLD: Duration = Duration::from_secs(7);

#[derive(Clone)]
pub struct Packet {
    pub interface: Arc<str>,
    pub envelope: Envelope,
    pub payload: Vec<u8>,
    /// None: it is forged.
    pub said: Option<Said>,
}

/// Of a packet that a node has said: which, when, and whether this is a recording of it.
#[derive(Clone, Copy)]
pub struct Said {
    number: u64,
    at: Duration,
    again: bool,
}

impl Net {
    /// From somebody who is no node here, to all who are.
    pub fn forge(&mut self, packet: &Packet) {
        for node in 0..self.nodes.len() {
            self.carry(node, packet.clone());
        }
    }

    /// Something of the tape, to all nodes.
    pub fn replay(&mut self, at: usize) {
        let mut packet = self.tape.as_ref().expect("there is a tape")[at].clone();
        packet.said = packet.said.map(|said| Said { again: true, ..said });
        self.forge(&packet);
    }

    pub(super) fn say(&mut self, from: usize, interface: &Arc<str>, source: IpAddr, datagrams: &[Datagram]) {
        for datagram in datagrams {
            self.sent += 1;
            let packet = Packet {
                interface: interface.clone(),
                envelope: Envelope {
                    source,
                    destination: datagram.destination,
                    ttl: TTL,
                },
                payload: datagram.payload.clone(),
                said: Some(Said {
                    number: self.sent,
                    at: self.clock,
                    again: false,
                }),
            };
            self.tape.iter_mut().for_each(|tape| tape.push(packet.clone()));
            self.send(from, &packet);
        }
    }

    fn send(&mut self, from: usize, packet: &Packet) {
        if self.nodes[from].links.get(&packet.interface) != Some(&true) {
            return;
        }
        for to in 0..self.nodes.len() {
            let to_it = self.nodes[to].addresses.get(&packet.interface) == Some(&packet.envelope.destination);
            let wanted = to != from && (packet.envelope.destination.is_multicast() || to_it);
            let lost = self.quality.loss > 0 && self.random.one_in(self.quality.loss);
            if wanted && !lost && !self.cut.contains(&(from, to)) {
                self.carry(to, packet.clone());
            }
        }
    }

    fn carry(&mut self, to: usize, packet: Packet) {
        let (least, most) = self.quality.delay;
        let spread = (most - least).as_micros() as u64;
        let delay = least + Duration::from_micros(self.random.below(spread + 1));
        self.sent += 1;
        self.in_flight.insert((self.clock + delay, self.sent), (to, packet));
    }

    pub(super) fn arrive(&mut self, node: usize, packet: Packet) {
        let this = &mut self.nodes[node];
        if this.vrrp.is_some() && this.links.get(&packet.interface) == Some(&true) {
            this.inbox.push(packet);
        }
    }

    /// A node takes in what has arrived.
    pub(super) fn hear(&mut self, node: usize) {
        let now = self.now();
        let this = &mut self.nodes[node];
        let Some(vrrp) = &mut this.vrrp else { return };
        for packet in std::mem::take(&mut this.inbox) {
            let before = belief(vrrp, now);
            let heard = Heard {
                interface: packet.interface,
                envelope: packet.envelope,
                payload: &packet.payload,
            };
            vrrp.hear(&heard, now);
            let Some(said) = packet.said else { continue };
            if belief(vrrp, now) == before {
                self.seen_through += u64::from(said.again);
            } else if !this.believed.insert(said.number) || self.clock > said.at + OLD {
                self.taken_in.push(format!(
                    "{:?}: {} by what was said at {:?}",
                    self.clock, this.name, said.at
                ));
            }
        }
    }
}

/// What a node takes from what it hears: it counts adverts, and remembers who was there.
fn belief(vrrp: &Vrrp, now: Moment) -> Vec<(u64, Vec<(IpAddr, Instant)>)> {
    let of = |machine: &Machine| (machine.counters().heard, machine.acquaintances(now.monotonic).collect());
    vrrp.instances().map(of).collect()
}
