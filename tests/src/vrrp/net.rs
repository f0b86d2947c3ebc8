//! Nodes, the wires between them, and the time: what each node serves, as its kernel would.
//!
//! A node serves an address that it has while its lease lasts: what the data path does with it. Everything random comes
//! from a seed. What is on the wires, and what somebody records of it, is in `wires`.

mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use lb_userspace::core::vrrp::Vrrp;
use lb_userspace::core::vrrp::command::{Command, What};
use lb_userspace::core::vrrp::machine::Link;
use lb_userspace::core::vrrp::settings::{Key, Settings};
use lb_userspace::core::world::Moment;

pub use self::wires::Packet;
use crate::packets::Random;

/// 2026-01-01T00:00:00Z.
const START: Duration = Duration::from_secs(1_767_225_600);

/// How good the wires and the machines are.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// The least and the most that an advert is on its way.
    pub delay: (Duration, Duration),
    /// One advert in so many is lost; 0: none.
    pub loss: u64,
    /// How late a node may notice what is due or has arrived.
    pub lag: Duration,
}

pub struct Net {
    pub nodes: Vec<Node>,
    pub quality: Quality,
    /// Adverts from the first do not reach the second.
    pub cut: BTreeSet<(usize, usize)>,
    pub log: Vec<Event>,
    /// Of all that nodes have said, where somebody records it.
    pub tape: Option<Vec<Packet>>,
    /// What a node believed that it had believed before or that was old, and how many recordings it did not.
    pub taken_in: Vec<String>,
    pub seen_through: u64,
    started: u8,
    in_flight: BTreeMap<(Duration, u64), (usize, Packet)>,
    sent: u64,
    random: Random,
    base: Instant,
    pub clock: Duration,
}

pub struct Node {
    pub name: String,
    /// By interface: what it is known by there.
    pub addresses: BTreeMap<Arc<str>, IpAddr>,
    pub links: BTreeMap<Arc<str>, bool>,
    pub settings: Vec<Settings>,
    /// None: not running.
    pub vrrp: Option<Vrrp>,
    pub frozen: bool,
    /// Its adverts fail.
    pub mute: bool,
    /// Its addresses cannot be added.
    pub refuses: Option<String>,
    kernel: BTreeMap<Key, Held>,
    inbox: Vec<Packet>,
    /// What it has believed, by number, whichever of its daemons did.
    believed: BTreeSet<u64>,
    wakes: Option<Duration>,
}

/// What a kernel has for an instance.
#[derive(Default)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    lease: Option<Duration>,
}

/// What an onlooker sees.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Duration,
    pub node: usize,
    pub command: Command,
}

