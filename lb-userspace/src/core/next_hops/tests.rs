//! A host with two interfaces, gateways and a service address on `lo`.

use super::*;
use crate::core::config::parse;
use crate::core::network::Device;

const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 11];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix {
        address: ip(address),
        length: length.parse().unwrap(),
    }
}

fn link(name: &str, mac: [u8; 6], addresses: &[(&str, u8)]) -> Link {
    let addresses = addresses
        .iter()
        .map(|&(address, length)| Own::lasting(ip(address), length))
        .collect();
    Link {
        name: name.into(),
        mac,
        up: true,
        mtu: 1500,
        addresses,
        xdp: None,
        device: Device::Card,
    }
}

/// eth0 (2) towards clients and the gateway, eth1 (3) towards backends, lo with a service address.
fn network() -> Network {
    let on_link = |ifindex| KernelRoute {
        ifindex,
        gateway: None,
        source: None,
    };
    let by = |gateway| KernelRoute {
        ifindex: 2,
        gateway: Some(ip(gateway)),
        source: None,
    };
    Network {
        links: BTreeMap::from([
            (1, link("lo", [0; 6], &[("127.0.0.1", 8), ("198.18.9.9", 32)])),
            (
                2,
                link("eth0", [2, 0, 0, 0, 0, 0xaa], &[("198.18.0.2", 24), ("198.18.7.2", 24)]),
            ),
            (3, link("eth1", [2, 0, 0, 0, 0, 0xbb], &[("198.18.1.2", 24)])),
        ]),
        routes: BTreeMap::from([
            (prefix("0.0.0.0/0"), by("198.18.0.1")),
            (prefix("198.18.0.0/24"), on_link(2)),
            (prefix("198.18.1.0/24"), on_link(3)),
            (prefix("198.18.2.0/24"), by("198.18.7.9")),
            (
                prefix("198.18.3.0/24"),
                KernelRoute {
                    source: Some(ip("198.18.0.2")),
                    ..on_link(3)
                },
            ),
        ]),
        neighbours: BTreeMap::from([
            ((2, ip("198.18.0.1")), GATEWAY_MAC),
            ((3, ip("198.18.1.11")), BACKEND_MAC),
        ]),
    }
}

fn ask<T>(network: &Network, question: impl FnOnce(NextHops) -> T) -> T {
    question(NextHops {
        network,
        interfaces: &BTreeSet::from([2, 3]),
    })
}

#[test]
fn the_longest_prefix_shows_the_way_and_the_source() {
    let network = network();
    let path = |to| ask(&network, |hops| hops.route_to(ip(to)).unwrap());
    assert_eq!(
        path("198.18.1.11"),
        Path {
            ifindex: 3,
            next: ip("198.18.1.11"),
            source: Some(ip("198.18.1.2"))
        }
    );
    assert_eq!(
        path("198.19.0.1"),
        Path {
            ifindex: 2,
            next: ip("198.18.0.1"),
            source: Some(ip("198.18.0.2"))
        }
    );
    // The address beside the gateway, not the interface's first.
    assert_eq!(
        path("198.18.2.1"),
        Path {
            ifindex: 2,
            next: ip("198.18.7.9"),
            source: Some(ip("198.18.7.2"))
        }
    );
    assert_eq!(path("198.18.3.1").source, Some(ip("198.18.0.2")));
}

#[test]
fn frames_go_to_the_backend_or_its_gateway() {
    let network = network();
    let hop = |to| ask(&network, |hops| hops.next_hop(ip(to))).unwrap();
    assert_eq!(hop("198.18.1.11").ether, Ether::new(BACKEND_MAC, [2, 0, 0, 0, 0, 0xbb]));
    assert_eq!(hop("198.18.1.11").ifindex, 3);
    assert_eq!(hop("198.19.0.1").ether, Ether::new(GATEWAY_MAC, [2, 0, 0, 0, 0, 0xaa]));
}

