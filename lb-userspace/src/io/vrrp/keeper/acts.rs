//! Carries commands out, each at once and in their order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::lease::{ELSEWHERE, ENDED};
use rustix::event::Timespec;
use rustix::time::{ClockId, clock_getres, clock_gettime};
use tracing::warn;

use super::super::News;
use super::super::hands::Failures;
use super::{Keeper, now};
use crate::core::dns::Family;
use crate::core::sysctls::Sysctl;
use crate::core::vrrp::announcement::announcement;
use crate::core::vrrp::command::{Command, Datagram, What};
use crate::core::vrrp::multicast;
use crate::core::vrrp::settings::{Address, Key};
use crate::io::netlink::addresses::{Interface, Step};
use crate::io::sysctls;

impl Keeper {
    pub(super) fn carry_out(&mut self, command: Command) {
        let Command { instance, key, what } = command;
        let interface = key.interface.clone();
        match what {
            What::Send {
                source,
                datagrams,
                lease: until,
                ..
            } => {
                if !self.say(&interface, source, &datagrams) {
                    self.vrrp.unsent(&instance, now());
                } else if let Some(until) = until {
                    self.set_lease(&instance, nanoseconds(until));
                }
            }
            What::Greet { source, datagrams } => drop(self.say(&interface, source, &datagrams)),
            What::Lease(Some(until)) => self.set_lease(&instance, nanoseconds(until)),
            What::Lease(None) if self.stuck.contains_key(&instance) => self.set_lease(&instance, ENDED),
            What::Lease(None) => self.set_lease(&instance, ELSEWHERE),
            What::Own(addresses) => match self.home(&key) {
                Some(home) => {
                    self.holdings.own(&key, &home, &addresses);
                    self.put(&instance, &home, &addresses);
                }
                None => {
                    let missing = || format!("{interface} is missing");
                    let why = self.homeless(&instance).unwrap_or_else(missing);
                    self.vrrp.not_owned(&instance, why, now());
                }
            },
            What::Disown(addresses) => self.disown(instance, &key, &addresses),
            // Where they are not.
            What::Announce(_) if self.without.contains(&instance) => {}
            What::Announce(addresses) => self.announce(&key, &addresses),
            What::Sever => drop(self.news.send(News::Lost(instance))),
            What::Moved(transition) => drop(self.news.send(News::Moved(transition))),
            What::Complain(words) => self.trouble(&instance, words),
        }
    }

    pub(super) fn set_lease(&self, instance: &str, until: u64) {
        if let Some(lease) = self.lease_ids.get(instance) {
            self.leases.set(*lease, until);
        }
    }

    /// To one at least.
    fn say(&self, interface: &Arc<str>, source: IpAddr, datagrams: &[Datagram]) -> bool {
        let Some(socket) = self.sockets.get(&(interface.clone(), Family::of(source))) else {
            return false;
        };
        let own = self.seats.get(interface);
        let say = |Datagram { destination, payload }: &Datagram| {
            let frame = own.and_then(|(_, seat)| multicast::frame(seat.link.mac, source, *destination, payload));
            match frame {
                Some(frame) => self.frames.send(socket.ifindex(), &frame),
                None => socket.say(source, *destination, payload),
            }
        };
        datagrams.iter().filter(|datagram| say(datagram).is_ok()).count() > 0
    }

    fn disown(&mut self, instance: Arc<str>, key: &Key, addresses: &[Address]) {
        let home = self.holdings.home(key).cloned().or_else(|| self.home(key));
        self.holdings.disown(key, addresses);
        self.announcer.forget(addresses);
        let Some(home) = home else { return };
        if self.remove(&home, addresses) {
            self.stuck.remove(&instance);
        } else {
            // The program is told before anything else goes on.
            self.set_lease(&instance, ENDED);
            self.stuck.insert(instance, home.clone());
        }
        if let Some((ifindex, seat)) = self.seats.get(&home)
            && seat.virtual_link.is_some()
            && self.holdings.home(key).is_none()
        {
            self.hands.rest(*ifindex);
        }
    }

