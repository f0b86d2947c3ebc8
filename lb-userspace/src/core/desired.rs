//! What the kernel's side should hold, from what the world knows. The same world always gives the same state.
//!
//! Decides nothing that `World` has not concluded already.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::abi::{self, BackendId, Listen, MAX_SNAT, TCP, UDP};
use lb_common::wire::{Be16, Ip};

use super::condition::Condition;
use super::config::{self, Config, Protocol};
use super::fingerprint;
use super::kernel::{Attachment, KernelState};
use super::members::Member;
use super::network::{Link, Network};
use super::next_hops::NextHops;
use super::world::World;
use super::xdp_mode::choose;

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
            .filter_map(|(&id, condition)| backend(world, network, id, condition))
            .collect(),
        routes: NextHops {
            network,
            interfaces: world.interfaces(),
        }
        .routes(),
        shared: world.leases_by_address().clone(),
        attached: attached(world, network),
    }
}

/// The key of a listen in the kernel's table.
pub fn listen(service: &config::Service, listen: &SocketAddr) -> Listen {
    let protocol = match service.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    Listen {
        address: listen.ip().into(),
        port: Be16::new(listen.port()),
        protocol,
        unused: 0,
    }
}

fn listens(world: &World, config: &Config) -> BTreeMap<Listen, abi::Service> {
    let mut listens = BTreeMap::new();
    for (name, service) in &config.services {
        let value = abi::Service {
            id: world.members().services[name],
            mode: service.mode as u8,
            algorithm: service.algorithm as u8,
            lease: 0,
            unused: [0; 3],
            fingerprint: fingerprint::service(name),
        };
        let leases = world.leases_by_address();
        let with_lease = |address: &SocketAddr| abi::Service {
            lease: leases.get(&address.ip()).copied().unwrap_or_default(),
            ..value
        };
        let of_it = service.listens.iter();
        listens.extend(of_it.map(|address| (listen(service, address), with_lease(address))));
    }
    listens
}

fn backend(
    world: &World,
    network: &Network,
    id: BackendId,
    condition: &Condition,
) -> Option<(BackendId, abi::Backend)> {
    let member: &Member = world.members().backends.get(&id)?;
    let mut snat = [Ip::UNSPECIFIED; MAX_SNAT];
    let snat_count = condition.snat.len().min(MAX_SNAT);
    for (place, address) in snat.iter_mut().zip(&condition.snat) {
        *place = (*address).into();
    }
    let value = abi::Backend {
        address: member.address.ip().into(),
        snat,
        snat_count: snat_count as u16,
        port: Be16::new(member.address.port()),
        service: member.service,
        weight: condition.share,
        next_hop: condition.next_hop,
        mtu: network
            .links
            .get(&condition.next_hop.ifindex)
            .map_or(0, |link| link.mtu),
        unused: 0,
        fingerprint: member.fingerprint,
    };
    Some((id, value))
}

/// By the mode of the start, since another one takes the program off its interface for a moment; but where frames are
/// lost that moment costs nothing.
fn attached(world: &World, network: &Network) -> BTreeMap<u32, Attachment> {
    let Some(node) = world.node() else {
        return BTreeMap::new();
    };
    let links = world
        .interfaces()
        .iter()
        .filter_map(|ifindex| Some((*ifindex, network.links.get(ifindex)?)));
    let attachment = |ifindex: u32, link: &Link| {
        let loses_frames = world.native_given_up(ifindex).is_some();
        let kept = world.kept_mode(ifindex).filter(|_| !loses_frames);
        Attachment {
            interface: link.name.clone(),
            mode: kept.unwrap_or_else(|| choose(node.xdp, &link.device, loses_frames)),
        }
    };
    links
        .map(|(ifindex, link)| (ifindex, attachment(ifindex, link)))
        .collect()
}
