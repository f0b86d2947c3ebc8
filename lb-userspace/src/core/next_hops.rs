//! Draws conclusions from a picture of the network: which way an address is, and what a frame towards it carries.
//!
//! Never asks the kernel anything; what is not in the picture is not known.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lb_common::abi;
use lb_common::wire::Ether;
use thiserror::Error;

use super::config::Config;
use super::network::{KernelRoute, Link, Network, Prefix};

/// The network as seen from the interfaces that our program is on (or is to be on).
#[derive(Clone, Copy)]
pub struct NextHops<'a> {
    pub network: &'a Network,
    pub interfaces: &'a BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub ifindex: u32,
    /// The gateway, or the address itself where it is on the link.
    pub next: Ipv4Addr,
    /// Where packets of our own to that address come from; None: the interface has no address.
    pub source: Option<Ipv4Addr>,
}

/// Why no frame can go to an address, in an operator's words.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unreachable {
    #[error("{0} is this host's own address; a backend must be on another host")]
    Local(Ipv4Addr),
    #[error("no route to {0}")]
    NoRoute(Ipv4Addr),
    #[error("{address} is behind {interface}, which is not among the interfaces of this node")]
    NotOurs { address: Ipv4Addr, interface: String },
    #[error("{interface} is down")]
    LinkDown { interface: String },
    #[error("no neighbour at {next} on {interface} yet")]
    NoNeighbour { next: Ipv4Addr, interface: String },
    #[error("{interface} has no address that packets to {address} could come from; set snat")]
    NoSource { address: Ipv4Addr, interface: String },
}

impl<'a> NextHops<'a> {
    pub fn route_to(&self, address: Ipv4Addr) -> Option<Path> {
        let route = self.longest(address)?;
        let next = route.gateway.unwrap_or(address);
        Some(Path {
            ifindex: route.ifindex,
            next,
            source: self.source(route, next),
        })
    }

    pub fn next_hop(&self, address: Ipv4Addr) -> Result<abi::NextHop, Unreachable> {
        if self.is_local(address) {
            return Err(Unreachable::Local(address));
        }
        let path = self.route_to(address).ok_or(Unreachable::NoRoute(address))?;
        self.frame(address, path.ifindex, path.next)
    }

    /// What the kernel's routes mean for replies to clients. A route that cannot be used is there all the same, as
    /// unknown: without it a less specific one would take the packets.
    pub fn routes(&self) -> BTreeMap<Prefix, abi::Route> {
        let routes = self
            .network
            .routes
            .iter()
            .map(|(prefix, route)| (*prefix, self.reply_route(prefix, route)));
        let direct = |&(ifindex, address): &(u32, Ipv4Addr)| {
            self.route_to(address)
                .is_some_and(|path| path.ifindex == ifindex && path.next == address)
        };
        let neighbours = self
            .network
            .neighbours
            .keys()
            .copied()
            .filter(direct)
            .filter_map(|(_, address)| {
                let next_hop = self.next_hop(address).ok()?;
                Some((Prefix { address, length: 32 }, abi::Route { next_hop, on_link: 0 }))
            });
        routes.chain(neighbours).collect()
    }

    /// The neighbours to keep known: those on the way to `addresses`, and every gateway of ours.
    pub fn to_resolve(&self, addresses: impl Iterator<Item = Ipv4Addr>) -> BTreeSet<(u32, Ipv4Addr)> {
        let paths = addresses
            .filter(|&address| !self.is_local(address))
            .filter_map(|address| self.route_to(address));
        let gateways = self
            .network
            .routes
            .values()
            .filter_map(|route| Some((route.ifindex, route.gateway?)));
        let next = paths.map(|path| (path.ifindex, path.next)).chain(gateways);
        next.filter(|&(ifindex, address)| self.usable(address, ifindex).is_ok())
            .collect()
    }

