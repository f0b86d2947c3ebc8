//! The configuration as the rest of the daemon sees it: whole, checked, with defaults filled in.
//!
//! Text in, `Config` or every error with its position out; reading the file is for `io::config_file`. The way of a
//! text: `syntax`, `unavailable`, `file` (by `keys`, `reader`, `shapes`, `values`, `hosts`), `sections`, `checks`, `vrrp`,
//! `alarms`, `services`.

mod alarms;
mod checks;
mod diagnostic;
mod file;
mod hosts;
mod kept;
mod keys;
mod positions;
mod reader;
mod schema;
mod secrets;
mod sections;
mod service;
mod services;
mod shapes;
mod shared;
mod syntax;
mod unavailable;
mod values;
mod vrrp;
mod weights;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use checks::{Ask, Check, Database, Http, Tls};
pub use diagnostic::{Diagnostic, Severity, nearest};
pub use file::{Metric, Missing, Role, WhenNoneUp};
use lb_common::abi::{Algorithm, Mode};
pub use schema::json_schema;
pub use service::{TCP_IDLE_TIMEOUT, UDP_IDLE_TIMEOUT};

pub use hosts::{HostPort, SrvName, is_host_name};
pub use values::{Datapoints, Threshold, is_routed};
pub use vrrp::Vrrp;

use diagnostic::{Report, subject};
use file::File;
use reader::{Field, Reader, Value};

use super::dns::{Family, Question, Wanted};
use super::members::Name;
use super::network::{Network, Prefix};
use super::next_hops::owners;

/// A larger file is not a configuration.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Of one backend, in the file and by override.
pub const MAX_WEIGHT: u16 = 1000;

const RUN_DIR: &str = "/run/naru";
const STATE_DIR: &str = "/var/lib/naru";
const PIN_DIR: &str = "/sys/fs/bpf/naru";
const MAX_FLOWS: u32 = 262_144;
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub node: Node,
    pub dns: Dns,
    /// By name.
    pub services: BTreeMap<String, Service>,
    /// By name.
    pub alarms: BTreeMap<String, Alarm>,
    /// By name.
    pub vrrp: BTreeMap<String, Vrrp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// None: the host's name.
    pub name: Option<String>,
    /// None: those that reach the listens and backends.
    pub interfaces: Option<Vec<String>>,
    pub xdp: Xdp,
    pub run_dir: PathBuf,
    /// Where what is to hold after a restart is kept.
    pub state_dir: PathBuf,
    pub pin_dir: PathBuf,
    /// How many flows the table is made for.
    pub max_flows: u32,
}

/// How the names of backends are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// None: those of /etc/resolv.conf.
    pub servers: Option<Vec<SocketAddr>>,
    /// No more than `max_ttl`.
    pub min_ttl: Duration,
    pub max_ttl: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// The mode in which frames arrive, as `core::xdp_mode` chooses it; `status` says which, and why.
    Auto,
    Native,
    Generic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Of one address family, as are `snat` and the backends.
    pub listens: Vec<SocketAddr>,
    pub protocol: Protocol,
    pub mode: Mode,
    pub algorithm: Algorithm,
    /// Empty: the address of the interface towards the backend.
    pub snat: Vec<IpAddr>,
    pub idle_timeout: Duration,
    pub on_down: OnDown,
    /// None: its backends are taken as up.
    pub check: Option<Check>,
    /// None: all that are up are used.
    pub max_active: Option<usize>,
    pub slow_start: Option<Duration>,
    pub when_none_up: WhenNoneUp,
    /// In the file's order, those for backup last.
    pub backends: Vec<Backend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// What becomes of the TCP connections of a backend that is down or disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They may finish.
    Drain,
    /// They are reset at once, both sides of them.
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The `[backend.NAME]`, or the literal place where the file gives that.
    pub name: String,
    pub place: Place,
    /// 0: no new flows.
    pub weight: u16,
    /// Used while no other is up.
    pub backup: bool,
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Address(SocketAddr),
    /// Every address of the name is a backend, and they share its weight.
    Host(HostPort),
    /// The same of all hosts that its SRV records name, by their ranks.
    Srv(SrvName),
}

/// Shifts the weights of a service while a metric is too high.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub service: String,
    /// None: all of the service.
    pub backend: Option<String>,
    pub metric: Metric,
    pub above: Threshold,
    pub period: Duration,
    pub datapoints: Datapoints,
    pub missing: Missing,
    /// While it rings; who is not named here keeps what it has.
    pub weights: BTreeMap<String, u16>,
    /// How long it must be without a data point that counts.
    pub clear_after: Duration,
    pub ramp: Duration,
}

impl Place {
    /// None: the SRV records say.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Address(address) => Some(address.port()),
            Self::Host(host) => Some(host.port),
            Self::Srv(_) => None,
        }
    }

    /// None: it is only known by its name.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Host(_) | Self::Srv(_) => None,
        }
    }

    /// Where it has one.
    pub fn name(&self) -> Option<String> {
        self.address().is_none().then(|| self.to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host(host) => write!(f, "{host}"),
            Self::Srv(SrvName(name)) => f.write_str(name),
        }
    }
}

impl Service {
    pub fn family(&self) -> Family {
        let listen = self.listens.first().map(SocketAddr::ip);
        listen.map_or(Family::Ipv4, Family::of)
    }