#[test]
fn every_obstacle_has_words() {
    let mut network = network();
    let why = |network: &Network, to| ask(network, |hops| hops.next_hop(ip(to))).unwrap_err().to_string();
    assert_eq!(why(&network, "198.18.1.12"), "no neighbour at 198.18.1.12 on eth1 yet");
    assert_eq!(why(&network, "198.18.2.1"), "no neighbour at 198.18.7.9 on eth0 yet");
    assert_eq!(
        why(&network, "198.18.7.2"),
        "198.18.7.2 is this host's own address; a backend must be on another host"
    );
    network.links.get_mut(&3).unwrap().up = false;
    assert_eq!(why(&network, "198.18.1.11"), "eth1 is down");
    network.routes.remove(&prefix("0.0.0.0/0"));
    assert_eq!(why(&network, "198.19.0.1"), "no route to 198.19.0.1");
    let not_ours = NextHops {
        network: &network,
        interfaces: &BTreeSet::from([2]),
    }
    .next_hop(ip("198.18.1.11"));
    assert_eq!(
        not_ours.unwrap_err().to_string(),
        "198.18.1.11 is behind eth1, which is not among the interfaces of this node"
    );
}

#[test]
fn replies_follow_the_kernels_routes() {
    let network = network();
    let routes = ask(&network, |hops| hops.routes());
    let on_link = routes[&prefix("198.18.1.0/24")];
    assert_eq!(on_link.next_hop.ether, Ether::new([0; 6], [2, 0, 0, 0, 0, 0xbb]));
    assert_eq!((on_link.next_hop.ifindex, on_link.on_link), (3, 1));
    let default = routes[&prefix("0.0.0.0/0")];
    assert_eq!(
        (default.next_hop.ether.destination(), default.on_link),
        (GATEWAY_MAC, 0)
    );
    let neighbour = routes[&prefix("198.18.1.11/32")];
    assert_eq!(
        (neighbour.next_hop.ether.destination(), neighbour.on_link),
        (BACKEND_MAC, 0)
    );
    // Its gateway is not known: it must not fall to the default route.
    assert_eq!(
        routes[&prefix("198.18.2.0/24")],
        abi::Route {
            next_hop: abi::NextHop::default(),
            on_link: 0
        }
    );
}

#[test]
fn a_route_through_a_foreign_interface_hides_the_default() {
    let network = network();
    let routes = NextHops {
        network: &network,
        interfaces: &BTreeSet::from([2]),
    }
    .routes();
    assert!(!routes[&prefix("198.18.1.0/24")].next_hop.is_known());
    assert!(!routes.contains_key(&prefix("198.18.1.11/32")));
}

#[test]
fn gateways_and_the_way_to_backends_are_kept_known() {
    let backends = ["198.18.1.11", "198.18.1.12", "198.18.2.1", "198.18.0.2"].map(ip);
    let network = network();
    let expected = [
        (2, "198.18.0.1"),
        (2, "198.18.7.9"),
        (3, "198.18.1.11"),
        (3, "198.18.1.12"),
    ];
    assert_eq!(
        ask(&network, |hops| hops.to_resolve(backends.into_iter())),
        expected.map(|(ifindex, address)| (ifindex, ip(address))).into()
    );
}

#[test]
fn interfaces_are_found_by_listens_and_backends() {
    let network = network();
    let config = |listen: &str, backend: &str| {
        let text = format!("[service.web]\nlisten = \"{listen}:80\"\nbackends = [\"{backend}:80\"]\n");
        parse("naru.toml", &text).unwrap().config
    };
    let found = |listen, backend| reaching(&config(listen, backend), &BTreeSet::new(), &network);
    assert_eq!(found("198.18.0.100", "198.18.1.11"), BTreeSet::from([2, 3]));
    assert_eq!(found("198.18.1.2", "198.18.1.11"), BTreeSet::from([3]));
    // An address on lo is met where its route would go.
    assert_eq!(found("198.18.9.9", "198.18.1.11"), BTreeSet::from([2, 3]));
}

/// As `network`, with IPv6 on both interfaces; both have a gateway that calls itself fe80::1.
fn dual() -> Network {
    let mut network = network();
    let mut have = |ifindex: u32, address: &str, passing| {
        let own = Own {
            passing,
            ..Own::lasting(ip(address), 64)
        };
        network.links.get_mut(&ifindex).unwrap().addresses.push(own);
    };
    have(2, "fe80::2", false);
    have(2, "2001:db8::2", false);
    have(3, "fe80::2", false);
    have(3, "2001:db8:9::2", false);
    have(3, "2001:db8:1::7777", true);
    have(3, "2001:db8:1::2", false);
    let on_link = |ifindex| KernelRoute {
        ifindex,
        gateway: None,
        source: None,
    };
    let by = |ifindex| KernelRoute {
        gateway: Some(ip("fe80::1")),
        ..on_link(ifindex)
    };
    network.routes.extend([
        (prefix("::/0"), by(2)),
        (prefix("2001:db8::/64"), on_link(2)),
        (prefix("2001:db8:1::/64"), on_link(3)),
        (prefix("2001:db8:2::/64"), by(3)),
        (prefix("198.18.4.0/24"), by(3)),
        (prefix("fe80::/64"), on_link(2)),
    ]);
    network.neighbours.extend([
        ((2, ip("fe80::1")), GATEWAY_MAC),
        ((3, ip("fe80::1")), BACKEND_MAC),
        ((3, ip("2001:db8:1::11")), BACKEND_MAC),
    ]);
    network
}

