//! Ways change under flows: another gateway, a link that fails and returns, answers by another link.

use std::time::Instant;

use lb_tests::lab::*;

use super::*;

const SERVICES: [(&str, &str); 2] = [("web", "tcp"), ("echo", "udp")];

/// Two gateways lead to the backend; the one in use ceases, and the route changes to the other.
#[test]
fn flows_follow_a_change_of_route() {
    case(|lab| {
        let mut net = Topology::new(lab, 2)?;
        let far = net.behind(lab, "b1")?;
        let backends = [FAR, FAR6].map(|address| SocketAddr::new(address, BACKEND_PORT));
        let _nginx = Nginx::start(lab, &far, &backends)?;
        let _echo = backends.map(|address| UdpEcho::start(&far, address));
        // b2 knows the far host by way of b1.
        let second = &net.backends[1];
        second.forward(true)?;
        second.ip("route add 198.18.2.0/24 via 198.18.1.11\nroute add 2001:db8:2::/64 via 2001:db8:1::11")?;
        net.lead_far_by("b2")?;
        let _naru = Naru::run(lab, &net.node, &services(|family| vec![backends[family]]))?;

        let mut going = Going::start(&net)?;
        second.forward(false)?;
        going.stands_still()?;
        net.lead_far_by("b1")?;
        going.resumes()?;
        going.finish()
    });
}

#[test]
fn flows_survive_a_failing_link_to_the_backends() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _echo = UdpEcho::on_each(&net)?;
        // Else the kernel forgets them, and nobody but who has set them up can bring them back.
        net.node.sysctl("net/ipv6/conf/servers/keep_addr_on_down", "1")?;
        let _naru = Naru::run(lab, &net.node, &services(|family| of_family(&net, family)))?;

        let mut going = Going::start(&net)?;
        net.plug_in_servers(false)?;
        going.stands_still()?;
        net.plug_in_servers(true)?;
        going.resumes().context("after the cable")?;
        net.node.ip("link set servers down")?;
        going.stands_still()?;
        net.node.ip("link set servers up")?;
        going.resumes().context("after the interface")?;
        going.finish()
    });
}

#[test]
fn answers_may_take_another_way_than_requests() {
    case(|lab| {
        let mut net = Topology::new(lab, 2)?;
        net.second_link()?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _echo = UdpEcho::on_each(&net)?;
        let text = services(|family| of_family(&net, family));
        let text = text + "[node]\ninterfaces = [\"clients\", \"servers\", \"back\"]\n";
        let _naru = Naru::run(lab, &net.node, &text)?;

        let mut going = Going::start(&net)?;
        for second in [true, false, true] {
            net.answer_by_second_link(second)?;
            // Nothing is to come by the other one. To see that takes a while itself.
            let (link, other) = if second { ("back", "eth0") } else { ("eth0", "back") };
            until(SOON * 2, || {
                let before = [received(&net.client, link)?, received(&net.client, other)?];
                for _ in 0..10 {
                    going.asks()?;
                }
                let after = [received(&net.client, link)?, received(&net.client, other)?];
                let [came, strayed] = [after[0] - before[0], after[1] - before[1]];
                ensure!(
                    came >= 20 && strayed < 10,
                    "{came} packets by {link}, {strayed} by {other}"
                );
                Ok(())
            })?;
            let tally = Load::one_each(2).requests(100).start(&net.client, LISTEN)?.finish();
            assert_clean(&tally, 100);
        }
        going.finish()
    });
}

/// The gateway of a client is not known yet when the client's first SYN comes. That one is lost, and told; the next one,
/// a second later, is not.
#[test]
fn a_cold_neighbour_costs_a_client_one_repetition() {
    case(|lab| {
        let mut net = Topology::new(lab, 1)?;
        // It answers nobody's ARP. What the node knows of it, it has from its own questions.
        net.client.sysctl("net/ipv4/conf/eth0/arp_ignore", "8")?;
        let far = net.behind(lab, "client")?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let lost = || Ok::<_, anyhow::Error>(number(&naru.status()?["drops"]["next_hop_unknown"]));
        assert_eq!(lost()?, 0);

        let begin = Instant::now();
        far.inside(|| Connection::open(LISTEN)?.who(true))??;
        let took = begin.elapsed();
        assert_eq!(lost()?, 1);
        assert!((SOON..SOON * 2).contains(&took), "{took:?}");
        Ok(())
    });
}

fn received(namespace: &Namespace, interface: &str) -> Result<u64> {
    let shown: Value = serde_json::from_str(&namespace.stdout("ip", &["-j", "-s", "link", "show", interface])?)?;
    Ok(number(&shown[0]["stats64"]["rx"]["packets"]))
}

/// For both families, in this order.
fn services(backends: impl Fn(usize) -> Vec<SocketAddr>) -> String {
    let mut text = String::new();
    for (family, listen) in [LISTEN, LISTEN6].into_iter().enumerate() {
        for (name, protocol) in SERVICES {
            text += &service_at(&format!("{name}{family}"), protocol, "nat", listen, &backends(family));
        }
    }
    text
}

fn of_family(net: &Topology, family: usize) -> Vec<SocketAddr> {
    let address = [backend_address, backend_address6][family];
    (0..net.backends.len()).map(address).collect()
}

/// Transfers and datagrams of both families.
struct Going {
    transfers: Vec<Transfers>,
    flows: Vec<UdpFlow>,
}

impl Going {
    const TRANSFERS: usize = 10;

    fn start(net: &Topology) -> Result<Self> {
        let mut going = Self {
            transfers: Vec::new(),
            flows: Vec::new(),
        };
        for listen in [LISTEN, LISTEN6] {
            going
                .transfers
                .push(Transfers::start(&net.client, listen, Self::TRANSFERS)?);
            going
                .flows
                .push(UdpFlow::open(&net.client, listen)?.patience(Duration::from_millis(50))?);
        }
        going.asks()?;
        Ok(going)
    }

    fn asks(&mut self) -> Result<()> {
        self.flows.iter_mut().try_for_each(|flow| flow.ask().map(|_| ()))
    }

    /// Until then nothing has happened yet.
    fn stands_still(&mut self) -> Result<()> {
        until_true(SOON, "datagrams come back all the same", || {
            Ok(self.flows.iter_mut().all(|flow| flow.ask().is_err()))
        })
    }

    fn resumes(&mut self) -> Result<()> {
        for (flow, family) in self.flows.iter_mut().zip(["IPv4", "IPv6"]) {
            until(SOON, || flow.ask()).context(family)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        for transfers in self.transfers {
            assert_eq!(transfers.running(), Self::TRANSFERS);
            assert_unbroken(&transfers.finish(), Self::TRANSFERS);
        }
        Ok(())
    }
}