    fn longest(&self, address: Ipv4Addr) -> Option<&'a KernelRoute> {
        (0..=32)
            .rev()
            .find_map(|length| self.network.routes.get(&Prefix::around(address, length)))
    }

    fn source(&self, route: &KernelRoute, next: Ipv4Addr) -> Option<Ipv4Addr> {
        let addresses = || {
            self.network
                .links
                .get(&route.ifindex)
                .into_iter()
                .flat_map(|link| &link.addresses)
        };
        let beside = addresses().find(|&&(address, length)| Prefix::around(address, length).contains(next));
        route
            .source
            .or(beside.or_else(|| addresses().next()).map(|&(address, _)| address))
    }

    /// What a frame to `address` by way of the neighbour `next` carries.
    fn frame(&self, address: Ipv4Addr, ifindex: u32, next: Ipv4Addr) -> Result<abi::NextHop, Unreachable> {
        let link = self.usable(address, ifindex)?;
        match self.network.neighbours.get(&(ifindex, next)) {
            Some(&mac) => Ok(abi::NextHop {
                ether: Ether::new(mac, link.mac),
                ifindex,
            }),
            None => Err(Unreachable::NoNeighbour {
                next,
                interface: link.name.clone(),
            }),
        }
    }

    fn usable(&self, address: Ipv4Addr, ifindex: u32) -> Result<&'a Link, Unreachable> {
        let link = self.network.links.get(&ifindex).ok_or(Unreachable::NoRoute(address))?;
        let interface = || link.name.clone();
        if !self.interfaces.contains(&ifindex) {
            return Err(Unreachable::NotOurs {
                address,
                interface: interface(),
            });
        }
        if !link.up {
            return Err(Unreachable::LinkDown { interface: interface() });
        }
        Ok(link)
    }

    fn reply_route(&self, prefix: &Prefix, route: &KernelRoute) -> abi::Route {
        let ifindex = route.ifindex;
        let next_hop = match route.gateway {
            Some(gateway) => self.frame(prefix.address, ifindex, gateway),
            None => self.usable(prefix.address, ifindex).map(|link| abi::NextHop {
                ether: Ether::new([0; 6], link.mac),
                ifindex,
            }),
        };
        let on_link = u32::from(route.gateway.is_none() && next_hop.is_ok());
        abi::Route {
            next_hop: next_hop.unwrap_or_default(),
            on_link,
        }
    }

    fn is_local(&self, address: Ipv4Addr) -> bool {
        owners(self.network, address).next().is_some()
    }
}

/// Interfaces that have the address.
pub fn owners(network: &Network, address: Ipv4Addr) -> impl Iterator<Item = u32> {
    let has = move |link: &Link| link.addresses.iter().any(|&(own, _)| own == address);
    network
        .links
        .iter()
        .filter(move |(_, link)| has(link))
        .map(|(&ifindex, _)| ifindex)
}

/// Interfaces by which clients come to a listen. Of its owners those of ours; an address on others (`lo`, a dummy)
/// is reached the way a route to it would go.
pub fn doors(hops: &NextHops, listen: Ipv4Addr) -> BTreeSet<u32> {
    let owners: BTreeSet<u32> = owners(hops.network, listen)
        .filter(|ifindex| hops.interfaces.contains(ifindex))
        .collect();
    if owners.is_empty() {
        hops.route_to(listen).map(|path| path.ifindex).into_iter().collect()
    } else {
        owners
    }
}

/// Interfaces where clients and backends are met, for a file that names none. One without a MAC address (`lo`)
/// carries no frames of ours: for an address on it the clients come the way a route to them would go.
pub fn reaching(config: &Config, network: &Network) -> BTreeSet<u32> {
    let hops = NextHops {
        network,
        interfaces: &BTreeSet::new(),
    };
    let carries = |ifindex: &u32| network.links.get(ifindex).is_some_and(|link| link.mac != [0; 6]);
    let mut reaching = BTreeSet::new();
    for service in config.services.values() {
        for listen in service.listens.iter().map(|listen| *listen.ip()) {
            let owners: Vec<u32> = owners(network, listen).filter(carries).collect();
            let routed = hops.route_to(listen).filter(|_| owners.is_empty());
            reaching.extend(owners.into_iter().chain(routed.map(|path| path.ifindex)));
        }
        let paths = service
            .backends
            .iter()
            .filter_map(|backend| hops.route_to(*backend.address.ip()));
        reaching.extend(paths.map(|path| path.ifindex));
    }
    reaching.retain(carries);
    reaching
}
