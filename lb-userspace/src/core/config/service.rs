//! Whether one service fits together and beside the rest of the file, and the `Config` of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_common::abi::{self, MAX_SNAT};

use super::Place;
use super::checks;
use super::diagnostic::{Report, Span, subject, suggest};
use super::file::{self, Algorithm, File, Mode, OnDown, Protocol, WhenNoneUp};
use super::reader::{At, Field};
use super::services::Listens;
use super::shapes::{List, Sections};
use super::values::{Endpoint, Member};
use super::weights::{by_name, check_weights, member_names, warn_backup_alone};

pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
pub const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a service is looked at together with.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    pub file: &'a File,
    pub listens: &'a Listens<'a>,
}

/// None: an error was reported.
pub fn service(
    name: &str,
    service: &file::Service,
    beside: Beside<'_>,
    report: &mut Report<'_>,
) -> Option<super::Service> {
    let context = Context {
        who: subject("service", Some(name)),
        beside,
    };
    let backends = context.members(&service.backends, report);
    let backup = context.members(&service.backup, report);
    let all: Vec<&Found<'_>> = backends.iter().chain(&backup).collect();
    context.check_duplicates(&all, report);
    context.check_loops(service, &all, report);
    context.check_families(service, &all, report);
    context.check_ports(service, &all, report);
    context.check_snat(service, report);
    if let (Some(weights), Some(names)) = (service.weights.given(), member_names(service)) {
        check_weights(&context.who, weights, &names, &BTreeMap::new(), report);
        warn_backup_alone(&context.who, service, report);
    }
    build(service, &backends, &backup, beside.file)
}

/// Absent is tcp; None: an error was reported.
pub fn protocol(service: &file::Service) -> Option<Protocol> {
    match &service.protocol {
        Field::Absent => Some(Protocol::Tcp),
        field => field.value().copied(),
    }
}

struct Context<'a> {
    who: String,
    beside: Beside<'a>,
}

/// An element of `backends` with its place, where that could be read.
struct Found<'a> {
    name: String,
    span: &'a Span,
    place: Option<Place>,
}

impl Found<'_> {
    fn address(&self) -> Option<SocketAddr> {
        self.place.as_ref()?.address()
    }
}

