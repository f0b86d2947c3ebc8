//! Hosts as a container runtime makes them: veth cables into a bridge, every offload on, no XDP program but Naru's.
//!
//! ```text
//! client eth0 ────┐
//! node   eth0 ────┤ [host, a bridge]
//! server eth0 ────┘
//! ```
//! The node may have its address on another kind of device, and the server may be behind a second bridge.

use anyhow::{Context as _, Result};

use super::tap::TapCable;
use super::topology::{cable, service};
use super::{BACKEND_PORT, Bulk, BulkServer, Lab, Namespace, VIP, get};

/// What the node's address is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeDevice {
    Veth,
    /// A bridge of the node's own, whose port is the veth.
    Bridge,
    /// A macvlan above the veth.
    Macvlan,
    /// A tap in place of the veth; a thread carries its frames to the host's bridge.
    Tap,
}

pub struct Containers {
    pub client: Namespace,
    pub node: Namespace,
    pub server: Namespace,
    pub host: Namespace,
    server_address: std::net::SocketAddr,
    _tap: Option<TapCable>,
}

impl Containers {
    /// All on one bridge: the node sends each frame out by the interface it came in by.
    pub fn on_one_bridge(lab: &Lab, device: NodeDevice) -> Result<Self> {
        Self::new(lab, device, "front")
    }

    /// The server is on a bridge of its own, where the node has `eth1`.
    pub fn on_two_bridges(lab: &Lab, device: NodeDevice) -> Result<Self> {
        let net = Self::new(lab, device, "back")?;
        plug(&net.node, "eth1", &net.host, "node-back", "back")?;
        net.node.ip("addr add 198.18.1.1/24 dev eth1")?;
        Ok(net)
    }

    fn new(lab: &Lab, device: NodeDevice, bridge_of_server: &str) -> Result<Self> {
        let host = lab.namespace("host")?;
        host.ip("link add front type bridge\nlink set front up\nlink add back type bridge\nlink set back up")?;
        let client = lab.namespace("client")?;
        plug(&client, "eth0", &host, "client", "front")?;
        client.ip("addr add 198.18.0.2/24 dev eth0")?;
        let server = lab.namespace("server")?;
        plug(&server, "eth0", &host, "server", bridge_of_server)?;
        let subnet = if bridge_of_server == "front" { 0 } else { 1 };
        server.ip(&format!("addr add 198.18.{subnet}.11/24 dev eth0"))?;

        let node = lab.namespace("node")?;
        let tap = match device {
            NodeDevice::Tap => {
                let tap = TapCable::between(&node, "tap0", &host, "node")?;
                host.ip("link set node master front")?;
                Some(tap)
            }
            _ => {
                plug(&node, "eth0", &host, "node", "front")?;
                None
            }
        };
        match device {
            NodeDevice::Veth | NodeDevice::Tap => {}
            NodeDevice::Bridge => node.ip("link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0")?,
            NodeDevice::Macvlan => {
                // Else the veth below answers for it, with a MAC of its own.
                node.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
                node.ip("link add mv0 link eth0 type macvlan mode bridge\nlink set mv0 up")?;
            }
        }
        let interface = device.interface();
        node.ip(&format!(
            "addr add 198.18.0.1/24 dev {interface}\naddr add {VIP}/24 dev {interface}"
        ))?;
        Ok(Self {
            client,
            node,
            server,
            host,
            server_address: ([198, 18, subnet, 11], BACKEND_PORT).into(),
            _tap: tap,
        })
    }

    pub fn service(&self, name: &str, port: u16) -> String {
        let server = ("server".to_owned(), self.server_address);
        service(name, "tcp", (VIP, port).into(), &[server], &[1])
    }

    /// Serves large transfers; for small requests there is `Nginx`.
    pub fn serve_bulk(&self) -> Result<BulkServer> {
        BulkServer::start(&self.server, self.server_address)
    }

    pub fn server_address(&self) -> std::net::SocketAddr {
        self.server_address
    }

    /// Of so many short connections to the VIP, those that were answered.
    pub fn answered(&self, connections: usize, port: u16) -> Result<usize> {
        let ask = || {
            (0..connections)
                .filter(|_| get((VIP, port).into(), "/").is_ok())
                .count()
        };
        self.client.inside(ask)
    }

    /// Moves so many bytes each way in one connection, in segments as large as the senders like.
    pub fn transfer(&self, bytes: u64, port: u16) -> Result<()> {
        let bulk = Bulk { up: bytes, down: bytes };
        bulk.start(&self.client, (VIP, port).into())?
            .finish()
            .context("transfer large segments")
    }
}

impl NodeDevice {
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Veth => "eth0",
            Self::Bridge => "br0",
            Self::Macvlan => "mv0",
            Self::Tap => "tap0",
        }
    }
}

fn plug(guest: &Namespace, interface: &str, host: &Namespace, port: &str, bridge: &str) -> Result<()> {
    cable(guest, interface, host, port)?;
    host.ip(&format!("link set {port} master {bridge}"))
}
