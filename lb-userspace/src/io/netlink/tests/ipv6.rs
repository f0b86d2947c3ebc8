//! What is particular to IPv6: tentative and passing addresses, link-local gateways, ND.

use super::*;

fn six(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Of `near`, in the namespace of this thread.
fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/near/{name}"), value).unwrap();
}

/// `near`'s IPv6 addresses but the link-local one.
fn global(network: &Network) -> Vec<Own> {
    let own = near(network).addresses.iter().copied();
    own.filter(|own| matches!(own.address, IpAddr::V6(address) if !address.is_unicast_link_local()))
        .collect()
}

#[test]
fn an_ipv6_address_is_ours_when_nobody_else_has_it() {
    in_lab(async |lab| {
        lab.far("addr add 2001:db8::66/64 dev far nodad");
        let mut watch = Watch::open().await.unwrap();
        ip("addr add 2001:db8::66/64 dev near");
        ip("addr add 2001:db8::1/64 dev near");
        let (network, _) = until(&mut watch, |network| !global(network).is_empty()).await;
        assert_eq!(global(&network), [Own::lasting(six("2001:db8::1").into(), 64)]);
        sysctl("dad_transmits", "1000");
        ip("addr add 2001:db8::2/64 dev near");
        ip("addr add 2001:db8::3/64 dev near nodad");
        let (network, _) = until(&mut watch, |network| global(network).len() > 1).await;
        let found: BTreeSet<IpAddr> = global(&network).iter().map(|own| own.address).collect();
        assert_eq!(
            found,
            ["2001:db8::1", "2001:db8::3"].map(|text| six(text).into()).into()
        );
    });
}

#[test]
fn ipv6_addresses_that_pass_are_known_as_such() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        sysctl("use_tempaddr", "2");
        ip("addr add 2001:db8::1/64 dev near nodad mngtmpaddr");
        ip("addr add 2001:db8::8/64 dev near nodad preferred_lft 0");
        let (network, _) = until(&mut watch, |network| global(network).len() == 3).await;
        let lasting: Vec<Own> = global(&network).into_iter().filter(|own| !own.passing).collect();
        assert_eq!(lasting, [Own::lasting(six("2001:db8::1").into(), 64)]);
    });
}

#[test]
fn ipv6_routes_by_link_local_gateways() {
    in_lab(async |_lab| {
        let mut watch = Watch::open().await.unwrap();
        until(&mut watch, |network| near(network).up).await;
        ip("route add default via fe80::9 dev near metric 20");
        ip("route add default via fe80::2 dev near metric 10");
        ip("route add 2001:db8:3::/64 nexthop via fe80::2 dev near nexthop via fe80::3 dev near");
        ip("route add 2001:db8:4::/64 dev near metric 5 pref low");
        ip("route append 2001:db8:4::/64 via fe80::2 dev near metric 5 pref high");
        ip("route add blackhole 2001:db8:5::/64");
        ip("route add ::ffff:198.18.7.0/120 via fe80::2 dev near");
        ip("route add 198.19.0.0/24 via inet6 fe80::2 dev near");
        ip("route add 2001:db8:6::/64 via fe80::2 dev near table 100");
        let last = Prefix::around(six("2001:db8:7::").into(), 64);
        ip("route add 2001:db8:7::/64 dev near");
        let (network, _) = until(&mut watch, |network| network.routes.contains_key(&last)).await;
        let by = |gateway: Option<&str>| KernelRoute {
            ifindex: index(&network, "near"),
            gateway: gateway.map(|gateway| six(gateway).into()),
            source: None,
        };
        let by_two = by(Some("fe80::2"));
        let mut found = network.routes.clone();
        found.remove(&LINK_LOCAL);
        found.remove(&prefix([198, 18, 0, 0], 24));
        let expected = [
            (Prefix::around(six("::").into(), 0), by_two),
            (Prefix::around(six("2001:db8:3::").into(), 64), by_two),
            (Prefix::around(six("2001:db8:4::").into(), 64), by_two),
            (prefix([198, 19, 0, 0], 24), by_two),
            (last, by(None)),
        ];
        assert_eq!(found, expected.into());
    });
}

#[test]
fn ipv6_neighbours_are_found_and_their_new_addresses_followed() {
    in_lab(async |lab| {
        lab.far("addr add fe80::2/64 dev far nodad");
        lab.far("addr add 2001:db8::2/64 dev far nodad");
        ip("addr add 2001:db8::1/64 dev near nodad");
        let mut watch = Watch::open().await.unwrap();
        let (network, _) = until(&mut watch, |network| near(network).up).await;
        let ifindex = index(&network, "near");
        let keys = ["fe80::2", "2001:db8::2"].map(|text| (ifindex, IpAddr::V6(six(text))));
        assert!(keys.iter().all(|key| !network.neighbours.contains_key(key)));
        let all_at = |network: &Network, mac| keys.iter().all(|key| network.neighbours.get(key) == Some(&mac));
        watch.keep_known(keys.into());
        until(&mut watch, |network| all_at(network, [2, 0, 0, 0, 0, 2])).await;
        lab.far("link set far address 02:00:00:00:00:03");
        ip("-6 neigh flush dev near");
        until(&mut watch, |network| all_at(network, [2, 0, 0, 0, 0, 3])).await;
    });
}
