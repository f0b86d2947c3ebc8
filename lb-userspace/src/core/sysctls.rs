//! Settings of the kernel that break what shared addresses rest on: what each does here, and what to set instead.
//!
//! They are the operator's: never changed, and only those told that do harm as the host is now. docs/vrrp.md lists them.
//! Who reads them is `io/sysctls`. Tested here and in the lab.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::core::config::Config;
use crate::core::dns::Family;
use crate::core::network::{KernelRoute, Link, Network, Own, Prefix};
use crate::core::vrrp::settings::{Address, Settings};
use crate::core::vrrp::virtual_link::VirtualLink;

#[cfg(test)]
mod tests;

/// Values of arp_ignore with which an interface answers for addresses of another interface no more.
const OWN_ADDRESSES_ALONE: [u32; 3] = [1, 2, 8];
/// The value of arp_announce with which an interface asks in the name of its own addresses.
const BEST_ADDRESS: u32 = 2;

/// Of one interface, or of "all".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctl<'a> {
    family: Family,
    interface: &'a str,
    key: &'a str,
}

impl<'a> Sysctl<'a> {
    pub const fn new(family: Family, interface: &'a str, key: &'a str) -> Self {
        Self { family, interface, key }
    }

    fn parts(&self) -> [&str; 5] {
        let family = match self.family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        ["net", family, "conf", self.interface, self.key]
    }

    pub fn path(&self) -> String {
        format!("/proc/sys/{}", self.parts().join("/"))
    }
}

/// As `sysctl` takes it, which takes a point in the name of an interface for another part.
impl fmt::Display for Sysctl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.interface.contains('.') { "/" } else { "." };
        f.write_str(&self.parts().join(between))
    }
}

/// The kernel's answers; None: it has no such setting.
struct Host<'a, R> {
    network: &'a Network,
    shared: BTreeSet<IpAddr>,
    read: R,
}