#[test]
fn our_own_ipv6_address_is_a_lasting_one_beside_the_backend() {
    let mut network = dual();
    let source = |network: &Network, to| ask(network, |hops| hops.route_to(ip(to)).unwrap().source);
    assert_eq!(source(&network, "2001:db8:1::11"), Some(ip("2001:db8:1::2")));
    // Beside a link-local gateway stands nobody: the first that lasts.
    assert_eq!(source(&network, "2001:db8:2::11"), Some(ip("2001:db8:9::2")));
    assert_eq!(source(&network, "198.18.1.11"), Some(ip("198.18.1.2")));
    // An address that goes one day is better than none, a link-local one is not.
    let addresses = &mut network.links.get_mut(&3).unwrap().addresses;
    addresses.retain(|own| own.passing || is_link_local(own.address));
    assert_eq!(source(&network, "2001:db8:2::11"), Some(ip("2001:db8:1::7777")));
    network.links.get_mut(&3).unwrap().addresses.retain(|own| !own.passing);
    assert_eq!(source(&network, "2001:db8:1::11"), None);
}

#[test]
fn a_preferred_source_counts_once_it_is_ours() {
    let mut network = dual();
    let route = network.routes.get_mut(&prefix("2001:db8:2::/64")).unwrap();
    route.source = Some(ip("2001:db8::5"));
    let source = |network: &Network| ask(network, |hops| hops.route_to(ip("2001:db8:2::11")).unwrap().source);
    assert_eq!(source(&network), Some(ip("2001:db8:9::2")));
    let own = Own::lasting(ip("2001:db8::5"), 128);
    network.links.get_mut(&1).unwrap().addresses.push(own);
    assert_eq!(source(&network), Some(ip("2001:db8::5")));
}

#[test]
fn a_link_local_gateway_is_one_of_its_interface() {
    let network = dual();
    let hop = |to| ask(&network, |hops| hops.next_hop(ip(to))).unwrap();
    let destination = |to| hop(to).ether.destination();
    assert_eq!(
        (hop("2001:db8:7::1").ifindex, destination("2001:db8:7::1")),
        (2, GATEWAY_MAC)
    );
    assert_eq!(
        (hop("2001:db8:2::1").ifindex, destination("2001:db8:2::1")),
        (3, BACKEND_MAC)
    );
    // Of IPv4 by an IPv6 gateway.
    assert_eq!((hop("198.18.4.1").ifindex, destination("198.18.4.1")), (3, BACKEND_MAC));
    let wanted = ask(&network, |hops| hops.to_resolve([ip("2001:db8:1::12")].into_iter()));
    for neighbour in [(2, "fe80::1"), (3, "fe80::1"), (3, "2001:db8:1::12")] {
        assert!(wanted.contains(&(neighbour.0, ip(neighbour.1))), "{wanted:?}");
    }
}

#[test]
fn replies_to_link_local_clients_find_no_way() {
    let network = dual();
    let routes = ask(&network, |hops| hops.routes());
    assert!(!routes[&prefix("fe80::/64")].next_hop.is_known());
    assert!(!routes.contains_key(&prefix("fe80::1/128")));
    assert!(routes[&prefix("2001:db8:1::11/128")].next_hop.is_known());
}

#[test]
fn ipv4_does_not_fall_to_the_default_route_of_ipv6() {
    let mut network = dual();
    let default = |network: &Network| ask(network, |hops| hops.routes()).get(&prefix("0.0.0.0/0")).copied();
    assert!(default(&network).unwrap().next_hop.is_known());
    network.routes.remove(&prefix("0.0.0.0/0"));
    assert_eq!(default(&network), Some(NO_WAY));
    network.routes.remove(&prefix("::/0"));
    assert_eq!(default(&network), None);
}