impl Context<'_> {
    fn members<'s>(&self, field: &'s Field<List<Member>>, report: &mut Report<'_>) -> Vec<Found<'s>> {
        let elements = field.value().into_iter().flat_map(|list| &list.0);
        let found = elements.map(|At { value, span }| {
            let place = match value {
                Member::Name(name) => self.place_of(name, span, report),
                Member::Endpoint(Endpoint(address)) => Some(Place::Address(*address)),
                Member::Host(host) => Some(Place::Host(host.clone())),
            };
            Found {
                name: value.to_string(),
                span,
                place,
            }
        });
        found.collect()
    }

    fn place_of(&self, name: &str, span: &Span, report: &mut Report<'_>) -> Option<Place> {
        let empty = Sections(BTreeMap::new());
        let backends = match &self.beside.file.backend {
            Field::Absent => &empty,
            field => field.value()?,
        };
        let Some(backend) = backends.0.get(name) else {
            let hint = suggest(report, name, "defined backends", backends.names());
            let hint = hint.unwrap_or_else(|| format!("add [backend.{name}], or give address:port"));
            report.error(span, format!("{}: backend {name:?} is not defined", self.who), hint);
            return None;
        };
        let file::Backend { address, host, srv } = backend.value()?;
        let address = address.value().map(|Endpoint(address)| Place::Address(*address));
        let host = || host.value().cloned().map(Place::Host);
        address.or_else(host).or_else(|| srv.value().cloned().map(Place::Srv))
    }

    fn check_duplicates(&self, members: &[&Found<'_>], report: &mut Report<'_>) {
        let (mut names, mut places) = (BTreeMap::new(), BTreeMap::new());
        for member in members {
            let named = *names.entry(&member.name).or_insert(*member);
            let place = member.place.as_ref();
            let at = place.map_or(*member, |place| *places.entry(place).or_insert(*member));
            let same_name = Some(named).filter(|first| first.span != member.span);
            let same_address = Some(at).filter(|first| first.span != member.span);
            let (message, first) = match (same_name, same_address) {
                (Some(first), _) => (format!("backend {:?} is listed twice", member.name), first),
                (None, Some(first)) => (
                    format!("backends {:?} and {:?} have the same address", first.name, member.name),
                    first,
                ),
                (None, None) => continue,
            };
            let hint = format!("first given at {}", report.place(first.span));
            report.error(member.span, format!("{}: {message}", self.who), hint);
        }
    }

    fn check_loops(&self, service: &file::Service, members: &[&Found<'_>], report: &mut Report<'_>) {
        let Some(protocol) = protocol(service) else { return };
        for member in members {
            let listen = member
                .address()
                .and_then(|address| self.beside.listens.get(&(protocol, address)));
            if let Some((owner, at)) = listen {
                let owner = subject("service", Some(owner));
                let message = format!(
                    "{}: backend {:?} is the listen of {owner}: a loop",
                    self.who, member.name
                );
                report.error(member.span, message, format!("that listen is at {}", report.place(at)));
            }
        }
    }

    /// Where the backend sees the client's own packets, it has to listen where the client connects to.
    fn check_ports(&self, service: &file::Service, members: &[&Found<'_>], report: &mut Report<'_>) {
        let mode = match service.mode.value() {
            Some(Mode::DsrL2) => "dsr-l2",
            Some(Mode::DsrIpip) => "dsr-ipip",
            Some(Mode::Nat) | None => return,
        };
        let listens = service.listen.value().into_iter().flat_map(|list| &list.0);
        let ports: Vec<u16> = listens.map(|listen| listen.value.0.port()).collect();
        for member in members {
            let Some(place) = &member.place else { continue };
            let Some(port) = place.port() else {
                let message = format!(
                    "{}: the SRV records of backend {:?} have ports of their own; mode {mode} does not translate ports",
                    self.who, member.name
                );
                let hint = "give it a host with the port of the listen, or use mode \"nat\"";
                report.error(member.span, message, hint.to_owned());
                continue;
            };
            if let Some(other) = ports.iter().find(|listen| **listen != port) {
                let message = format!(
                    "{}: backend {:?} is on port {port}, the listen on {other}; mode {mode} does not translate ports",
                    self.who, member.name
                );
                report.error(
                    member.span,
                    message,
                    format!("give it port {other}, or use mode \"nat\""),
                );
            }
        }
    }

    fn check_families(&self, service: &file::Service, members: &[&Found<'_>], report: &mut Report<'_>) {
        let listens = service.listen.value().into_iter().flat_map(|list| &list.0);
        let listens = listens.map(|listen| (&listen.span, listen.value.0.ip()));
        let snat = service.snat.value().into_iter().flat_map(|list| &list.0);
        let snat = snat.map(|snat| (&snat.span, snat.value.0));
        let members = members
            .iter()
            .filter_map(|member| Some((member.span, member.address()?.ip())));
        let mut addresses = listens.chain(members).chain(snat);
        let Some((_, first)) = addresses.next() else { return };
        if let Some((span, other)) = addresses.find(|(_, address)| address.is_ipv4() != first.is_ipv4()) {
            let message = format!(
                "{}: mixes {} ({first}) and {} ({other})",
                self.who,
                family(first),
                family(other)
            );
            report.error(
                span,
                message,
                "listens and backends of a service are of one family".to_owned(),
            );
        }
    }

    fn check_snat(&self, service: &file::Service, report: &mut Report<'_>) {
        let mut seen = BTreeMap::new();
        for (index, At { value, span }) in service.snat.value().into_iter().flat_map(|list| &list.0).enumerate() {
            if let Some(first) = seen.insert(value.0, span) {
                let hint = format!("first given at {}", report.place(first));
                report.error(span, format!("{}: snat {} is listed twice", self.who, value.0), hint);
            }
            if index == MAX_SNAT {
                let message = format!("{}: snat: more than {MAX_SNAT} addresses", self.who);
                report.error(
                    span,
                    message,
                    "each of them gives a backend 36,280 ports more".to_owned(),
                );
            }
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// None where something is missing, wrong or not available; that has been reported.
fn build(service: &file::Service, members: &[Found<'_>], backup: &[Found<'_>], file: &File) -> Option<super::Service> {
    let listens = service.listen.value()?.0.iter().map(|listen| listen.value.0);
    let weights = service.weights.value().map(by_name).unwrap_or_default();
    let members = members.iter().map(|member| (member, false));
    let backup = backup.iter().map(|member| (member, true));
    let backends = members.chain(backup).map(|(member, backup)| {
        let weight = weights.get(&member.name).copied().unwrap_or(Some(1))?;
        Some(super::Backend {
            name: member.name.clone(),
            place: member.place.clone()?,
            weight,
            backup,
        })
    });
    let snat = service.snat.value().into_iter().flat_map(|list| &list.0);
    let (protocol, idle_timeout) = match protocol(service)? {
        Protocol::Tcp => (super::Protocol::Tcp, TCP_IDLE_TIMEOUT),
        Protocol::Udp => (super::Protocol::Udp, UDP_IDLE_TIMEOUT),
    };
    Some(super::Service {
        listens: listens.collect(),
        protocol,
        mode: mode(service),
        algorithm: algorithm(service),
        snat: snat.map(|snat| snat.value.0).collect(),
        idle_timeout: service.idle_timeout.value().copied().unwrap_or(idle_timeout),
        on_down: on_down(service),
        max_active: service.max_active.value().and_then(|most| usize::try_from(most.0).ok()),
        slow_start: service.slow_start.value().copied(),
        when_none_up: service.when_none_up.value().copied().unwrap_or(WhenNoneUp::Refuse),
        check: checks::check_of(service, protocol, file)?,
        backends: backends.collect::<Option<_>>()?,
    })
}

fn mode(service: &file::Service) -> abi::Mode {
    match service.mode.value() {
        Some(Mode::Nat) | None => abi::Mode::Nat,
        Some(Mode::DsrL2) => abi::Mode::DsrL2,
        Some(Mode::DsrIpip) => abi::Mode::DsrIpip,
    }
}

fn on_down(service: &file::Service) -> super::OnDown {
    match service.on_down.value() {
        Some(OnDown::Drain) | None => super::OnDown::Drain,
        Some(OnDown::Reset) => super::OnDown::Reset,
    }
}

fn algorithm(service: &file::Service) -> abi::Algorithm {
    match service.algorithm.value() {
        Some(Algorithm::Maglev) | None => abi::Algorithm::Maglev,
        Some(Algorithm::RoundRobin) => abi::Algorithm::RoundRobin,
        Some(Algorithm::LeastConnections) => abi::Algorithm::LeastConnections,
        Some(Algorithm::Source) => abi::Algorithm::Source,
    }
}
