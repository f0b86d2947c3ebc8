//! The network of the bench: client – load balancer – servers, the same for every contender but for its names.
//!
//! ```text
//! client eth0 ──── clients [lb] server1 ──── eth0 server 1
//! 198.18.1.1    .1.254          198.18.2.254 ──── 198.18.2.1 …
//!                               server2 ──── eth0 server 2
//!                               198.18.3.254 ──── 198.18.3.1 …
//! ```
//! It decides nothing about what forwards. Neighbours are fixed, so that no contender waits for ARP.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::traffic::Programs;
use crate::lab::{Lab, Namespace};

/// Where clients connect to: the load balancer's own address.
pub const LISTEN: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 254);

pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const CLIENTS_MAC: [u8; 6] = [2, 0, 0, 0, 1, 254];

/// A server on the clients' own link, where their traffic comes by; nobody is there but the client's program.
pub const NEAR_SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 253);
pub const NEAR_SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 253];

pub struct Chain {
    pub client: Namespace,
    pub lb: Namespace,
    pub servers: Vec<Namespace>,
}

impl Chain {
    /// Each server has this many addresses; nothing is attached or forwards yet.
    pub fn new(lab: &Lab, name: &str, servers: u8, addresses: u8) -> Result<Self> {
        let role = |part: &str| format!("{name}-{part}");
        let client = lab.namespace(&role("client"))?;
        let lb = lab.namespace(&role("lb"))?;
        let servers: Vec<_> = (1..=servers)
            .map(|n| lab.namespace(&role(&format!("server{n}"))))
            .collect::<Result<_>>()?;

        cable(&client, ("eth0", CLIENT_MAC), &lb, ("clients", CLIENTS_MAC))?;
        client.ip(&format!(
            "addr add 198.18.1.1/24 dev eth0\nroute add 198.18.0.0/15 via {LISTEN}"
        ))?;
        lb.ip(&format!("addr add {LISTEN}/24 dev clients"))?;
        lb.ip(&format!("neigh add 198.18.1.1 lladdr {} dev clients", mac(CLIENT_MAC)))?;
        let near = mac(NEAR_SERVER_MAC);
        lb.ip(&format!("neigh add {NEAR_SERVER} lladdr {near} dev clients"))?;
        for (number, server) in (1..).zip(&servers) {
            let port = server_port(number);
            let gateway = Ipv4Addr::new(198, 18, 1 + number, 254);
            cable(
                &lb,
                (&port, server_side_mac(number)),
                server,
                ("eth0", server_mac(number)),
            )?;
            lb.ip(&format!("addr add {gateway}/24 dev {port}"))?;
            for address in (1..=addresses).map(|index| server_address(number, index)) {
                server.ip(&format!("addr add {address}/24 dev eth0"))?;
                lb.ip(&format!(
                    "neigh add {address} lladdr {} dev {port}",
                    mac(server_mac(number))
                ))?;
            }
            server.ip(&format!("route add 198.18.1.0/24 via {gateway}"))?;
        }
        Ok(Self { client, lb, servers })
    }

    /// Makes all veths as XDP needs them: checksums and segments made by the sender, and a program where frames
    /// arrive at the client and the servers. It stays until what is returned is dropped.
    pub fn xdp_ends(&self, client_program: &str, server_program: &str) -> Result<Programs> {
        let mut programs = Programs::load()?;
        let servers = self.servers.iter().map(|server| (server, server_program));
        for (namespace, program) in servers.chain([(&self.client, client_program)]) {
            namespace.no_offload("eth0")?;
            programs.attach(namespace, program, "eth0")?;
        }
        let ports = (1..).zip(&self.servers).map(|(number, _)| server_port(number));
        for port in ports.chain(["clients".to_owned()]) {
            self.lb.no_offload(&port)?;
        }
        Ok(programs)
    }
}

/// The load balancer's interface towards a server.
pub fn server_port(number: u8) -> String {
    format!("server{number}")
}

pub fn server_address(number: u8, index: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 1 + number, index)
}

pub const fn server_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1 + number, 1]
}

pub const fn server_side_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1 + number, 254]
}

/// One queue, so that one core does all the work where one core is measured.
fn cable(a: &Namespace, (a_end, a_mac): (&str, [u8; 6]), b: &Namespace, (b_end, b_mac): (&str, [u8; 6])) -> Result<()> {
    a.ip(&format!(
        "link add {a_end} address {} numtxqueues 1 numrxqueues 1 type veth peer name {b_end} address {} numtxqueues 1 \
         numrxqueues 1 netns {}\nlink set {a_end} up",
        mac(a_mac),
        mac(b_mac),
        b.name()
    ))?;
    b.ip(&format!("link set {b_end} up"))
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
