//! Every mode with TCP and UDP over IPv4 and IPv6, with real clients and servers.

use std::net::IpAddr;

use lb_tests::lab::*;

use super::*;

/// Beside nginx.
const BULK_PORT: u16 = BACKEND_PORT + 1;
const MEBIBYTE: u64 = 1 << 20;
/// Datagrams of two fragments and more. The answer has a name before it, and must itself be a datagram.
const FRAGMENTED: [usize; 4] = [1500, 4000, 20_000, 65_000];

#[test]
fn nat_serves_every_protocol_and_family() {
    serves_everything("nat");
}

#[test]
fn dsr_l2_serves_every_protocol_and_family() {
    serves_everything("dsr-l2");
}

#[test]
fn dsr_ipip_serves_every_protocol_and_family() {
    serves_everything("dsr-ipip");
}

fn serves_everything(mode: &str) {
    case(|lab| {
        let mut net = Topology::new(lab, 2)?;
        let direct = mode != "nat";
        if direct {
            net.answer_directly()?;
        }
        let mut servers = Vec::new();
        for (index, backend) in net.backends.iter().enumerate() {
            let own = [backend_address(index), backend_address6(index)].map(|address| address.ip());
            // Where clients are answered directly, only checks come to the backend's own addresses.
            let (served, checked) = if direct {
                ([VIP, VIP6], &own[..])
            } else {
                (own, &[][..])
            };
            servers.push(Servers::start(lab, backend, served, checked)?);
        }
        let naru = Naru::run(lab, &net.node, &everything(&net, mode))?;

        for address in [VIP, VIP6] {
            let listen = SocketAddr::new(address, BACKEND_PORT);
            let single = Load::one_each(4).requests(400).start(&net.client, listen)?.finish();
            assert_clean(&single, 400);
            let kept = Load::keep_alive(8).requests(400).start(&net.client, listen)?.finish();
            assert_clean(&kept, 400);
            let datagrams = udp_exchange(&net.client, listen, 40, 20)?;
            assert_clean(&datagrams, 800);
            for tally in [single, datagrams] {
                assert_eq!(tally.by_backend.keys().collect::<Vec<_>>(), ["b1", "b2"], "{listen}");
            }
            let mut flow = UdpFlow::open(&net.client, listen)?;
            for size in FRAGMENTED {
                // In dsr-ipip each fragment is too big at first, and the client must hear of it.
                until(SOON, || flow.ask_with(size)).with_context(|| format!("{size} bytes to {listen}"))?;
            }
            // Full packets: as above.
            let bulk = Bulk {
                up: 16 * MEBIBYTE,
                down: 16 * MEBIBYTE,
            };
            let target = SocketAddr::new(address, BULK_PORT);
            bulk.start(&net.client, target)?
                .finish()
                .with_context(|| format!("bulk to {target}"))?;
        }
        let status = naru.status()?;
        for service in ["web", "web6", "echo", "echo6", "bulk", "bulk6"] {
            assert_eq!(super::service(&status, service)?["mode"], mode);
        }
        Ok(())
    });
}

/// What runs on one backend.
struct Servers {
    _nginx: Nginx,
    _echo: Vec<UdpEcho>,
    _bulk: Vec<BulkServer>,
}

impl Servers {
    fn start(lab: &Lab, backend: &Namespace, served: [IpAddr; 2], checked: &[IpAddr]) -> Result<Self> {
        let tcp = |port| served.iter().chain(checked).map(move |ip| SocketAddr::new(*ip, port));
        let udp = served.map(|ip| SocketAddr::new(ip, BACKEND_PORT));
        let echo = udp.into_iter().map(|address| UdpEcho::start(backend, address));
        let bulk = tcp(BULK_PORT).map(|address| BulkServer::start(backend, address));
        Ok(Self {
            _nginx: Nginx::start(lab, backend, &tcp(BACKEND_PORT).collect::<Vec<_>>())?,
            _echo: echo.collect::<Result<_>>()?,
            _bulk: bulk.collect::<Result<_>>()?,
        })
    }
}

/// Ports are not translated in all modes, so listens have those of the backends.
fn everything(net: &Topology, mode: &str) -> String {
    let mut text = String::new();
    for (name, protocol, port) in [
        ("web", "tcp", BACKEND_PORT),
        ("echo", "udp", BACKEND_PORT),
        ("bulk", "tcp", BULK_PORT),
    ] {
        for (suffix, listen, address) in [
            ("", VIP, backend_address as fn(usize) -> SocketAddr),
            ("6", VIP6, backend_address6),
        ] {
            let backends: Vec<_> = (0..net.backends.len())
                .map(|index| SocketAddr::new(address(index).ip(), port))
                .collect();
            let listen = SocketAddr::new(listen, port);
            text += &service_at(&format!("{name}{suffix}"), protocol, mode, listen, &backends);
        }
    }
    text
}