    fn put(&mut self, instance: &Arc<str>, home: &str, addresses: &[Address]) {
        let Some((ifindex, seat)) = self.seats.get(home) else {
            return;
        };
        let first = seat.virtual_link.map(|_| Step::SetUp);
        let puts = addresses.iter().map(|own| put(seat, own));
        let steps = first.into_iter().chain(puts).collect();
        // It answers for them by the program until they are there.
        if let Some(failures) = self.hands.take(*ifindex, steps, Some(instance.clone())) {
            self.failed(Some(instance), &failures);
        }
    }

    /// Those that the kernel takes off with them are back at once. False: they are there still, as far as it is known.
    pub(super) fn remove(&mut self, home: &str, addresses: &[Address]) -> bool {
        let Some((ifindex, seat)) = self.seats.get(home) else {
            return true;
        };
        let beside = self.holdings.beside(home, addresses);
        let removes = addresses.iter().copied().map(Step::Remove);
        let steps = removes.chain(beside.iter().map(|own| put(seat, own))).collect();
        let Some(failures) = self.hands.take(*ifindex, steps, None) else {
            return false;
        };
        self.failed(None, &failures);
        !failures.iter().any(|(step, _)| matches!(step, Step::Remove(_)))
    }

    /// An instance could not have its addresses, or what was to be tidied could not be.
    pub(super) fn failed(&mut self, instance: Option<&Arc<str>>, failures: &Failures) {
        if failures.is_empty() {
            return;
        }
        let words: Vec<_> = failures.iter().map(|(step, why)| format!("{step}: {why}")).collect();
        let why = words.join("; ");
        match instance {
            Some(instance) => {
                self.without.insert(instance.clone());
                self.vrrp.not_owned(instance, why, now());
            }
            None => warn!(
                why,
                "shared addresses are not as they should be; nobody is answered at one that stays, and it is tried again"
            ),
        }
    }

    /// From the interface below, whatever MAC they have.
    fn announce(&mut self, key: &Key, addresses: &[Address]) {
        let interface = &key.interface;
        let home = self.holdings.home(key).unwrap_or(interface);
        let (Some((ifindex, _)), Some((_, seat))) = (self.seats.get(interface), self.seats.get(home)) else {
            return;
        };
        let routes = addresses.iter().any(|own| own.address.is_ipv6()) && forwards(interface);
        let frame = |own: &Address| (own.address, announcement(seat.link.mac, own.address, routes));
        let frames: Vec<_> = addresses.iter().map(frame).collect();
        self.announcer.announce(*ifindex, &frames, Instant::now());
        self.announcer.send_due(Instant::now());
    }
}

/// On an interface of ours without a route to the address's block: packets go there by the interface below. But a
/// link-local one is of no use elsewhere.
fn put(seat: &Interface, own: &Address) -> Step {
    let is_link_local = matches!(own.address, IpAddr::V6(address) if address.is_unicast_link_local());
    Step::Put {
        own: *own,
        routed: seat.virtual_link.is_none() || is_link_local,
    }
}

/// Of CLOCK_MONOTONIC, on the program's clock, which may be behind.
fn nanoseconds(until: Instant) -> u64 {
    let count = |time: Timespec| Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32);
    let behind = count(clock_getres(ClockId::MonotonicCoarse));
    // The clock first: whoever is stopped in between has less left, not more.
    let clock = count(clock_gettime(ClockId::Monotonic));
    let left = until.saturating_duration_since(Instant::now());
    let until = (clock + left).saturating_sub(behind);
    u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)
}

fn forwards(interface: &str) -> bool {
    sysctls::read(&Sysctl::new(Family::Ipv6, interface, "forwarding")) == Some(1)
}
