//! What clients get through the load balancer: right answers, from the right backends, in the right shares.

use lb_tests::lab::*;

use super::*;

const GIGABYTE: u64 = 1_000_000_000;

#[test]
fn requests_follow_the_weights_without_an_error() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 2, 3]))?;

        let kept = Load::keep_alive(16)
            .requests(10_000)
            .start(&net.client, LISTEN)?
            .finish();
        assert_clean(&kept, 10_000);
        // A port always meets the same backend, so ports are what is counted: the more of them, the less chance.
        net.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        let single = Load::one_each(8).requests(10_000).start(&net.client, LISTEN)?.finish();
        assert_clean(&single, 10_000);
        // Chance alone moves a share of a half by 0.5 points, and so by two points once in a thousand runs or less.
        assert_shares(&single, &[("b1", 1), ("b2", 2), ("b3", 3)], 2.0);

        let status = naru.status()?;
        for name in ["b1", "b2", "b3"] {
            let backend = backend(&status, "web", name)?;
            assert_eq!(backend["state"], "up", "{backend}");
            assert!(number(&backend["new_flows"]) >= single.by_backend[name], "{backend}");
            assert!(
                number(&backend["packets"]) > 0 && number(&backend["bytes"]) > 0,
                "{backend}"
            );
        }
        assert_eq!(service(&status, "web")?["state"], "up", "{status}");
        Ok(())
    });
}

#[test]
fn datagrams_come_back_whole_and_from_one_backend_each() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _echo = UdpEcho::on_each(&net)?;
        let naru = Naru::run(lab, &net.node, &net.service("echo", "udp", 80, &[1, 1, 1]))?;

        let tally = udp_exchange(&net.client, LISTEN, 300, 100)?;
        assert_clean(&tally, 30_000);
        assert_eq!(tally.by_backend.len(), 3, "{tally:?}");

        let status = naru.status()?;
        let packets: u64 = number(
            &service(&status, "echo")?["backends"]
                .as_array()
                .map_or(Value::Null, |backends| {
                    backends
                        .iter()
                        .map(|backend| number(&backend["packets"]))
                        .sum::<u64>()
                        .into()
                }),
        );
        assert!(packets >= 30_000, "{status}");
        Ok(())
    });
}

#[test]
fn a_gigabyte_arrives_as_it_was_sent() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _bulk = BulkServer::on_each(&net)?;
        let _naru = Naru::run(lab, &net.node, &net.service("bulk", "tcp", 80, &[1]))?;
        let bulk = Bulk {
            up: GIGABYTE / 4,
            down: GIGABYTE / 4 * 3,
        };
        bulk.start(&net.client, LISTEN)?.finish()
    });
}
