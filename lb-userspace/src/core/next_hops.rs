//! Draws conclusions from a picture of the network: which way an address is, and what a frame towards it carries.
//!
//! Never asks the kernel anything; what is not in the picture is not known.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use lb_common::abi;
use lb_common::wire::Ether;
use thiserror::Error;

use super::config::Config;
use super::network::{KernelRoute, Link, Network, Own, Prefix, longest};

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
    pub next: IpAddr,
    /// Where packets of our own to that address come from; None: the interface has no address.
    pub source: Option<IpAddr>,
}

/// Why no frame can go to an address, in an operator's words.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unreachable {
    #[error("{0} is this host's own address; a backend must be on another host")]
    Local(IpAddr),
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    #[error("{address} is behind {interface}, which is not among the interfaces of this node")]
    NotOurs { address: IpAddr, interface: String },
    #[error("{interface} is down")]
    LinkDown { interface: String },
    #[error("no neighbour at {next} on {interface} yet")]
    NoNeighbour { next: IpAddr, interface: String },
    #[error("{interface} has no address that packets to {address} could come from; set snat")]
    NoSource { address: IpAddr, interface: String },
    #[error("{address} is behind the gateway {gateway}; mode dsr-l2 reaches backends on the link only")]
    BeyondGateway { address: IpAddr, gateway: IpAddr },
}

impl Unreachable {
    /// Whether the node has no way itself; else it is the next hop that does not answer.
    pub const fn is_own_fault(&self) -> bool {
        !matches!(self, Self::NoNeighbour { .. })
    }
}

impl<'a> NextHops<'a> {
    pub fn route_to(&self, address: IpAddr) -> Option<Path> {
        let route = self.longest(address)?;
        let next = route.gateway.unwrap_or(address);
        Some(Path {
            ifindex: route.ifindex,
            next,
            source: self.source(route, address, next),
        })
    }

    pub fn next_hop(&self, address: IpAddr) -> Result<abi::NextHop, Unreachable> {
        if self.is_local(address) {
            return Err(Unreachable::Local(address));
        }
        let path = self.route_to(address).ok_or(Unreachable::NoRoute(address))?;
        self.frame(address, path.ifindex, path.next)
    }

    /// The way of the node's own packets to an address. None: no route, an interface that is down, or no source address.
    pub fn own_way(&self, address: IpAddr) -> Option<Path> {
        let path = self.route_to(address)?;
        let link = self.network.links.get(&path.ifindex)?;
        path.source.filter(|_| link.up).map(|_| path)
    }

    /// What the kernel's routes mean for replies to clients. A route that cannot be used is there all the same, as
    /// unknown: without it a less specific one would take the packets.
    pub fn routes(&self) -> BTreeMap<Prefix, abi::Route> {
        let all = self.network.routes.iter();
        let routes = all.map(|(prefix, route)| (*prefix, self.reply_route(prefix, route)));
        let direct = |&(ifindex, address): &(u32, IpAddr)| {
            let path = self.route_to(address).filter(|_| !is_link_local(address));
            path.is_some_and(|path| path.ifindex == ifindex && path.next == address)
        };
        let neighbours = self
            .network
            .neighbours
            .keys()
            .copied()
            .filter(direct)
            .filter_map(|(_, address)| {
                let next_hop = self.next_hop(address).ok()?;
                Some((Prefix::of_one(address), abi::Route { next_hop, on_link: 0 }))
            });
        let mut routes: BTreeMap<Prefix, abi::Route> = routes.chain(neighbours).collect();
        if routes.keys().any(takes_ipv4) {
            routes.entry(EVERY_IPV4).or_insert(NO_WAY);
        }
        routes
    }

    /// The neighbours to keep known: those on the way to `addresses`, and every gateway of ours.
    pub fn to_resolve(&self, addresses: impl Iterator<Item = IpAddr>) -> BTreeSet<(u32, IpAddr)> {
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

    fn longest(&self, address: IpAddr) -> Option<&'a KernelRoute> {
        (0..=longest(address))
            .rev()
            .find_map(|length| self.network.routes.get(&Prefix::around(address, length)))
    }

