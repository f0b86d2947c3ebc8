//! What is on the interfaces: links, addresses that adverts are sent from, shared ones that are missing or too much.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::lease::ELSEWHERE;

use super::super::Order;
use super::super::hands::{Place, Seats};
use super::super::socket::Socket;
use super::{Keeper, now};
use crate::core::network::Own;
use crate::core::vrrp::machine::{Link, Machine};
use crate::core::vrrp::settings::{Address, Key};

impl Keeper {
    /// What is there now, and what follows.
    pub(super) fn see(&mut self, seats: Seats) {
        self.seats = seats;
        self.mark_shared();
        self.close_sockets();
        let interfaces: BTreeSet<_> = self.wanted.iter().map(|(interface, _)| interface.clone()).collect();
        for interface in &interfaces {
            let link = self.link(interface);
            self.vrrp.link(interface, link, now());
        }
        let is_tidy = self.tidy();
        if is_tidy || !matches!(self.held, Some((Order::Clear(_), _))) {
            self.begin_held();
        }
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

    /// Those that are not wanted, or whose interface is gone.
    pub(super) fn close_sockets(&mut self) {
        let (wanted, seats) = (&self.wanted, &self.seats);
        let is_of_use = |place: &Place, socket: &Socket| {
            let seat = seats.get(&place.0);
            wanted.contains(place) && seat.is_some_and(|(ifindex, _)| *ifindex == socket.ifindex())
        };
        let all = std::mem::take(&mut self.sockets).into_iter();
        let (kept, closed): (_, BTreeMap<_, _>) = all.partition(|(place, socket)| is_of_use(place, socket));
        self.sockets = kept;
        closed.into_values().for_each(|socket| self.hands.close(socket));
    }

    /// Puts back what somebody took off, and takes off what nobody is to have; true: there is nothing of that.
    fn tidy(&mut self) -> bool {
        let seats: Vec<_> = self
            .seats
            .iter()
            .map(|(name, (ifindex, seat))| (name.clone(), *ifindex, seat.marked.clone()))
            .collect();
        let mut is_tidy = true;
        for (interface, ifindex, marked) in seats {
            for (key, missing) in self.holdings.missing(&interface, &marked) {
                let Some(instance) = self.name_of(&key) else { continue };
                let words = format!("somebody took {} off {interface}; putting it back", list(&missing));
                self.trouble(&instance, words);
                self.vrrp.address_lost(&instance, now());
            }
            let stray = self.holdings.stray(&interface, &marked);
            if stray.is_empty() || self.remove(&interface, ifindex, &stray) {
                self.release_stuck(&interface);
            } else {
                is_tidy = false;
            }
        }
        is_tidy
    }

    /// Of instances whose addresses are gone from the interface at last.
    fn release_stuck(&mut self, interface: &str) {
        let all = std::mem::take(&mut self.stuck).into_iter();
        let (gone, stuck): (BTreeMap<_, _>, _) = all.partition(|(_, on)| **on == *interface);
        self.stuck = stuck;
        gone.into_keys()
            .for_each(|instance| self.set_lease(&instance, ELSEWHERE));
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
