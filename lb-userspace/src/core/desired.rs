//! What the kernel's side should hold, from what the world knows. The same world always gives the same state.
//!
//! Decides nothing that `World` has not concluded already.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::abi::{self, BackendId, Listen, TCP, UDP};
use lb_common::wire::{Be16, Be32};

use super::condition::Condition;
use super::config::{self, Config, Protocol};
use super::fingerprint;
use super::kernel::{Attachment, KernelState};
use super::members::Member;
use super::network::Network;
use super::next_hops::NextHops;
use super::world::World;

/// Before there is a config and a network: what is there already.
pub fn desired(world: &World) -> KernelState {
    let Some((applied, network)) = world.settled() else {
        return world.adopted().clone();
    };
    KernelState {
        listens: listens(world, &applied.file.config),
        slots: world
            .members()
            .services
            .values()
            .map(|&id| (id, world.slots(id).to_vec()))
            .collect(),
        backends: world
            .conditions()
            .iter()
            .filter_map(|(&id, condition)| backend(world, id, condition))
            .collect(),
        routes: NextHops {
            network,
            interfaces: world.interfaces(),
        }
        .routes(),
        attached: attached(world, network),
    }
}

/// The key of a listen in the kernel's table.
pub fn listen(service: &config::Service, listen: &SocketAddrV4) -> Listen {
    let protocol = match service.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    Listen {
        address: Be32::from(*listen.ip()),
        port: Be16::new(listen.port()),
        protocol,
        unused: 0,
    }
}

fn listens(world: &World, config: &Config) -> BTreeMap<Listen, abi::Service> {
    let mut listens = BTreeMap::new();
    for (name, service) in &config.services {
        let id = u32::from(world.members().services[name]);
        let value = abi::Service {
            id,
            unused: 0,
            fingerprint: fingerprint::service(name),
        };
        listens.extend(service.listens.iter().map(|address| (listen(service, address), value)));
    }
    listens
}

fn backend(world: &World, id: BackendId, condition: &Condition) -> Option<(BackendId, abi::Backend)> {
    let member: &Member = world.members().backends.get(&id)?;
    let value = abi::Backend {
        address: Be32::from(*member.address.ip()),
        snat: Be32::from(condition.snat.unwrap_or(Ipv4Addr::UNSPECIFIED)),
        port: Be16::new(member.address.port()),
        service: member.service,
        next_hop: condition.next_hop,
        unused: 0,
        fingerprint: member.fingerprint,
    };
    Some((id, value))
}

/// By the mode of the start: another one would take the program off its interface for a moment.
fn attached(world: &World, network: &Network) -> BTreeMap<u32, Attachment> {
    let Some(node) = world.node() else {
        return BTreeMap::new();
    };
    let links = world
        .interfaces()
        .iter()
        .filter_map(|ifindex| Some((*ifindex, network.links.get(ifindex)?)));
    let attachment = |ifindex: u32, name: &String| Attachment {
        interface: name.clone(),
        mode: world.kept_mode(ifindex, name).unwrap_or(node.xdp),
    };
    links
        .map(|(ifindex, link)| (ifindex, attachment(ifindex, &link.name)))
        .collect()
}
