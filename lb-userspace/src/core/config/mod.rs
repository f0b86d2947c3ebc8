//! The configuration as the rest of the daemon sees it: whole, checked, with defaults filled in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub node: Node,
    /// By name.
    pub services: BTreeMap<String, Service>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// None: the host's name.
    pub name: Option<String>,
    /// None: those that reach the listens and backends.
    pub interfaces: Option<Vec<String>>,
    pub xdp: Xdp,
    pub run_dir: PathBuf,
    pub pin_dir: PathBuf,
    /// How many flows the table is made for.
    pub max_flows: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// Native where the driver can, else generic; `status` says which.
    Auto,
    Native,
    Generic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub listens: Vec<SocketAddrV4>,
    pub protocol: Protocol,
    /// None: the address of the interface towards the backend.
    pub snat: Option<Ipv4Addr>,
    pub idle_timeout: Duration,
    /// In the file's order.
    pub backends: Vec<Backend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The `[backend.NAME]`, or the literal address where the file gives that.
    pub name: String,
    pub address: SocketAddrV4,
    /// 0: no new flows.
    pub weight: u16,
}
