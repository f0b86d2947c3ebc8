//! What is on the interfaces: links, addresses that adverts are sent from, shared ones that are missing or too much.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use lb_common::lease::ELSEWHERE;
use tracing::warn;

use super::super::socket::Socket;
use super::{Keeper, now};
use crate::core::network::Own;
use crate::core::vrrp::machine::{Link, Machine};
use crate::core::vrrp::settings::{Address, Key};

impl Keeper {
    pub(super) fn look(&mut self) {
        self.looked = Instant::now();
        let seen = match self.addresses.look() {
            Ok(seen) => seen,
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "cannot see addresses and links; going on with what was known"
                );
                return;
            }
        };
        let by_name = seen.into_iter().map(|(ifindex, interface)| {
            let name: Arc<str> = interface.link.name.as_str().into();
            (name, (ifindex, interface))
        });
        self.seats = by_name.collect();
        self.mark_shared();
        self.open_sockets();
        let interfaces: BTreeSet<_> = self.wanted.iter().map(|(interface, _)| interface.clone()).collect();
        for interface in &interfaces {
            let link = self.link(interface);
            self.vrrp.link(interface, link, now());
        }
        self.tidy();
    }

    /// Whoever put a shared address on an interface of ours: it is for us to say whether it is there.
    fn mark_shared(&mut self) {
        let places: BTreeSet<_> = self.wanted.iter().map(|(interface, _)| interface).collect();
        for (_, (_, seat)) in self.seats.iter_mut().filter(|(name, _)| places.contains(name)) {
            let (shared, own) = std::mem::take(&mut seat.link.addresses)
                .into_iter()
                .partition(|own| self.shared.contains(&own.address));
            seat.link.addresses = own;
            let shared: Vec<Own> = shared;
            seat.marked.extend(shared.into_iter().map(Address::from));
        }
    }

    fn link(&self, interface: &str) -> Link {
        let Some((_, seat)) = self.seats.get(interface) else {
            return Link::Missing;
        };
        if !seat.link.up {
            return Link::Down;
        }
        let mut own = seat.link.addresses.iter().map(|own| own.address);
        let ipv6 = own.clone().find_map(|address| match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        });
        let ipv4 = own.find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        Link::Up { ipv4, ipv6 }
    }

    pub(super) fn open_sockets(&mut self) {
        let (wanted, seats) = (&self.wanted, &self.seats);
        self.sockets.retain(|place, socket| {
            let there = seats
                .get(&place.0)
                .is_some_and(|(ifindex, _)| *ifindex == socket.ifindex());
            wanted.contains(place) && there
        });
        for place in wanted {
            let Some((ifindex, _)) = seats.get(&place.0) else {
                continue;
            };
            if self.sockets.contains_key(place) {
                continue;
            }
            match Socket::open(&place.0, *ifindex, place.1) {
                Ok(socket) => drop(self.sockets.insert(place.clone(), socket)),
                Err(error) => warn!(error = format!("{error:#}"), "cannot hear or say adverts; trying again"),
            }
        }
    }

    /// Puts back what somebody took off, and takes off what nobody is to have.
    fn tidy(&mut self) {
        let seats: Vec<_> = self
            .seats
            .iter()
            .map(|(name, (ifindex, seat))| (name.clone(), *ifindex, seat.marked.clone()))
            .collect();
        for (interface, ifindex, marked) in seats {
            for (key, missing) in self.holdings.missing(&interface, &marked) {
                let Some(instance) = self.name_of(&key) else { continue };
                let words = format!("somebody took {} off {interface}; putting it back", list(&missing));
                self.trouble(&instance, words);
                self.vrrp.address_lost(&instance, now());
            }
            let stray = self.holdings.stray(&interface, &marked);
            if !stray.is_empty() && self.remove(&interface, ifindex, &stray) {
                self.release_stuck(&interface);
            }
        }
    }

    /// Of instances whose addresses are gone from the interface at last.
    fn release_stuck(&mut self, interface: &str) {
        let gone: Vec<_> = self
            .stuck
            .iter()
            .filter(|(_, on)| ***on == *interface)
            .map(|(name, _)| name.clone())
            .collect();
        for instance in gone {
            self.stuck.remove(&instance);
            self.set_lease(&instance, ELSEWHERE);
        }
    }

    fn name_of(&self, key: &Key) -> Option<Arc<str>> {
        let mut settings = self.vrrp.instances().map(Machine::settings);
        settings.find(|one| one.key() == *key).map(|one| one.name.clone())
    }
}

fn list(addresses: &[Address]) -> String {
    let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    words.join(", ")
}
