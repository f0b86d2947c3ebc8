//! Each harm, on a host that has it, and what ends it.

use std::collections::BTreeMap;

use super::*;
use crate::core::config;
use crate::core::network::{Device, KernelRoute};

/// One section, with these lines.
fn config(lines: &str) -> Config {
    let text = format!(
        "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\"]\n[vrrp.a]\nid = 1\n\
         interface = \"eth0\"\n{lines}\n"
    );
    let parsed = config::parse("naru.toml", &text);
    parsed.unwrap_or_else(|found| panic!("{found:#?}")).config
}

fn own(text: &str) -> Own {
    let (address, length) = text.split_once('/').unwrap();
    Own::lasting(address.parse().unwrap(), length.parse().unwrap())
}

/// Interfaces with their addresses; the first to have a block has the way there.
fn network(links: &[(&str, &[&str])]) -> Network {
    let mut network = Network::default();
    for ((name, addresses), ifindex) in links.iter().zip(1..) {
        let addresses: Vec<Own> = addresses.iter().map(|text| own(text)).collect();
        for own in &addresses {
            let route = KernelRoute {
                ifindex,
                gateway: None,
                source: None,
            };
            network
                .routes
                .entry(Prefix::around(own.address, own.length))
                .or_insert(route);
        }
        let link = Link {
            name: (*name).to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            mtu: 1500,
            addresses,
            xdp: None,
            device: Device::Card,
        };
        network.links.insert(ifindex, link);
    }
    network
}

fn troubles_of(config: &Config, network: &Network, set: &[(&str, u32)]) -> Vec<String> {
    let set: BTreeMap<&str, u32> = set.iter().copied().collect();
    troubles(config, network, |sysctl| {
        Some(set.get(sysctl.to_string().as_str()).copied().unwrap_or(0))
    })
}

const VIP: &str = "addresses = [\"198.18.0.100/24\"]";

#[test]
fn a_host_as_it_comes_is_good() {
    let network = network(&[("eth0", &["198.18.0.11/24"]), ("eth1", &["198.18.1.11/24"])]);
    assert_eq!(troubles_of(&config(VIP), &network, &[]), [""; 0]);
    let told = troubles(&config(VIP), &network, |_| None);
    assert_eq!(told, [""; 0], "nor is one without any");
}

#[test]
fn who_is_not_answered_is_told_of() {
    let network = network(&[("eth0", &["198.18.0.11/24"])]);
    let alone = config("addresses = [\"198.18.0.100\"]");
    let own = "net.ipv4.conf.eth0.arp_ignore";
    assert_eq!(
        troubles_of(&config(VIP), &network, &[(own, 8)]),
        ["[vrrp.a] nobody learns by ARP where 198.18.0.100/24 is: net.ipv4.conf.eth0.arp_ignore is 8; set it to 1"]
    );
    let of_all = troubles_of(&alone, &network, &[("net.ipv4.conf.all.arp_ignore", 2), (own, 1)]);
    assert_eq!(
        of_all,
        ["[vrrp.a] nobody learns by ARP where 198.18.0.100/32 is: net.ipv4.conf.all.arp_ignore is 2; set it to 1"]
    );
    assert_eq!(
        troubles_of(&config(VIP), &network, &[(own, 2)]),
        [""; 0],
        "those of its block are"
    );
    assert_eq!(troubles_of(&alone, &network, &[(own, 1)]), [""; 0]);
}

#[test]
fn an_interface_that_answers_for_another_is_told_of() {
    let near = network(&[("eth0", &["198.18.0.11/24"]), ("mgmt.7", &["198.18.0.12/16"])]);
    assert_eq!(
        troubles_of(&config(VIP), &near, &[]),
        [
            "[vrrp.a] mgmt.7 is on the network of 198.18.0.100 too, and answers for it by ARP; set \
          net/ipv4/conf/mgmt.7/arp_ignore to 1"
        ]
    );
    for good in [
        "net/ipv4/conf/mgmt.7/arp_ignore",
        "net.ipv4.conf.all.arp_ignore",
        "net.ipv4.conf.all.arp_filter",
    ] {
        assert_eq!(troubles_of(&config(VIP), &near, &[(good, 1)]), [""; 0], "{good}");
    }
}

#[test]
fn adverts_that_come_another_way_are_told_of() {
    let crossed = network(&[("eth1", &["198.18.0.12/24"]), ("eth0", &["198.18.0.11/24"])]);
    let quiet = ("net.ipv4.conf.eth1.arp_ignore", 1);
    let strict = ("net.ipv4.conf.all.rp_filter", 1);
    let dropped = |from: &str| {
        format!(
            "[vrrp.a] adverts from {from} are dropped: the way there leads through eth1, and \
             net.ipv4.conf.all.rp_filter is 1; set it to 2"
        )
    };
    let unicast = config(&format!("{VIP}\npeers = [\"198.18.0.13\"]"));
    assert_eq!(
        troubles_of(&config(VIP), &crossed, &[quiet, strict]),
        [dropped("198.18.0.0/24")]
    );
    assert_eq!(
        troubles_of(&unicast, &crossed, &[quiet, strict]),
        [dropped("198.18.0.13/32")]
    );
    let loose = ("net.ipv4.conf.eth0.rp_filter", 2);
    assert_eq!(troubles_of(&config(VIP), &crossed, &[quiet, strict, loose]), [""; 0]);
    let straight = network(&[("eth0", &["198.18.0.11/24"])]);
    assert_eq!(troubles_of(&config(VIP), &straight, &[strict]), [""; 0]);
}

