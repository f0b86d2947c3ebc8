//! The lab's usual network: a client, the node that runs Naru, and backends behind a switch of their own.
//!
//! ```text
//! client eth0 ──── clients [node] servers ──── node [switch, a bridge] b1 ──── eth0 b1
//! 198.18.0.2        .0.1          198.18.1.1                           b2 ──── eth0 b2, 198.18.1.12
//!                   .0.100
//! ```
//! The same in IPv6: 2001:db8::2, ::1, ::100 and 2001:db8:1::1, ::12.
//! No namespace has a route out. The names are those of the namespaces and, in `[node]` and on the switch, of the
//! interfaces. Every end but the node's has a program: veth then takes its frames from a queue, in order, as a card
//! does, and gives what native XDP sends a way up. Without one each frame goes up on the CPU that sent it, so two of one connection race; while a connection
//! begins or ends, Linux (6.18) may then find no socket for a packet of it, and answers with a RST.

mod ways;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;

use super::{Lab, Namespace, PassProgram};
pub use ways::{FAR, FAR6};

/// Where the services listen: an address of the node's `clients` interface.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 100));
pub const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100));
/// Where the lab's servers listen.
pub const BACKEND_PORT: u16 = 8080;

const FIRST_BACKEND: u8 = 11;

pub struct Topology {
    // Dropped first: a program is detached while its interface is still there.
    pass: PassProgram,
    logs: PathBuf,
    pub client: Namespace,
    pub node: Namespace,
    pub backends: Vec<Namespace>,
    switch: Namespace,
}

