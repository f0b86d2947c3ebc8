//! Translates rtnetlink's dumps into one `Network`.
//!
//! Asks only; what cannot be used to forward IPv4 over Ethernet is left out here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use futures_util::{Stream, TryStreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
};
use rtnetlink::{Error, Handle};

use crate::core::network::{KernelRoute, Link, Network, Prefix, XdpAttachment, XdpMode};

pub struct Picture {
    pub network: Network,
    /// Neighbours that an operator wrote down.
    pub permanent: BTreeSet<(u32, Ipv4Addr)>,
}

pub async fn take(handle: &Handle) -> Result<Picture, Error> {
    let mut links = all(handle.link().get().execute())
        .await?
        .iter()
        .map(link)
        .collect::<BTreeMap<_, _>>();
    for message in all(handle.address().get().execute()).await? {
        if let (Some(link), Some(address)) = (links.get_mut(&message.header.index), address(&message)) {
            link.addresses.push(address);
        }
    }
    let routes = routes(&all(handle.route().get(main_table()).execute()).await?);
    let mut neighbours = BTreeMap::new();
    let mut permanent = BTreeSet::new();
    for message in all(handle
        .neighbours()
        .get()
        .set_address_family(AddressFamily::Inet)
        .execute())
    .await?
    {
        if let Some((key, mac)) = neighbour(&message) {
            neighbours.insert(key, mac);
            if message.header.state == NeighbourState::Permanent {
                permanent.insert(key);
            }
        }
    }
    Ok(Picture {
        network: Network {
            links,
            routes,
            neighbours,
        },
        permanent,
    })
}

async fn all<T>(dump: impl Stream<Item = Result<T, Error>>) -> Result<Vec<T>, Error> {
    dump.try_collect().await
}

fn main_table() -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message
}

fn link(message: &LinkMessage) -> (u32, Link) {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        mac: [0; 6],
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
        mtu: 0,
        addresses: Vec::new(),
        xdp: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => link.xdp = attachment(xdp),
            _ => {}
        }
    }
    (message.header.index, link)
}

/// Offloaded counts as native: the driver runs it. With two programs the native one sees packets first.
fn attachment(attributes: &[LinkXdp]) -> Option<XdpAttachment> {
    let mut generic = None;
    for attribute in attributes {
        match *attribute {
            LinkXdp::DrvProgId(program_id) | LinkXdp::HwProgId(program_id) => {
                return Some(XdpAttachment {
                    program_id,
                    mode: XdpMode::Native,
                });
            }
            LinkXdp::SkbProgId(program_id) => {
                generic = Some(XdpAttachment {
                    program_id,
                    mode: XdpMode::Generic,
                });
            }
            _ => {}
        }
    }
    generic
}

fn address(message: &AddressMessage) -> Option<(Ipv4Addr, u8)> {
    // On a point-to-point link `Address` is the far end; `Local` is ours wherever it is given.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((local, message.header.prefix_len))
}

fn routes(messages: &[RouteMessage]) -> BTreeMap<Prefix, KernelRoute> {
    let mut best: BTreeMap<Prefix, (u32, KernelRoute)> = BTreeMap::new();
    for (prefix, metric, route) in messages.iter().filter_map(route) {
        match best.entry(prefix) {
            Entry::Vacant(place) => drop(place.insert((metric, route))),
            Entry::Occupied(mut place) if metric < place.get().0 => drop(place.insert((metric, route))),
            Entry::Occupied(_) => {}
        }
    }
    best.into_iter().map(|(prefix, (_, route))| (prefix, route)).collect()
}

fn route(message: &RouteMessage) -> Option<(Prefix, u32, KernelRoute)> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.tos != 0 || header.flags.contains(RouteFlags::Dead) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut address = Ipv4Addr::UNSPECIFIED;
    let (mut metric, mut source, mut next_hop) = (0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(destination)) => address = *destination,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::PrefSource(RouteAddress::Inet(preferred)) => source = Some(*preferred),
            RouteAttribute::Oif(ifindex) => next_hop = hop(*ifindex, &message.attributes),
            // One flow keeps one path; of several equal ones the first live one is as good as any.
            RouteAttribute::MultiPath(hops) => {
                next_hop = hops
                    .iter()
                    .filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead))
                    .find_map(|next| hop(next.interface_index, &next.attributes));
            }
            _ => {}
        }
    }
    let (ifindex, gateway) = next_hop.filter(|_| table == u32::from(RouteHeader::RT_TABLE_MAIN))?;
    let prefix = Prefix {
        address,
        length: header.destination_prefix_length,
    };
    Some((
        prefix,
        metric,
        KernelRoute {
            ifindex,
            gateway,
            source,
        },
    ))
}

/// None for an IPv6 gateway (RFC 8950): its link address is not an IPv4 neighbour's.
fn hop(ifindex: u32, attributes: &[RouteAttribute]) -> Option<(u32, Option<Ipv4Addr>)> {
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    Some((ifindex, gateway))
}

fn neighbour(message: &NeighbourMessage) -> Option<((u32, Ipv4Addr), [u8; 6])> {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    if !matches!(
        message.header.state,
        Reachable | Stale | Delay | Probe | Permanent | Noarp
    ) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(destination)) => address = Some(*destination),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    // The kernel notes broadcast, multicast and loopback destinations as neighbours that need no ARP.
    let mac = mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])?;
    Some(((message.header.ifindex, address?), mac))
}