/// What is wrong with the host of a node that shares addresses, each with what to set.
pub fn troubles(config: &Config, network: &Network, read: impl Fn(&Sysctl<'_>) -> Option<u32>) -> Vec<String> {
    let sections = config.vrrp.values().map(|instance| &instance.settings);
    let shared = sections.clone().flat_map(|section| &section.addresses);
    let host = Host {
        network,
        shared: shared.map(|shared| shared.address).collect(),
        read,
    };
    let troubles = sections.flat_map(|section| {
        let all = match section.family() {
            Family::Ipv4 => [
                host.unanswered(section),
                host.beside_the_virtual_mac(section),
                host.answered_elsewhere(section),
                host.unheard(section),
                host.taken_along(section),
                host.beyond_a_router(section),
            ]
            .concat(),
            Family::Ipv6 => host.without_ipv6(section).into_iter().collect(),
        };
        all.into_iter()
            .map(|trouble| format!("[vrrp.{}] {trouble}", section.name))
    });
    troubles.collect()
}

impl<R: Fn(&Sysctl<'_>) -> Option<u32>> Host<'_, R> {
    /// Nobody on the link learns where the address is.
    fn unanswered(&self, section: &Settings) -> Vec<String> {
        let home = self.home(section);
        let (sysctl, value) = self.of_both(&home, "arp_ignore");
        let is_silent = |shared: &&Address| value == 8 || value == 2 && shared.length == 32;
        let silent: Vec<_> = section
            .addresses
            .iter()
            .filter(is_silent)
            .map(ToString::to_string)
            .collect();
        if silent.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "nobody learns by ARP where {} is: {sysctl} is {value}; set it to 1",
            silent.join(", ")
        )]
    }

    /// The interface below an own one for the virtual MAC speaks for the address, too; or nobody does.
    fn beside_the_virtual_mac(&self, section: &Settings) -> Vec<String> {
        let interface = &*section.interface;
        // Where it has no address it is not ready, and the instance at fault for that.
        let has_address = |link: &&Link| link.addresses.iter().any(|own| own.address.is_ipv4());
        let is_there = (self.read)(&ipv4(interface, "arp_ignore")).is_some();
        if !section.virtual_mac || !is_there || self.link(section).filter(has_address).is_none() {
            return Vec::new();
        }
        let addresses: Vec<_> = section.addresses.iter().map(|own| own.address.to_string()).collect();
        let addresses = addresses.join(", ");
        let mut troubles = Vec::new();
        if !OWN_ADDRESSES_ALONE.contains(&self.of_either(interface, "arp_ignore")) {
            let sysctl = ipv4(interface, "arp_ignore");
            troubles.push(format!(
                "{interface} answers by ARP for {addresses} with its own MAC, beside the virtual one; set {sysctl} to 1"
            ));
        }
        if self.of_either(interface, "arp_announce") != BEST_ADDRESS {
            let sysctl = ipv4(interface, "arp_announce");
            troubles.push(format!(
                "when this host itself answers from {addresses}, {interface} asks by ARP with its own MAC, which neighbours \
                 learn; set {sysctl} to {BEST_ADDRESS}"
            ));
        }
        let filter = ipv4("all", "arp_filter");
        if (self.read)(&filter).is_some_and(|value| value != 0) {
            troubles.push(format!(
                "nobody learns by ARP where {addresses} is: {filter} is 1; set it to 0"
            ));
        }
        let blocks = section.addresses.iter().filter(|shared| shared.length < 32);
        let blocks: BTreeSet<_> = blocks
            .map(|shared| Prefix::around(shared.address, shared.length))
            .collect();
        let elsewhere = blocks.iter().filter(|block| self.way_to(block) != Some(interface));
        troubles.extend(elsewhere.map(|block| {
            format!("no route to {block} leads through {interface}, and virtual_mac adds none; add one, or an address")
        }));
        troubles
    }

    /// Clients find another interface, past the program and its lease.
    fn answered_elsewhere(&self, section: &Settings) -> Vec<String> {
        let others = self.network.links.values();
        let others = others.filter(|link| link.up && *link.name != *section.interface && link.name != "lo");
        let trouble = |link: &Link| {
            let near = section.addresses.iter().find(|shared| {
                let mut blocks = link.addresses.iter().map(|own| Prefix::around(own.address, own.length));
                blocks.any(|block| block.contains(shared.address))
            })?;
            let answers =
                self.of_both(&link.name, "arp_ignore").1 == 0 && self.of_either(&link.name, "arp_filter") == 0;
            answers.then(|| {
                format!(
                    "{} is on the network of {} too, and answers for it by ARP; set {} to 1",
                    link.name,
                    near.address,
                    ipv4(&link.name, "arp_ignore")
                )
            })
        };
        others.filter_map(trouble).collect()
    }

    /// The kernel drops adverts of the other nodes.
    fn unheard(&self, section: &Settings) -> Vec<String> {
        let (sysctl, value) = self.of_both(&section.interface, "rp_filter");
        if value != 1 {
            return Vec::new();
        }
        let from: BTreeSet<Prefix> = if section.peers.is_empty() {
            let own = self.link(section).into_iter().flat_map(|link| &link.addresses);
            let own = own.filter(|own| own.address.is_ipv4() && !self.shared.contains(&own.address));
            own.map(|own| Prefix::around(own.address, own.length)).collect()
        } else {
            section.peers.iter().copied().map(Prefix::of_one).collect()
        };
        let elsewhere = from.iter().filter_map(|from| {
            let way = self.way_to(from).filter(|way| *way != &*section.interface)?;
            Some(format!(
                "adverts from {from} are dropped: the way there leads through {way}, and {sysctl} is 1; set it to 2"
            ))
        });
        elsewhere.collect()
    }

    /// Adverts that cross a router are refused on either side, and both nodes are master.
    fn beyond_a_router(&self, section: &Settings) -> Vec<String> {
        let gateway = |peer: &IpAddr| self.route_to(&Prefix::of_one(*peer))?.gateway;
        let beyond = section.peers.iter().filter_map(|peer| Some((peer, gateway(peer)?)));
        let trouble = |(peer, gateway): (&IpAddr, IpAddr)| {
            format!(
                "the way to peer {peer} leads through the router {gateway}: neither node hears the other, and both are master; \
                 put both on one link, and give as peers their addresses there"
            )
        };
        beyond.map(trouble).collect()
    }

    /// A node's own address goes when the shared one does.
    fn taken_along(&self, section: &Settings) -> Vec<String> {
        if section.virtual_mac || self.of_either(&section.interface, "promote_secondaries") != 0 {
            return Vec::new();
        }
        let all = self.link(section).map_or(&[][..], |link| &link.addresses);
        let goes_with = |own: &Own| {
            let own = Address::from(*own);
            // In the kernel's order: the first of a block, and those that go with it.
            let first = all
                .iter()
                .copied()
                .map(Address::from)
                .find(|other| *other == own || other.is_beside(&own))?;
            let goes = !self.shared.contains(&own.address) && self.shared.contains(&first.address);
            goes.then(|| {
                format!(
                    "{own} goes when {first} does, which was there before it; set {} to 1",
                    ipv4(&section.interface, "promote_secondaries")
                )
            })
        };
        all.iter()
            .filter(|own| own.address.is_ipv4())
            .filter_map(goes_with)
            .collect()
    }

    fn without_ipv6(&self, section: &Settings) -> Option<String> {
        let sysctl = Sysctl {
            family: Family::Ipv6,
            interface: &section.interface,
            key: "disable_ipv6",
        };
        let off = (self.read)(&sysctl).is_some_and(|value| value != 0);
        off.then(|| format!("{} has no IPv6; set {sysctl} to 0", section.interface))
    }

    /// Of two that the kernel takes the higher of: which that is.
    fn of_both<'i>(&self, interface: &'i str, key: &'i str) -> (Sysctl<'i>, u32) {
        let both = [ipv4("all", key), ipv4(interface, key)];
        let both = both.map(|sysctl| (sysctl, (self.read)(&sysctl).unwrap_or_default()));
        let [all, own] = both;
        if all.1 > own.1 { all } else { own }
    }

    fn of_either(&self, interface: &str, key: &str) -> u32 {
        self.of_both(interface, key).1
    }

    fn link(&self, section: &Settings) -> Option<&Link> {
        self.numbered(section).map(|(_, link)| link)
    }

    fn numbered(&self, section: &Settings) -> Option<(u32, &Link)> {
        let mut links = self.network.links.iter().map(|(ifindex, link)| (*ifindex, link));
        links.find(|(_, link)| *link.name == *section.interface)
    }

    /// The interface that the addresses are on.
    fn home(&self, section: &Settings) -> String {
        let parent = self.numbered(section).filter(|_| section.virtual_mac);
        let own = parent.map(|(parent, _)| VirtualLink::of(&section.key(), parent).to_string());
        own.unwrap_or_else(|| section.interface.to_string())
    }

    /// The interface that packets to it leave by.
    fn way_to(&self, to: &Prefix) -> Option<&str> {
        let route = self.route_to(to)?;
        self.network.links.get(&route.ifindex).map(|link| link.name.as_str())
    }

    fn route_to(&self, to: &Prefix) -> Option<&KernelRoute> {
        let routes = self.network.routes.iter();
        let routes = routes.filter(|(prefix, _)| prefix.length <= to.length && prefix.contains(to.address));
        let (_, route) = routes.max_by_key(|(prefix, _)| prefix.length)?;
        Some(route)
    }
}

const fn ipv4<'a>(interface: &'a str, key: &'a str) -> Sysctl<'a> {
    Sysctl::new(Family::Ipv4, interface, key)
}
