//! The lab's usual network: a client, the node that runs Naru, and backends behind a switch of their own.
//!
//! ```text
//! client eth0 ──── clients [node] servers ──── node [switch, a bridge] b1 ──── eth0 b1
//! 198.18.0.2        .0.1          198.18.1.1                           b2 ──── eth0 b2, 198.18.1.12
//!                   .0.100
//! ```
//! No namespace has a route out. The names are those of the namespaces and, in `[node]` and on the switch, of the
//! interfaces. Every end but the node's has a program: veth then takes its frames from a queue, in order, as a card
//! does. Without one each frame goes up on the CPU that sent it, so two of one connection race; while a connection
//! begins or ends, Linux (6.18) may then find no socket for a packet of it, and answers with a RST.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::Result;

use super::{Lab, Namespace, PassProgram};

/// Where the services listen: an address of the node's `clients` interface.
pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 100);
/// Where the lab's servers listen.
pub const BACKEND_PORT: u16 = 8080;

const FIRST_BACKEND: u8 = 11;

pub struct Topology {
    // Dropped first: a program is detached while its interface is still there.
    _pass: PassProgram,
    logs: PathBuf,
    pub client: Namespace,
    pub node: Namespace,
    pub backends: Vec<Namespace>,
    _switch: Namespace,
}

impl Topology {
    /// Backends `b1`, `b2` …
    pub fn new(lab: &Lab, backends: usize) -> Result<Self> {
        let names: Vec<_> = (1..=backends).map(|number| format!("b{number}")).collect();
        Self::with_backends(lab, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub fn with_backends(lab: &Lab, names: &[&str]) -> Result<Self> {
        let mut pass = PassProgram::load()?;
        let client = lab.namespace("client")?;
        let node = lab.namespace("node")?;
        let switch = lab.namespace("switch")?;
        let backends: Vec<_> = names.iter().map(|name| lab.namespace(name)).collect::<Result<_>>()?;

        cable(&client, "eth0", &node, "clients")?;
        client.ip("addr add 198.18.0.2/24 dev eth0")?;
        node.ip(&format!(
            "addr add 198.18.0.1/24 dev clients\naddr add {VIP}/24 dev clients"
        ))?;

        switch.ip("link add bridge type bridge\nlink set bridge up")?;
        cable(&node, "servers", &switch, "node")?;
        switch.ip("link set node master bridge")?;
        node.ip("addr add 198.18.1.1/24 dev servers")?;
        for (index, backend) in backends.iter().enumerate() {
            cable(backend, "eth0", &switch, backend.role())?;
            switch.ip(&format!("link set {} master bridge", backend.role()))?;
            backend.ip(&format!("addr add {}/24 dev eth0", backend_address(index).ip()))?;
            backend.no_offload("eth0")?;
            pass.attach(&switch, backend.role())?;
            pass.attach(backend, "eth0")?;
        }

        // Both sides of the node: whole packets in, and somebody to take what XDP sends out.
        client.no_offload("eth0")?;
        pass.attach(&client, "eth0")?;
        pass.attach(&switch, "node")?;
        Ok(Self {
            _pass: pass,
            logs: lab.folder().to_owned(),
            client,
            node,
            backends,
            _switch: switch,
        })
    }

    /// `[service]` text: `listen` on the VIP, all backends with these weights, named as their namespaces.
    pub fn service(&self, name: &str, protocol: &str, port: u16, weights: &[u16]) -> String {
        let names: Vec<_> = self
            .backends
            .iter()
            .map(|backend| format!("{:?}", backend.role()))
            .collect();
        let weights: Vec<_> = self
            .backends
            .iter()
            .zip(weights)
            .map(|(b, w)| format!("{} = {w}", b.role()))
            .collect();
        let mut text = format!(
            "[service.{name}]\nlisten = \"{VIP}:{port}\"\nprotocol = \"{protocol}\"\nbackends = [{}]\nweights = {{ {} }}\n",
            names.join(", "),
            weights.join(", ")
        );
        for (index, backend) in self.backends.iter().enumerate() {
            text += &format!(
                "\n[backend.{}]\naddress = \"{}\"\n",
                backend.role(),
                backend_address(index)
            );
        }
        text
    }
}

impl Drop for Topology {
    /// For the case that fails; shown with the other logs.
    fn drop(&mut self) {
        for namespace in [&self.client, &self.node].into_iter().chain(&self.backends) {
            let counters = namespace
                .stdout("nstat", &["-as"])
                .unwrap_or_else(|error| format!("{error:#}"));
            let _ = fs::write(self.logs.join(format!("{}-kernel.log", namespace.role())), counters);
        }
    }
}

pub fn backend_address(index: usize) -> SocketAddrV4 {
    let last = FIRST_BACKEND + u8::try_from(index).expect("a lab has few backends");
    SocketAddrV4::new(Ipv4Addr::new(198, 18, 1, last), BACKEND_PORT)
}

/// A veth pair from one namespace into another, up at both ends; it never was in the host's.
fn cable(a: &Namespace, a_end: &str, b: &Namespace, b_end: &str) -> Result<()> {
    a.ip(&format!(
        "link add {a_end} type veth peer name {b_end} netns {}\nlink set {a_end} up",
        b.name()
    ))?;
    b.ip(&format!("link set {b_end} up"))
}
