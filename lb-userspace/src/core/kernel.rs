//! The kernel's side as a value: what the maps and interfaces hold, or should hold, and the steps between.
//!
//! Types and their words only; `core::plan` finds the steps, `io::bpf` takes them and reads the state back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{self, BackendId, Listen, MAX_SNAT, ServiceId};
use lb_common::lease::LeaseId;
use lb_common::wire::Ip;

use super::config::Xdp;
use super::network::Prefix;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    pub listens: BTreeMap<Listen, abi::Service>,
    pub slots: BTreeMap<ServiceId, Vec<BackendId>>,
    pub backends: BTreeMap<BackendId, abi::Backend>,
    pub routes: BTreeMap<Prefix, abi::Route>,
    /// Addresses that a peer may have instead, and the lease that each hangs on here.
    pub shared: BTreeMap<IpAddr, LeaseId>,
    /// Interfaces by index with our program on them.
    pub attached: BTreeMap<u32, Attachment>,
}

impl KernelState {
    /// Whether every frame would leave by the same way and carry the same link addresses.
    pub fn same_ways(&self, other: &Self) -> bool {
        let hops = |state: &Self| -> Vec<_> {
            let backends = state.backends.iter();
            backends.map(|(&id, backend)| (id, backend.next_hop)).collect()
        };
        self.routes == other.routes && hops(self) == hops(other)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The pin of the link is named after the interface.
    pub interface: String,
    pub mode: Xdp,
}

/// How large a flow table gets for so many flows.
pub fn flow_entries(max_flows: u32) -> u32 {
    (max_flows * abi::ENTRIES_PER_FLOW).next_power_of_two()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    PutRoute(Prefix, abi::Route),
    RemoveRoute(Prefix),
    PutBackend(BackendId, abi::Backend),
    RemoveBackend(BackendId),
    /// All at once: the kernel waits for running programs after each such step, not after each table.
    PutSlots(BTreeMap<ServiceId, Vec<BackendId>>),
    RemoveSlots(BTreeSet<ServiceId>),
    PutShared(IpAddr, LeaseId),
    RemoveShared(IpAddr),
    PutListen(Listen, abi::Service),
    RemoveListen(Listen),
    Attach(u32, Attachment),
    /// The program is on it, and its name has changed.
    Rename(u32, Attachment),
    Detach(u32),
}

/// As logs, warnings and scenarios put it.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutRoute(prefix, route) if route.on_link != 0 => {
                write!(f, "put route {prefix}: on link, interface {}", route.next_hop.ifindex)
            }
            Self::PutRoute(prefix, route) => write!(f, "put route {prefix}: {}", Hop(&route.next_hop)),
            Self::RemoveRoute(prefix) => write!(f, "remove route {prefix}"),
            Self::PutBackend(id, backend) => {
                let abi::Backend { service, weight, .. } = backend;
                let address = SocketAddr::new(backend.address.into(), backend.port.get());
                let snat = Pool(&backend.snat[..usize::from(backend.snat_count).min(MAX_SNAT)]);
                write!(
                    f,
                    "put backend {id}: {address} of service {service}, weight {weight}, from {snat}, "
                )?;
                Hop(&backend.next_hop).fmt(f)
            }
            Self::RemoveBackend(id) => write!(f, "remove backend {id}"),
            Self::PutSlots(tables) => {
                let tables = tables
                    .iter()
                    .map(|(id, slots)| format!("of service {id}: {}", Shares(slots)));
                write!(f, "put slots {}", tables.collect::<Vec<_>>().join("; "))
            }
            Self::RemoveSlots(services) => {
                let services: Vec<String> = services.iter().map(ToString::to_string).collect();
                write!(f, "remove slots of service {}", services.join(", "))
            }
            Self::PutShared(address, lease) => write!(f, "put shared address {address}: lease {lease}"),
            Self::RemoveShared(address) => write!(f, "remove shared address {address}"),
            Self::PutListen(listen, service) => {
                write!(f, "put listen {}: service {}", At(listen), service.id)?;
                match service.lease {
                    0 => Ok(()),
                    lease => write!(f, ", lease {lease}"),
                }
            }
            Self::RemoveListen(listen) => write!(f, "remove listen {}", At(listen)),
            Self::Attach(ifindex, Attachment { interface, mode }) => {
                let mode = format!("{mode:?}").to_lowercase();
                write!(f, "attach to {interface} (interface {ifindex}, {mode})")
            }
            Self::Rename(ifindex, Attachment { interface, .. }) => {
                write!(f, "rename interface {ifindex} to {interface}")
            }
            Self::Detach(ifindex) => write!(f, "detach from interface {ifindex}"),
        }
    }
}

struct Pool<'a>(&'a [Ip]);

impl fmt::Display for Pool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self
            .0
            .iter()
            .map(|&address| IpAddr::from(address).to_string())
            .collect();
        if addresses.is_empty() {
            f.write_str("nowhere")
        } else {
            f.write_str(&addresses.join(" and "))
        }
    }
}

struct Hop<'a>(&'a abi::NextHop);

impl fmt::Display for Hop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_known() {
            return f.write_str("next hop not known");
        }
        let [a, b, c, d, e, g] = self.0.ether.destination();
        write!(
            f,
            "to {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} by interface {}",
            self.0.ifindex
        )
    }
}

/// How many slots each backend has.
struct Shares<'a>(&'a [BackendId]);

impl fmt::Display for Shares<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<BackendId, usize> = BTreeMap::new();
        for id in self.0 {
            *counts.entry(*id).or_default() += 1;
        }
        let shares: Vec<String> = counts
            .iter()
            .map(|(id, count)| format!("backend {id} has {count}"))
            .collect();
        if shares.is_empty() {
            f.write_str("none")
        } else {
            f.write_str(&shares.join(", "))
        }
    }
}

struct At<'a>(&'a Listen);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.0.protocol == abi::UDP { "udp" } else { "tcp" };
        let address = SocketAddr::new(self.0.address.into(), self.0.port.get());
        write!(f, "{protocol} {address}")
    }
}
