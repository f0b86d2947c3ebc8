//! The way narrows in mid-transfer: whoever sent what no longer fits must hear of it through the load balancer.

use lb_tests::lab::*;

use super::*;

const MEBIBYTE: u64 = 1 << 20;
const LENGTH: u64 = 128 * MEBIBYTE;
const NARROW: &str = "1280";

#[test]
fn the_way_to_the_client_narrows() {
    case(|lab| {
        let mut net = Topology::new(lab, 1)?;
        let far = net.behind(lab, "client")?;
        let _bulk = BulkServer::on_each(&net)?;
        let text = net.service("bulk", "tcp", 80, &[1]) + &net.service6("bulk6", "tcp", 80, &[1]);
        let _naru = Naru::run(lab, &net.node, &text)?;

        let down = Bulk { up: 0, down: LENGTH };
        goes_on(&net.client, &far, down)?;
        assert_knows(&net.backends[0], ["198.18.1.1", "2001:db8:1::1"])
    });
}

#[test]
fn the_way_to_the_backend_narrows() {
    case(|lab| {
        let mut net = Topology::new(lab, 1)?;
        let far = net.behind(lab, "b1")?;
        let backends = [FAR, FAR6].map(|address| SocketAddr::new(address, BACKEND_PORT));
        let _bulk = backends
            .into_iter()
            .map(|address| BulkServer::start(&far, address))
            .collect::<Result<Vec<_>>>()?;
        let text = service_at("bulk", "tcp", "nat", LISTEN, &backends[..1])
            + &service_at("bulk6", "tcp", "nat", LISTEN6, &backends[1..]);
        let _naru = Naru::run(lab, &net.node, &text)?;

        let up = Bulk { up: LENGTH, down: 0 };
        goes_on(&net.backends[0], &net.client, up)?;
        assert_knows(&net.client, [VIP, VIP6])
    });
}

/// Transfers of both families, while the gateway's link to the far host becomes narrow.
fn goes_on(gateway: &Namespace, client: &Namespace, bulk: Bulk) -> Result<()> {
    let transfers = [LISTEN, LISTEN6].map(|listen| bulk.start(client, listen));
    let transfers = transfers.into_iter().collect::<Result<Vec<_>>>()?;
    until_true(SOON * 3, "the transfers do not begin", || {
        Ok(transfers.iter().all(|transfer| transfer.moved() > MEBIBYTE))
    })?;
    gateway.ip(&format!("link set far mtu {NARROW}"))?;
    ensure!(
        transfers.iter().all(|transfer| transfer.moved() < LENGTH),
        "over too soon"
    );
    for (transfer, family) in transfers.into_iter().zip(["IPv4", "IPv6"]) {
        transfer.finish().context(family)?;
    }
    Ok(())
}

/// The sender's kernel knows how narrow the way is: nobody has cut its packets.
fn assert_knows<A: ToString>(sender: &Namespace, destinations: [A; 2]) -> Result<()> {
    for destination in destinations.map(|address| address.to_string()) {
        let route = sender.stdout("ip", &["route", "get", &destination])?;
        ensure!(route.contains(&format!("mtu {NARROW}")), "{route}");
    }
    Ok(())
}
