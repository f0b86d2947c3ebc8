//! IPv6 from clients to backends, beside IPv4.

use lb_tests::lab::*;

use super::*;

#[test]
fn requests_over_ipv6_follow_the_weights() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service6("web", "tcp", 80, &[1, 3]))?;

        let kept = Load::keep_alive(8).requests(2000).start(&net.client, LISTEN6)?.finish();
        assert_clean(&kept, 2000);
        let single = Load::one_each(8).requests(2000).start(&net.client, LISTEN6)?.finish();
        assert_clean(&single, 2000);
        // A share of a quarter strays by one point.
        assert_shares(&single, &[("b1", 1), ("b2", 3)], 4.0);
        let status = naru.status()?;
        assert_eq!(service(&status, "web")?["state"], "up", "{status}");
        assert_eq!(service(&status, "web")?["listen"][0], "[2001:db8::100]:80");
        Ok(())
    });
}

#[test]
fn datagrams_over_ipv6_come_back_whole() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _echo = UdpEcho::on_each(&net)?;
        let _naru = Naru::run(lab, &net.node, &net.service6("echo", "udp", 80, &[1, 1]))?;
        let tally = udp_exchange(&net.client, LISTEN6, 100, 50)?;
        assert_clean(&tally, 5000);
        assert_eq!(tally.by_backend.len(), 2, "{tally:?}");
        Ok(())
    });
}

/// One node, one port, both families; then the file changes under their transfers.
#[test]
fn both_families_are_served_and_shown_side_by_side() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let both = net.service("web", "tcp", 80, &[1, 1]) + "\n" + &net.service6("web6", "tcp", 80, &[1, 1]);
        let naru = Naru::run(lab, &net.node, &both)?;
        let transfers = [LISTEN, LISTEN6]
            .into_iter()
            .map(|listen| Transfers::start(&net.client, listen, 20))
            .collect::<Result<Vec<_>>>()?;

        until(SOON * 3, || {
            let flows = &naru.status()?["flows"];
            ensure!(number(&flows["ipv4"]) >= 20 && number(&flows["ipv6"]) >= 20, "{flows}");
            Ok(())
        })?;
        let shown = naru.tell(&["status"])?;
        for part in [
            "[2001:db8::100]:80",
            "[2001:db8:1::11]:8080",
            "of IPv6",
            "198.18.1.11:8080",
        ] {
            assert!(shown.contains(part), "{part} is not in:\n{shown}");
        }
        let flows: Value = serde_json::from_str(&naru.tell(&["flows", "--service", "web6", "--json"])?)?;
        let rows = flows["flows"].as_array().context("flows are a list")?;
        assert!(rows.len() >= 20, "{flows}");
        for row in rows {
            assert_eq!(row["listen"], "[2001:db8::100]:80", "{row}");
            for (field, start) in [
                ("client", "[2001:db8::2]:"),
                ("snat", "[2001:db8:1::1]:"),
                ("backend_address", "[2001:db8:1::1"),
            ] {
                assert!(row[field].as_str().is_some_and(|text| text.starts_with(start)), "{row}");
            }
        }

        let before = generation(&naru)?;
        naru.save(
            &both
                .replace("b1 = 1, b2 = 1", "b1 = 2, b2 = 1")
                .replace("b1-6 = 1", "b1-6 = 0"),
        )?;
        applied_after(&naru, before)?;
        let tally = Load::one_each(4).requests(500).start(&net.client, LISTEN6)?.finish();
        assert_clean(&tally, 500);
        assert_eq!(tally.by_backend.keys().collect::<Vec<_>>(), ["b2"]);
        for transfers in transfers {
            assert_eq!(transfers.running(), 20);
            assert_unbroken(&transfers.finish(), 20);
        }
        Ok(())
    });
}

#[test]
fn ipv6_flows_survive_new_hardware_addresses() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _echo = UdpEcho::on_each(&net)?;
        let echo = format!("\n[service.echo]\nlisten = \"{LISTEN6}\"\nprotocol = \"udp\"\nbackends = [\"b1-6\"]\n");
        let _naru = Naru::run(lab, &net.node, &(net.service6("web", "tcp", 80, &[1]) + &echo))?;
        // As a machine does whose card was exchanged or whose address moved: it says so by ND.
        let hosts = [&net.backends[0], &net.client];
        hosts
            .iter()
            .try_for_each(|host| host.sysctl("net/ipv6/conf/eth0/ndisc_notify", "1"))?;

        let transfers = Transfers::start(&net.client, LISTEN6, 20)?;
        let mut flow = UdpFlow::open(&net.client, LISTEN6)?;
        flow.ask()?;
        let mut flow = flow.patience(Duration::from_millis(50))?;
        for (host, address) in hosts.iter().zip(["02:00:00:00:be:ef", "02:00:00:00:c1:1e"]) {
            host.ip(&format!("link set eth0 address {address}"))?;
            until(SOON, || flow.ask()).with_context(|| format!("after the change of {}", host.role()))?;
        }
        assert_unbroken(&transfers.finish(), 20);
        Ok(())
    });
}

/// The way of many networks: the backends are behind a router whose address is link-local.
#[test]
fn a_backend_behind_a_link_local_gateway_is_served() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        // b1 routes for an address of b2's, and the way back is the same.
        let (router, behind) = (&net.backends[0], &net.backends[1]);
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        router.ip("addr add fe80::1/64 dev eth0\nroute add 2001:db8:2::/64 via 2001:db8:1::12")?;
        behind.ip("addr add 2001:db8:2::12/64 dev lo nodad\nroute add 2001:db8:1::1 via 2001:db8:1::11")?;
        net.node.ip("route add 2001:db8:2::/64 via fe80::1 dev servers")?;
        let _nginx = Nginx::start(lab, behind, &["[2001:db8:2::12]:8080".parse()?])?;

        let text = format!("[service.web]\nlisten = \"{LISTEN6}\"\nbackends = [\"[2001:db8:2::12]:8080\"]\n");
        let naru = Naru::run(lab, &net.node, &text)?;
        assert_clean(
            &Load::one_each(2).requests(200).start(&net.client, LISTEN6)?.finish(),
            200,
        );
        let status = naru.status()?;
        assert_eq!(
            backend(&status, "web", "[2001:db8:2::12]:8080")?["state"],
            "up",
            "{status}"
        );
        Ok(())
    });
}