impl Topology {
    /// Backends `b1`, `b2` …
    pub fn new(lab: &Lab, backends: usize) -> Result<Self> {
        let names: Vec<_> = (1..=backends).map(|number| format!("b{number}")).collect();
        Self::with_backends(lab, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The longest packet of every link, in bytes.
    pub fn set_mtu(&self, mtu: &str) -> Result<()> {
        let set = |namespace: &Namespace, interface: &str| namespace.ip(&format!("link set {interface} mtu {mtu}"));
        set(&self.client, "eth0")?;
        set(&self.node, "clients")?;
        set(&self.node, "servers")?;
        set(&self.switch, "node")?;
        for backend in &self.backends {
            set(&self.switch, backend.role())?;
            set(backend, "eth0")?;
        }
        set(&self.switch, "bridge")
    }

    pub fn with_backends(lab: &Lab, names: &[&str]) -> Result<Self> {
        let mut pass = PassProgram::load()?;
        let client = lab.namespace("client")?;
        let node = lab.namespace("node")?;
        let switch = lab.namespace("switch")?;
        let backends: Vec<_> = names.iter().map(|name| lab.namespace(name)).collect::<Result<_>>()?;
        for host in [&client, &node].into_iter().chain(&backends) {
            host.speak_ipv6()?;
        }

        cable(&client, "eth0", &node, "clients")?;
        put_addresses(&client, &node)?;
        switch.ip("link add bridge type bridge\nlink set bridge up")?;
        cable(&node, "servers", &switch, "node")?;
        switch.ip("link set node master bridge")?;
        node.ip("addr add 198.18.1.1/24 dev servers\naddr add 2001:db8:1::1/64 dev servers nodad")?;
        for (index, backend) in backends.iter().enumerate() {
            cable(backend, "eth0", &switch, backend.role())?;
            switch.ip(&format!("link set {} master bridge", backend.role()))?;
            let [ipv4, ipv6] = backend_addresses(index).map(|address| address.ip());
            backend.ip(&format!(
                "addr add {ipv4}/24 dev eth0\naddr add {ipv6}/64 dev eth0 nodad"
            ))?;
            backend.no_offload("eth0")?;
            pass.attach(&switch, backend.role())?;
            pass.attach(backend, "eth0")?;
        }

        // Both sides of the node: whole packets in, and somebody to take what XDP sends out.
        client.no_offload("eth0")?;
        pass.attach(&client, "eth0")?;
        pass.attach(&switch, "node")?;
        Ok(Self {
            pass,
            logs: lab.folder().to_owned(),
            client,
            node,
            backends,
            switch,
        })
    }

    /// The interface to the client is deleted and made again, with that of the client, which is its other end; then
    /// `meanwhile`, then with the addresses they had. The program on the client's is for the caller to keep.
    pub fn make_clients_again(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<PassProgram> {
        let ends = [(&self.client, "eth0"), (&self.node, "clients")];
        let macs = ends.map(|(namespace, interface)| namespace.link(interface));
        self.node.ip("link del clients")?;
        cable(&self.client, "eth0", &self.node, "clients")?;
        for ((namespace, interface), link) in ends.into_iter().zip(macs) {
            let mac = link?.1.map(|byte| format!("{byte:02x}")).join(":");
            namespace.ip(&format!("link set {interface} address {mac}"))?;
        }
        self.client.no_offload("eth0")?;
        let mut pass = PassProgram::load()?;
        pass.attach(&self.client, "eth0")?;
        meanwhile()?;
        put_addresses(&self.client, &self.node)?;
        Ok(pass)
    }

    /// From its backends, while its link stays up.
    pub fn cut_node_off(&self) -> Result<()> {
        self.switch.ip("link set node nomaster")
    }

    pub fn join_node(&self) -> Result<()> {
        self.switch.ip("link set node master bridge")
    }

    /// The cable to its backends: the node's link has no carrier.
    pub fn unplug_node(&self) -> Result<()> {
        self.switch.ip("link set node down")
    }

    pub fn plug_node_in(&self) -> Result<()> {
        self.switch.ip("link set node up")
    }

    /// `[service]` text: `listen` on the VIP, all backends with these weights, named as their namespaces.
    pub fn service(&self, name: &str, protocol: &str, port: u16, weights: &[u16]) -> String {
        let names = self.backends.iter().map(|backend| backend.role().to_owned());
        let backends: Vec<_> = names.zip((0..).map(backend_address)).collect();
        service(name, protocol, SocketAddr::new(VIP, port), &backends, weights)
    }

    /// As `service`, in IPv6; the backends' names end in `-6`.
    pub fn service6(&self, name: &str, protocol: &str, port: u16, weights: &[u16]) -> String {
        let names = self.backends.iter().map(|backend| format!("{}-6", backend.role()));
        let backends: Vec<_> = names.zip((0..).map(backend_address6)).collect();
        service(name, protocol, SocketAddr::new(VIP6, port), &backends, weights)
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

/// Of the client, and of the node towards it.
fn put_addresses(client: &Namespace, node: &Namespace) -> Result<()> {
    client.ip("addr add 198.18.0.2/24 dev eth0\naddr add 2001:db8::2/64 dev eth0 nodad")?;
    let addresses = [
        "198.18.0.1/24",
        &format!("{VIP}/24"),
        "2001:db8::1/64",
        &format!("{VIP6}/64"),
    ];
    let put = |address: &str| node.ip(&format!("addr add {address} dev clients"));
    addresses.into_iter().try_for_each(put)
}

pub(super) fn service(
    name: &str,
    protocol: &str,
    listen: SocketAddr,
    backends: &[(String, SocketAddr)],
    weights: &[u16],
) -> String {
    let names: Vec<_> = backends.iter().map(|(backend, _)| format!("{backend:?}")).collect();
    let weighted = backends.iter().zip(weights);
    let weights: Vec<_> = weighted
        .map(|((backend, _), weight)| format!("{backend} = {weight}"))
        .collect();
    let mut text = format!(
        "[service.{name}]\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\nbackends = [{}]\nweights = {{ {} }}\n",
        names.join(", "),
        weights.join(", ")
    );
    for (backend, address) in backends {
        text += &format!("\n[backend.{backend}]\naddress = \"{address}\"\n");
    }
    text
}

pub fn backend_address(index: usize) -> SocketAddr {
    SocketAddr::from(([198, 18, 1, last(index)], BACKEND_PORT))
}

pub fn backend_address6(index: usize) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 1, 0, 0, 0, 0, same_digits(last(index))], BACKEND_PORT))
}

/// The group of an IPv6 address that reads as this number does: 11 as 11, not as b.
pub(super) fn same_digits(number: u8) -> u16 {
    u16::from_str_radix(&number.to_string(), 16).expect("decimal digits are hexadecimal ones")
}

pub(super) fn backend_addresses(index: usize) -> [SocketAddr; 2] {
    [backend_address(index), backend_address6(index)]
}

fn last(index: usize) -> u8 {
    FIRST_BACKEND + u8::try_from(index).expect("a lab has few backends")
}

/// A veth pair from one namespace into another, up at both ends; it never was in the host's.
pub fn cable(a: &Namespace, a_end: &str, b: &Namespace, b_end: &str) -> Result<()> {
    a.ip(&format!(
        "link add {a_end} type veth peer name {b_end} netns {}\nlink set {a_end} up",
        b.name()
    ))?;
    b.ip(&format!("link set {b_end} up"))
}
