//! Translates rtnetlink's dumps into one `Network`.
//!
//! Asks only; what cannot be used to forward over Ethernet is left out here, and so are the interfaces of virtual MACs:
//! what is for them comes and goes by those below.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, TryStreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RoutePreference, RouteType,
    RouteVia,
};
use rtnetlink::{Error, Handle};

use crate::core::network::{Device, KernelRoute, Link, Network, Own, Prefix, XdpAttachment, XdpMode};
use crate::core::vrrp::virtual_link::VirtualLink;

pub struct Picture {
    pub network: Network,
    /// Neighbours that an operator wrote down.
    pub permanent: BTreeSet<(u32, IpAddr)>,
}

pub async fn take(handle: &Handle) -> Result<Picture, Error> {
    let found = all(handle.link().get().execute()).await?;
    let mut links = found
        .iter()
        .map(link)
        .filter(|(_, link)| VirtualLink::recognise(&link.name, link.mac).is_none())
        .collect::<BTreeMap<_, _>>();
    for message in &found {
        look_at_peer(handle, message, &mut links).await;
    }
    for message in all(handle.address().get().execute()).await? {
        if let (Some(link), Some(address)) = (links.get_mut(&message.header.index), address(&message)) {
            link.addresses.push(address);
        }
    }
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        found.extend(all(handle.route().get(main_table(family)).execute()).await?);
    }
    let mut neighbours = BTreeMap::new();
    let mut permanent = BTreeSet::new();
    for message in all(handle.neighbours().get().execute()).await? {
        if let Some((key, mac)) = neighbour(&message) {
            neighbours.insert(key, mac);
            if message.header.state == NeighbourState::Permanent {
                permanent.insert(key);
            }
        }
    }
    let routes = routes(&found, |ifindex| links.contains_key(&ifindex));
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

fn main_table(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message
}

pub(super) fn link(message: &LinkMessage) -> (u32, Link) {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        mac: [0; 6],
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
        mtu: 0,
        addresses: Vec::new(),
        xdp: None,
        device: Device::Card,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => link.xdp = attachment(xdp),
            LinkAttribute::LinkInfo(infos) => link.device = device(infos),
            _ => {}
        }
    }
    (message.header.index, link)
}

fn device(infos: &[LinkInfo]) -> Device {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None => Device::Card,
        Some(InfoKind::Veth) => Device::Veth { peer_has_program: None },
        Some(kind) => Device::Software(kind.to_string()),
    }
}

/// Of a veth with a native program: whether its peer has one too, which may be in another namespace.
async fn look_at_peer(handle: &Handle, message: &LinkMessage, links: &mut BTreeMap<u32, Link>) {
    let Some(link) = links.get_mut(&message.header.index) else {
        return;
    };
    let is_native = link.xdp.is_some_and(|on| on.mode == XdpMode::Native);
    if let Device::Veth { peer_has_program } = &mut link.device
        && is_native
    {
        *peer_has_program = peer(handle, message).await.map(|peer| {
            let on = self::link(&peer).1.xdp;
            on.is_some_and(|on| on.mode == XdpMode::Native)
        });
    }
}

/// None: this daemon may not look into the peer's namespace.
async fn peer(handle: &Handle, message: &LinkMessage) -> Option<LinkMessage> {
    let (mut index, mut namespace) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(peer) => index = Some(*peer),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
            _ => {}
        }
    }
    let mut request = handle.link().get().match_index(index?);
    if let Some(id) = namespace {
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(id));
    }
    request.execute().try_next().await.ok()?
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

pub(super) fn address(message: &AddressMessage) -> Option<Own> {
    let header = &message.header;
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let (mut local, mut far_end) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => far_end = Some(*address),
            _ => {}
        }
    }
    if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) {
        return None;
    }
    // Off a point-to-point link the far end is our own, and the only one that IPv6 names.
    let address = local.or(far_end)?;
    // IPv4 calls an address of a subnet that has another one so, too.
    let temporary = address.is_ipv6() && flags.contains(AddressFlags::Secondary);
    Some(Own {
        address,
        length: header.prefix_len,
        passing: temporary || flags.contains(AddressFlags::Deprecated),
    })
}

/// Those by interfaces of the picture.
fn routes(messages: &[RouteMessage], is_there: impl Fn(u32) -> bool) -> BTreeMap<Prefix, KernelRoute> {
    let mut best: BTreeMap<Prefix, (Rank, KernelRoute)> = BTreeMap::new();
    let usable = messages.iter().filter_map(route);
    for (prefix, rank, route) in usable.filter(|(.., route)| is_there(route.ifindex)) {
        match best.entry(prefix) {
            Entry::Vacant(place) => drop(place.insert((rank, route))),
            Entry::Occupied(mut place) if rank < place.get().0 => drop(place.insert((rank, route))),
            Entry::Occupied(_) => {}
        }
    }
    best.into_iter().map(|(prefix, (_, route))| (prefix, route)).collect()
}

/// The metric, then what IPv6 routers say of themselves (RFC 4191); the lower the better.
type Rank = (u32, u8);

fn route(message: &RouteMessage) -> Option<(Prefix, Rank, KernelRoute)> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.tos != 0 || header.flags.contains(RouteFlags::Dead) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let (mut metric, mut preference, mut source, mut next_hop) = (0, 1, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Preference(RoutePreference::High) => preference = 0,
            RouteAttribute::Preference(RoutePreference::Low) => preference = 2,
            RouteAttribute::PrefSource(preferred) => source = ip(preferred),
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
    // Mapped IPv4 addresses (RFC 4291 §2.5.5.2) are on no wire, and in the kernel's table they would be IPv4's own.
    let is_mapped = matches!(destination, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let is_wanted = table == u32::from(RouteHeader::RT_TABLE_MAIN) && !is_mapped;
    let (ifindex, gateway) = next_hop.filter(|_| is_wanted)?;
    let prefix = Prefix {
        address: destination,
        length: header.destination_prefix_length,
    };
    Some((
        prefix,
        (metric, preference),
        KernelRoute {
            ifindex,
            gateway,
            source,
        },
    ))
}

fn hop(ifindex: u32, attributes: &[RouteAttribute]) -> Option<(u32, Option<IpAddr>)> {
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = Some(ip(address)?),
            // An IPv4 route by an IPv6 neighbour (RFC 8950).
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    Some((ifindex, gateway))
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), [u8; 6])> {
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
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    // The kernel notes broadcast, multicast and loopback destinations as neighbours that need no ARP or ND.
    let mac = mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])?;
    Some(((message.header.ifindex, address?), mac))
}