    /// The address beside the one it goes to, or beside the gateway, where there is such a one; rather one that lasts.
    fn source(&self, route: &KernelRoute, address: IpAddr, next: IpAddr) -> Option<IpAddr> {
        let fits = |source: &IpAddr| source.is_ipv4() == address.is_ipv4() && !is_link_local(*source);
        let beside = |own: &Own| {
            let block = Prefix::around(own.address, own.length);
            block.contains(address) || block.contains(next)
        };
        let preferred = route.source.filter(fits).filter(|&source| self.is_local(source));
        preferred.or_else(|| {
            let own = &self.network.links.get(&route.ifindex)?.addresses;
            let own = own.iter().filter(|own| fits(&own.address));
            own.min_by_key(|own| (!beside(own), own.passing)).map(|own| own.address)
        })
    }

    /// What a frame to `address` by way of the neighbour `next` carries.
    fn frame(&self, address: IpAddr, ifindex: u32, next: IpAddr) -> Result<abi::NextHop, Unreachable> {
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

    fn usable(&self, address: IpAddr, ifindex: u32) -> Result<&'a Link, Unreachable> {
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
        // Each interface has that block, and the program looks a client up by its address alone.
        if is_link_local(prefix.address) {
            return NO_WAY;
        }
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

    fn is_local(&self, address: IpAddr) -> bool {
        owners(self.network, address).next().is_some()
    }
}

const NO_WAY: abi::Route = abi::Route {
    next_hop: abi::NextHop {
        ether: Ether { words: [0; 3] },
        ifindex: 0,
    },
    on_link: 0,
};

const EVERY_IPV4: Prefix = Prefix {
    address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    length: 0,
};

/// In the kernel's table IPv4 lies within `::/0`: its own default has to be there too, lest packets take that one.
fn takes_ipv4(prefix: &Prefix) -> bool {
    prefix.contains(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into())
}

/// Of IPv6, where such an address says nothing without its link.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Interfaces that have the address.
pub fn owners(network: &Network, address: IpAddr) -> impl Iterator<Item = u32> {
    let has = move |link: &Link| link.addresses.iter().any(|own| own.address == address);
    network
        .links
        .iter()
        .filter(move |(_, link)| has(link))
        .map(|(&ifindex, _)| ifindex)
}

/// Interfaces by which clients come to a listen. Of its owners those of ours; an address on others (`lo`, a dummy)
/// is reached the way a route to it would go.
pub fn doors(hops: &NextHops, listen: IpAddr) -> BTreeSet<u32> {
    let owners: BTreeSet<u32> = owners(hops.network, listen)
        .filter(|ifindex| hops.interfaces.contains(ifindex))
        .collect();
    if owners.is_empty() {
        hops.route_to(listen).map(|path| path.ifindex).into_iter().collect()
    } else {
        owners
    }
}

/// Interfaces where clients and backends are met, and those of shared addresses, for a file that names none. One without a MAC address (`lo`)
/// carries no frames of ours: for an address on it the clients come the way a route to them would go.
pub fn reaching(config: &Config, resolved: &BTreeSet<IpAddr>, network: &Network) -> BTreeSet<u32> {
    let hops = NextHops {
        network,
        interfaces: &BTreeSet::new(),
    };
    let carries = |ifindex: &u32| network.links.get(ifindex).is_some_and(|link| link.mac != [0; 6]);
    let mut reaching = BTreeSet::new();
    for service in config.services.values() {
        for listen in service.listens.iter().map(|listen| listen.ip()) {
            let owners: Vec<u32> = owners(network, listen).filter(carries).collect();
            let routed = hops.route_to(listen).filter(|_| owners.is_empty());
            reaching.extend(owners.into_iter().chain(routed.map(|path| path.ifindex)));
        }
        let backends = service.backends.iter();
        let backends = backends.filter_map(|backend| Some(backend.place.address()?.ip()));
        let paths = backends.filter_map(|address| hops.route_to(address));
        reaching.extend(paths.map(|path| path.ifindex));
    }
    let homes: BTreeSet<&str> = config
        .vrrp
        .values()
        .map(|instance| &*instance.settings.interface)
        .collect();
    let links = network
        .links
        .iter()
        .filter(|(_, link)| homes.contains(link.name.as_str()));
    reaching.extend(links.map(|(&ifindex, _)| ifindex));
    let paths = resolved.iter().filter_map(|address| hops.route_to(*address));
    reaching.extend(paths.map(|path| path.ifindex));
    reaching.retain(carries);
    reaching
}