#[test]
fn an_own_address_that_hangs_on_a_shared_one_is_told_of() {
    let behind = network(&[("eth0", &["198.18.9.1/24", "198.18.0.100/24", "198.18.0.11/24"])]);
    assert_eq!(
        troubles_of(&config(VIP), &behind, &[]),
        [
            "[vrrp.a] 198.18.0.11/24 goes when 198.18.0.100/24 does, which was there before it; set \
          net.ipv4.conf.eth0.promote_secondaries to 1"
        ]
    );
    let promotes = [("net.ipv4.conf.all.promote_secondaries", 1)];
    assert_eq!(troubles_of(&config(VIP), &behind, &promotes), [""; 0]);
    let before = network(&[("eth0", &["198.18.0.10/24", "198.18.0.100/24", "198.18.0.11/24"])]);
    assert_eq!(
        troubles_of(&config(VIP), &before, &[]),
        [""; 0],
        "it goes with an own one"
    );
    let other_length = network(&[("eth0", &["198.18.0.100/24", "198.18.0.11/25"])]);
    assert_eq!(troubles_of(&config(VIP), &other_length, &[]), [""; 0]);
}

#[test]
fn what_spoils_a_virtual_mac_is_told_of() {
    let near = network(&[("eth0", &["198.18.0.11/24"])]);
    let section = config(&format!("{VIP}\nvirtual_mac = true"));
    let good = [
        ("net.ipv4.conf.eth0.arp_ignore", 1),
        ("net.ipv4.conf.all.arp_announce", 2),
    ];
    assert_eq!(troubles_of(&section, &near, &good), [""; 0]);
    assert_eq!(
        troubles_of(&section, &near, &[]),
        [
            "[vrrp.a] eth0 answers by ARP for 198.18.0.100 with its own MAC, beside the virtual one; set \
             net.ipv4.conf.eth0.arp_ignore to 1",
            "[vrrp.a] when this host itself answers from 198.18.0.100, eth0 asks by ARP with its own MAC, which neighbours \
             learn; set net.ipv4.conf.eth0.arp_announce to 2"
        ]
    );
    let with = |more: (&'static str, u32)| troubles_of(&section, &near, &[&good[..], &[more]].concat());
    assert_eq!(
        with(("net.ipv4.conf.all.arp_filter", 1)),
        ["[vrrp.a] nobody learns by ARP where 198.18.0.100 is: net.ipv4.conf.all.arp_filter is 1; set it to 0"]
    );
    assert_eq!(
        with(("net.ipv4.conf.all.arp_ignore", 8)),
        ["[vrrp.a] nobody learns by ARP where 198.18.0.100/24 is: net.ipv4.conf.all.arp_ignore is 8; set it to 1"]
    );
    assert_eq!(
        with(("net.ipv4.conf.eth0.arp_ignore", 8)),
        [""; 0],
        "it is of the interface below"
    );
    let far = network(&[("eth0", &["198.18.9.11/24"])]);
    assert_eq!(
        troubles_of(&section, &far, &good),
        ["[vrrp.a] no route to 198.18.0.0/24 leads through eth0, and virtual_mac adds none; add one, or an address"]
    );
    let alone = config("addresses = [\"198.18.0.100\"]\nvirtual_mac = true");
    assert_eq!(troubles_of(&alone, &far, &good), [""; 0]);
    let behind = network(&[("eth0", &["198.18.0.100/24", "198.18.0.11/24"])]);
    assert_eq!(troubles_of(&section, &behind, &good), [""; 0], "none goes with it");
}

#[test]
fn an_interface_without_ipv6_is_told_of() {
    let network = network(&[("eth0", &["198.18.0.11/24"])]);
    let six = config("addresses = [\"fe80::100/64\"]");
    let off = [("net.ipv6.conf.eth0.disable_ipv6", 1)];
    assert_eq!(
        troubles_of(&six, &network, &off),
        ["[vrrp.a] eth0 has no IPv6; set net.ipv6.conf.eth0.disable_ipv6 to 0"]
    );
    assert_eq!(troubles_of(&config(VIP), &network, &off), [""; 0]);
}

#[test]
fn a_peer_beyond_a_router_is_told_of() {
    let mut network = network(&[("eth0", &["198.18.0.11/24"])]);
    let config = config("addresses = [\"198.18.0.100\"]\npeers = [\"198.18.0.12\", \"198.18.1.12\"]");
    assert_eq!(troubles_of(&config, &network, &[]), [""; 0], "no way is known");
    let by_router = KernelRoute {
        ifindex: 1,
        gateway: Some([198, 18, 0, 1].into()),
        source: None,
    };
    network.routes.insert(Prefix::around([0, 0, 0, 0].into(), 0), by_router);
    assert_eq!(
        troubles_of(&config, &network, &[]),
        [
            "[vrrp.a] the way to peer 198.18.1.12 leads through the router 198.18.0.1: neither node hears the other, and both \
             are master; put both on one link, and give as peers their addresses there"
        ]
    );
}
