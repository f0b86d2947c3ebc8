//! What is on the interfaces: links, addresses that adverts are sent from, shared ones that are missing or too much.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::lease::ELSEWHERE;

use super::super::Order;
use super::super::hands::{Place, Seats, Unmade};
use super::super::socket::Socket;
use super::{Keeper, now};
use crate::core::network::Own;
use crate::core::vrrp::machine::Link;
use crate::core::vrrp::settings::{Address, Key, Settings};
use crate::core::vrrp::virtual_link::VirtualLink;
use crate::io::netlink::addresses::Interface;

impl Keeper {
    /// What is there now, and what follows.
    pub(super) fn see(&mut self, seats: Seats, unmade: Unmade) {
        (self.seats, self.unmade) = (seats, unmade);
        self.mark_shared();
        self.close_sockets();
        let interfaces: BTreeSet<_> = self.wanted.iter().map(|(interface, _)| interface.clone()).collect();
        for interface in &interfaces {
            let link = self.link(interface);
            self.vrrp.link(interface, link, now());
        }
        self.weigh_all();
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
            .map(|(name, (_, seat))| (name.clone(), seat.marked.clone(), is_deaf(seat)))
            .collect();
        let mut is_tidy = true;
        self.release_stuck(|interface, seats| !seats.contains_key(interface));
        for (interface, marked, is_deaf) in seats {
            let served: &[Address] = if is_deaf { &[] } else { &marked };
            for (key, missing) in self.holdings.missing(&interface, served) {
                let Some(instance) = self.name_of(&key) else { continue };
                let words = format!("somebody took {} off {interface}; putting it back", list(&missing));
                self.trouble(&instance, words);
                self.vrrp.address_lost(&instance, now());
            }
            let stray = self.holdings.stray(&interface, &marked);
            if stray.is_empty() || self.remove(&interface, &stray) {
                self.release_stuck(|on, _| on == &*interface);
            } else {
                is_tidy = false;
            }
        }
        is_tidy
    }

    /// Of instances whose addresses are gone at last from such an interface.
    fn release_stuck(&mut self, is_free: impl Fn(&str, &Seats) -> bool) {
        let all = std::mem::take(&mut self.stuck).into_iter();
        let (gone, stuck): (BTreeMap<_, _>, _) = all.partition(|(_, on)| is_free(on, &self.seats));
        self.stuck = stuck;
        gone.into_keys()
            .for_each(|instance| self.set_lease(&instance, ELSEWHERE));
    }

    /// The interface that the addresses of the instance go to, as far as it is there.
    pub(super) fn home(&self, key: &Key) -> Option<Arc<str>> {
        let (parent, _) = self.seats.get(&key.interface)?;
        if !self.settings_of(key).is_some_and(|one| one.virtual_mac) {
            return Some(key.interface.clone());
        }
        let (home, _) = self.seats.get_key_value(&*VirtualLink::of(key, *parent).to_string())?;
        Some(home.clone())
    }

    /// Why an instance with a virtual MAC has no interface for it, while the one below is there.
    pub(super) fn homeless(&self, instance: &str) -> Option<String> {
        let key = self.settings().find(|one| *one.name == *instance)?.key();
        let (parent, _) = self.seats.get(&key.interface)?;
        if self.home(&key).is_some() {
            return None;
        }
        let missing = || format!("{} is missing", VirtualLink::of(&key, *parent));
        Some(self.unmade.get(&key).cloned().unwrap_or_else(missing))
    }

    fn name_of(&self, key: &Key) -> Option<Arc<str>> {
        self.settings_of(key).map(|one| one.name.clone())
    }

    fn settings_of(&self, key: &Key) -> Option<&Settings> {
        self.settings().find(|one| one.key() == *key)
    }
}

/// An interface of ours that somebody has set down has its addresses for nothing.
const fn is_deaf(seat: &Interface) -> bool {
    seat.virtual_link.is_some() && !seat.is_set_up
}

fn list(addresses: &[Address]) -> String {
    let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    words.join(", ")
}