impl Net {
    pub fn new(quality: Quality, seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            quality,
            cut: BTreeSet::new(),
            log: Vec::new(),
            tape: None,
            taken_in: Vec::new(),
            seen_through: 0,
            started: 0,
            in_flight: BTreeMap::new(),
            sent: 0,
            random: Random(seed),
            base: Instant::now(),
            clock: Duration::ZERO,
        }
    }

    pub fn add(&mut self, name: &str, addresses: BTreeMap<Arc<str>, IpAddr>) {
        self.nodes.push(Node {
            name: name.to_owned(),
            links: addresses.keys().map(|interface| (interface.clone(), true)).collect(),
            addresses,
            settings: Vec::new(),
            vrrp: None,
            frozen: false,
            mute: false,
            refuses: None,
            kernel: BTreeMap::new(),
            inbox: Vec::new(),
            believed: BTreeSet::new(),
            wakes: None,
        });
    }

    pub fn now(&self) -> Moment {
        Moment {
            monotonic: self.base + self.clock,
            wall: UNIX_EPOCH + START + self.clock,
        }
    }

    /// The daemon of a node begins, as after a crash or a stop.
    pub fn start(&mut self, node: usize) {
        let now = self.now();
        let this = &mut self.nodes[node];
        self.started += 1;
        let mut vrrp = Vrrp::new([self.started; 32]);
        vrrp.reconfigure(this.settings.clone(), now);
        for (interface, &up) in &this.links {
            vrrp.link(interface, link(up, this.addresses[interface]), now);
        }
        this.vrrp = Some(vrrp);
        (this.frozen, this.wakes) = (false, None);
        this.inbox.clear();
        self.turn(node);
    }

    /// Every process of it is gone; its kernel has what it had.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].vrrp = None;
    }

    /// As if its power were cut.
    pub fn crash(&mut self, node: usize) {
        self.kill(node);
        self.nodes[node].kernel.clear();
    }

    /// What its file wants from now on.
    pub fn want(&mut self, node: usize, settings: Vec<Settings>) {
        self.nodes[node].settings.clone_from(&settings);
        let now = self.now();
        self.tell(node, |vrrp| vrrp.reconfigure(settings, now));
    }

    /// Somebody takes an address off its interface, and the daemon notices.
    pub fn take_off(&mut self, node: usize, instance: &str, address: IpAddr) {
        for held in self.nodes[node].kernel.values_mut() {
            held.addresses.remove(&address);
        }
        let now = self.now();
        self.tell(node, |vrrp| vrrp.address_lost(instance, now));
    }

    pub fn stop(&mut self, node: usize) {
        let now = self.now();
        self.tell(node, |vrrp| vrrp.stop(now));
        self.kill(node);
    }

    pub fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        self.turn(node);
    }

    pub fn set_link(&mut self, node: usize, interface: &Arc<str>, state: Link) {
        let up = matches!(state, Link::Up { .. });
        self.nodes[node].links.insert(interface.clone(), up);
        let now = self.now();
        self.tell(node, |vrrp| vrrp.link(interface, state, now));
    }

    pub fn link_up(&self, node: usize, interface: &Arc<str>) -> Link {
        link(true, self.nodes[node].addresses[interface])
    }

    /// Something that the daemon of a node notices, if it runs.
    pub fn tell<T>(&mut self, node: usize, what: impl FnOnce(&mut Vrrp) -> T) -> Option<T> {
        let told = self.nodes[node].vrrp.as_mut().map(what);
        self.turn(node);
        told
    }

    /// Until then, or until something has happened that `look` wants no more of.
    pub fn pass(&mut self, until: Duration, mut look: impl FnMut(&Self)) {
        while let Some(next) = self.next_event().filter(|next| *next <= until) {
            self.clock = self.clock.max(next);
            while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= self.clock) {
                let (node, packet) = entry.remove();
                self.arrive(node, packet);
            }
            for node in 0..self.nodes.len() {
                self.schedule(node);
                if self.nodes[node].wakes.is_some_and(|wakes| wakes <= self.clock) {
                    self.turn(node);
                }
            }
            look(self);
        }
        self.clock = until;
        look(self);
    }

    /// Who answers for an address.
    pub fn servers(&self, address: IpAddr) -> Vec<usize> {
        let serves = |held: &Held| held.addresses.contains(&address) && held.lease.is_some_and(|end| end > self.clock);
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(|(_, node)| node.kernel.values().any(serves))
            .map(|(at, _)| at)
            .collect()
    }

    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let settings = self.nodes.iter().flat_map(|node| &node.settings);
        settings
            .flat_map(|settings| settings.addresses.iter().map(|own| own.address))
            .collect()
    }

    fn next_event(&self) -> Option<Duration> {
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        let nodes = self.nodes.iter().filter_map(|node| {
            let deadline = node.vrrp.as_ref().filter(|_| !node.frozen)?.deadline();
            let deadline = deadline.map(|deadline| deadline.saturating_duration_since(self.base));
            node.wakes.or(deadline)
        });
        let leases = self.nodes.iter().flat_map(|node| node.kernel.values());
        let ends = leases.filter_map(|held| held.lease.filter(|end| *end > self.clock));
        nodes.chain(arrival).chain(ends).min()
    }

    /// Lets a node notice what is due, sooner or later.
    fn schedule(&mut self, node: usize) {
        let lag = self.quality.lag.as_micros() as u64;
        let this = &mut self.nodes[node];
        let Some(vrrp) = this.vrrp.as_ref().filter(|_| !this.frozen && this.wakes.is_none()) else {
            return;
        };
        let due = vrrp
            .deadline()
            .is_some_and(|deadline| deadline <= self.base + self.clock);
        if due || !this.inbox.is_empty() {
            let lag = Duration::from_micros(self.random.below(lag + 1));
            this.wakes = Some(self.clock + lag);
        }
    }

    fn turn(&mut self, node: usize) {
        let now = self.now();
        if self.nodes[node].frozen {
            return;
        }
        self.hear(node);
        let this = &mut self.nodes[node];
        let Some(vrrp) = &mut this.vrrp else { return };
        this.wakes = None;
        for command in vrrp.turn(now) {
            self.carry_out(node, command);
        }
    }

    fn carry_out(&mut self, node: usize, command: Command) {
        let now = self.now();
        let clock = |until: Instant| until.saturating_duration_since(self.base);
        let this = &mut self.nodes[node];
        let held = this.kernel.entry(command.key.clone()).or_default();
        let mut trouble = None;
        match &command.what {
            What::Send { .. } if this.mute => trouble = Some(Trouble::Unsent),
            What::Greet { .. } if this.mute => {}
            What::Send {
                datagrams,
                lease,
                source,
                ..
            } => {
                held.lease = lease.map(clock).or(held.lease);
                self.say(node, &command.key.interface, *source, datagrams);
            }
            What::Greet { source, datagrams } => self.say(node, &command.key.interface, *source, datagrams),
            What::Lease(until) => held.lease = until.map(clock),
            What::Own(addresses) => match &this.refuses {
                Some(why) => trouble = Some(Trouble::NotOwned(why.clone())),
                None => held.addresses.extend(addresses.iter().map(|own| own.address)),
            },
            What::Disown(addresses) => held
                .addresses
                .retain(|address| !addresses.iter().any(|own| own.address == *address)),
            What::Announce(_) | What::Sever | What::Moved(_) | What::Complain(_) => {}
        }
        let instance = command.instance.clone();
        let at = self.clock;
        self.log.push(Event { at, node, command });
        let Some(vrrp) = &mut self.nodes[node].vrrp else { return };
        match trouble {
            Some(Trouble::Unsent) => vrrp.unsent(&instance, now),
            Some(Trouble::NotOwned(why)) => vrrp.not_owned(&instance, why, now),
            None => {}
        }
    }
}

enum Trouble {
    Unsent,
    NotOwned(String),
}

fn link(up: bool, address: IpAddr) -> Link {
    match (up, address) {
        (false, _) => Link::Down,
        (true, IpAddr::V4(ipv4)) => Link::Up {
            ipv4: Some(ipv4),
            ipv6: None,
        },
        (true, IpAddr::V6(ipv6)) => Link::Up {
            ipv4: None,
            ipv6: Some(ipv6),
        },
    }
}