    /// What is to be asked about the name, where the backend has one.
    pub fn question(&self, backend: &Backend) -> Option<Question> {
        let (name, wanted) = match &backend.place {
            Place::Address(_) => return None,
            Place::Host(HostPort { host, .. }) => (host, Wanted::Addresses),
            Place::Srv(SrvName(name)) => (name, Wanted::Targets),
        };
        Some(Question::new(name, self.family(), wanted))
    }

    /// What is to be asked about the names of its backends.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.backends.iter().filter_map(|backend| self.question(backend))
    }
}

impl Config {
    pub fn backend(&self, name: &Name) -> Option<&Backend> {
        let mut backends = self.services.get(&name.service)?.backends.iter();
        backends.find(|backend| backend.name == name.backend)
    }

    /// What names of backends stand for is asked by these.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.services.values().flat_map(Service::questions)
    }
}

/// A file without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub config: Config,
    pub warnings: Vec<Diagnostic>,
    /// What is to be said of a listen address if no interface has it.
    unowned: Vec<(IpAddr, Diagnostic)>,
}

impl Parsed {
    /// Warnings about listens whose address is on no interface: nobody tells clients its link address.
    pub fn unowned_listens(&self, network: &Network) -> Vec<&Diagnostic> {
        let unowned = self.unowned.iter();
        unowned
            .filter(|(address, _)| owners(network, *address).next().is_none())
            .map(|(_, warning)| warning)
            .collect()
    }
}

/// `Err` holds every error of the file, and its warnings, in the file's order.
pub fn parse(file_name: &str, text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let repaired = syntax::repair(text);
    let mut report = Report::new(file_name, &repaired);
    let root = syntax::parse(&repaired, &mut report);
    unavailable::check(root.get_ref(), &mut report);
    let root = toml::Spanned::new(root.span(), toml::de::DeValue::Table(root.into_inner()));
    let file = File::read(&root, &mut Reader::new(&mut report)).unwrap_or_default();
    sections::check(&file, &mut report);
    let services = services::services(&file, &mut report);
    let unowned = unowned(&file, &report);
    if report.has_errors() {
        return Err(report.finish());
    }
    let services = services.expect("INVARIANT: a service that cannot be built has an error");
    let alarms = alarms::alarms(&file).expect("INVARIANT: an alarm that cannot be built has an error");
    let vrrp = vrrp::instances(&file).expect("INVARIANT: an instance that cannot be built has an error");
    Ok(Parsed {
        config: Config {
            node: node(file.node),
            dns: dns(&file.dns),
            services,
            alarms,
            vrrp,
        },
        warnings: report.finish(),
        unowned,
    })
}

fn node(field: Field<file::Node>) -> Node {
    let node = field.value().cloned().unwrap_or_default();
    let interfaces = node
        .interfaces
        .value()
        .map(|list| list.0.iter().map(|at| at.value.0.clone()).collect());
    let run_dir = node.run_dir.value();
    // One of several daemons on a host: what it keeps is its own without a word more.
    let own_dir = run_dir.filter(|dir| *dir != Path::new(RUN_DIR));
    let state_dir = node.state_dir.value().or(own_dir);
    Node {
        name: node.name.value().map(|name| name.0.clone()),
        interfaces,
        xdp: match node.xdp.value() {
            Some(file::Xdp::Native) => Xdp::Native,
            Some(file::Xdp::Generic) => Xdp::Generic,
            Some(file::Xdp::Auto) | None => Xdp::Auto,
        },
        run_dir: run_dir.cloned().unwrap_or_else(|| RUN_DIR.into()),
        state_dir: state_dir.cloned().unwrap_or_else(|| STATE_DIR.into()),
        pin_dir: node.pin_dir.value().cloned().unwrap_or_else(|| PIN_DIR.into()),
        max_flows: node
            .max_flows
            .value()
            .and_then(|flows| u32::try_from(flows.0).ok())
            .unwrap_or(MAX_FLOWS),
    }
}

fn dns(field: &Field<file::Dns>) -> Dns {
    let dns = field.value().cloned().unwrap_or_default();
    let (min, max) = (dns.min_ttl.value().copied(), dns.max_ttl.value().copied());
    // Of one that is not given, nothing makes the other untrue.
    let min_ttl = min.unwrap_or_else(|| MIN_TTL.min(max.unwrap_or(MIN_TTL)));
    Dns {
        servers: dns
            .servers
            .value()
            .map(|list| list.0.iter().map(|at| at.value).collect()),
        min_ttl,
        max_ttl: max.unwrap_or(MAX_TTL.max(min_ttl)),
    }
}

fn unowned(file: &File, report: &Report<'_>) -> Vec<(IpAddr, Diagnostic)> {
    let mut unowned = Vec::new();
    for (name, service) in file
        .service
        .value()
        .into_iter()
        .flat_map(|services| services.in_order())
    {
        for listen in service.value.listen.value().into_iter().flat_map(|list| &list.0) {
            let address = listen.value.0.ip();
            if vrrp::shares(file, address) {
                continue;
            }
            let question = if address.is_ipv4() { "ARP" } else { "ND" };
            let message = format!(
                "{}: {address} is on no interface, so nobody answers {question} for it",
                subject("service", Some(name))
            );
            let alone = Prefix::of_one(address);
            let hint = format!("`ip address add {alone} dev INTERFACE`, or a listen this host has");
            unowned.push((
                address,
                report.diagnostic(Severity::Warning, &listen.span, message, Some(hint)),
            ));
        }
    }
    unowned
}
