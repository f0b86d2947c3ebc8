//! Two nodes that share an address, on one switch with their clients and backends.
//!
//! ```text
//!  client .2   watcher .3   lb-a .11   lb-b .12   b1 .21   b2 .22     each by its eth0, 198.18.0.0/24 and 2001:db8::/64
//!     └───────────┴───────────┴───────┴───────┴────────┘
//!                      [switch, a bridge]                       the ports are named as the hosts
//! ```
//! The shared address is `VIP`. Every end but the nodes' has a program, as in `Topology`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::topology::{cable, same_digits};
use super::{BACKEND_PORT, Capture, Lab, Namespace, Nginx, PassProgram, VIP};

pub struct Twins {
    // Dropped first: a program is detached while its interface is still there.
    _pass: PassProgram,
    pub client: Namespace,
    pub watcher: Namespace,
    pub a: Namespace,
    pub b: Namespace,
    pub backends: Vec<Namespace>,
    switch: Namespace,
}

const FIRST_BACKEND: u8 = 21;

impl Twins {
    /// Backends `b1`, `b2` …
    pub fn new(lab: &Lab, backends: usize) -> Result<Self> {
        let names: Vec<_> = (1..=backends).map(|number| format!("b{number}")).collect();
        Self::with_backends(lab, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub fn with_backends(lab: &Lab, names: &[&str]) -> Result<Self> {
        let mut pass = PassProgram::load()?;
        let switch = lab.namespace("switch")?;
        switch.ip("link add bridge type bridge\nlink set bridge up")?;
        let mut plugged = |role: &str, last: u8, is_node: bool| -> Result<Namespace> {
            let host = lab.namespace(role)?;
            host.speak_ipv6()?;
            cable(&host, "eth0", &switch, role)?;
            switch.ip(&format!("link set {role} master bridge"))?;
            host.ip(&format!(
                "addr add 198.18.0.{last}/24 dev eth0\naddr add 2001:db8::{last}/64 dev eth0 nodad"
            ))?;
            host.no_offload("eth0")?;
            pass.attach(&switch, role)?;
            if !is_node {
                pass.attach(&host, "eth0")?;
            }
            Ok(host)
        };
        let client = plugged("client", 2, false)?;
        let watcher = plugged("watcher", 3, false)?;
        let a = plugged("lb-a", 11, true)?;
        let b = plugged("lb-b", 12, true)?;
        let hosts = names.iter().enumerate();
        let backends = hosts.map(|(index, name)| plugged(name, last(index), false));
        let backends = backends.collect::<Result<_>>()?;
        Ok(Self {
            _pass: pass,
            client,
            watcher,
            a,
            b,
            backends,
            switch,
        })
    }

    /// One more interface of a host, which has one at once. It is whole while the program lives.
    pub fn plug(&self, host: &Namespace, interface: &str, address: &str) -> Result<PassProgram> {
        cable(host, interface, &self.switch, interface)?;
        host.no_offload(interface)?;
        let mut pass = PassProgram::load()?;
        pass.attach(&self.switch, interface)?;
        host.ip(&format!("addr add {address} dev {interface}"))?;
        self.switch.ip(&format!("link set {interface} master bridge"))?;
        Ok(pass)
    }

    pub fn nodes(&self) -> [&Namespace; 2] {
        [&self.a, &self.b]
    }

    /// One nginx on each backend.
    pub fn serve(&self, lab: &Lab) -> Result<Vec<Nginx>> {
        let backends = self.backends.iter().enumerate();
        let both = |index| [Self::backend(index), Self::backend6(index)];
        let servers = backends.map(|(index, host)| Nginx::start(lab, host, &both(index)));
        servers.collect()
    }

    /// Where the backends of `service` are.
    pub fn backend(index: usize) -> SocketAddr {
        SocketAddr::from(([198, 18, 0, last(index)], BACKEND_PORT))
    }

    pub fn backend6(index: usize) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, same_digits(last(index))], BACKEND_PORT))
    }

    /// `[service.web]` at port 80 of the shared address.
    pub fn service(&self) -> String {
        let backends = (0..self.backends.len()).map(|index| format!("\"{}\"", Self::backend(index)));
        let backends: Vec<_> = backends.collect();
        format!(
            "[service.web]\nlisten = \"{VIP}:80\"\nbackends = [{}]\n",
            backends.join(", ")
        )
    }

    /// Nothing gets to the host or comes from it, and it does not know.
    pub fn cut_off(&self, host: &Namespace) -> Result<()> {
        self.switch.ip(&format!("link set {} nomaster", host.role()))
    }

    pub fn join(&self, host: &Namespace) -> Result<()> {
        self.switch.ip(&format!("link set {} master bridge", host.role()))
    }

    /// Pulls the cable of a host, or plugs it in again.
    pub fn plug_in(&self, host: &Namespace, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set {} {state}", host.role()))
    }

    /// What this host says, as the switch hears it, of the frames that this filter of pcap lets through.
    pub fn overhear(&self, lab: &Lab, host: &Namespace, filter: &str) -> Result<Capture> {
        let (port, filter) = (host.role(), format!("inbound and ({filter})"));
        Capture::at(lab, &self.switch, port, &format!("{port}-port"), &filter)
    }

    /// The port by which the switch sends frames to this MAC, which is named as a host; None: by all.
    pub fn port_of(&self, mac: &str) -> Result<Option<String>> {
        let shown = self.switch.stdout("bridge", &["-j", "fdb", "show", "br", "bridge"])?;
        let entries: Value = serde_json::from_str(&shown)?;
        let mut entries = entries.as_array().context("a list of MACs")?.iter();
        let entry = entries.find(|entry| entry["mac"] == mac);
        Ok(entry.and_then(|entry| entry["ifname"].as_str()).map(str::to_owned))
    }

    /// The switch asks every second which multicast groups are heard.
    pub fn ask_for_groups(&self) -> Result<()> {
        self.switch.ip(
            "link set bridge type bridge mcast_querier 1 mcast_query_interval 100 mcast_query_response_interval 50 \
             mcast_startup_query_interval 100",
        )
    }

    /// The hardware address of a host.
    pub fn mac(host: &Namespace) -> Result<[u8; 6]> {
        host.link("eth0").map(|(_, mac)| mac)
    }
}

fn last(index: usize) -> u8 {
    FIRST_BACKEND + u8::try_from(index).expect("a lab has few backends")
}
