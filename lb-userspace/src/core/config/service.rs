//! Whether one service fits together and beside the rest of the file, and the `Config` of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::diagnostic::{Report, Span, subject, suggest};
use super::file::{self, File, Protocol};
use super::reader::{At, Field};
use super::services::Listens;
use super::shapes::{List, Sections};
use super::values::{Endpoint, Member};
use super::weights::{by_name, check_weights, member_names};

pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

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
    if let (Some(weights), Some(names)) = (service.weights.given(), member_names(service)) {
        check_weights(&context.who, weights, &names, report);
    }
    build(service, &backends)
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

/// An element of `backends` with its address, where that is known.
struct Found<'a> {
    name: String,
    span: &'a Span,
    address: Option<SocketAddr>,
}

impl Context<'_> {
    fn members<'s>(&self, field: &'s Field<List<Member>>, report: &mut Report<'_>) -> Vec<Found<'s>> {
        let elements = field.value().into_iter().flat_map(|list| &list.0);
        let found = elements.map(|At { value, span }| {
            let address = match value {
                Member::Name(name) => self.address_of(name, span, report),
                Member::Endpoint(Endpoint(address)) => Some(*address),
                Member::Host(_) => None,
            };
            Found {
                name: value.to_string(),
                span,
                address,
            }
        });
        found.collect()
    }

    fn address_of(&self, name: &str, span: &Span, report: &mut Report<'_>) -> Option<SocketAddr> {
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
        backend.value()?.address.value().map(|Endpoint(address)| *address)
    }

    fn check_duplicates(&self, members: &[&Found<'_>], report: &mut Report<'_>) {
        let (mut names, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for member in members {
            let named = *names.entry(&member.name).or_insert(*member);
            let at = member
                .address
                .map_or(*member, |address| *addresses.entry(address).or_insert(*member));
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
                .address
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

    fn check_families(&self, service: &file::Service, members: &[&Found<'_>], report: &mut Report<'_>) {
        let listens = service.listen.value().into_iter().flat_map(|list| &list.0);
        let listens = listens.map(|listen| (&listen.span, listen.value.0.ip()));
        let snat = service.snat.value().into_iter().flat_map(|list| &list.0);
        let snat = snat.map(|snat| (&snat.span, snat.value.0));
        let members = members
            .iter()
            .filter_map(|member| Some((member.span, member.address?.ip())));
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
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// None where something is missing, wrong or not available; that has been reported.
fn build(service: &file::Service, members: &[Found<'_>]) -> Option<super::Service> {
    let listens = service.listen.value()?.0.iter().map(|listen| v4(listen.value.0));
    let weights = service.weights.value().map(by_name).unwrap_or_default();
    let backends = members.iter().map(|member| {
        let weight = weights.get(&member.name).copied().unwrap_or(Some(1))?;
        Some(super::Backend {
            name: member.name.clone(),
            address: v4(member.address?)?,
            weight,
        })
    });
    let snat = match service.snat.value().and_then(|list| list.0.first()) {
        None => None,
        Some(snat) => match snat.value.0 {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => return None,
        },
    };
    let (protocol, idle_timeout) = match protocol(service)? {
        Protocol::Tcp => (super::Protocol::Tcp, TCP_IDLE_TIMEOUT),
        Protocol::Udp => (super::Protocol::Udp, UDP_IDLE_TIMEOUT),
    };
    Some(super::Service {
        listens: listens.collect::<Option<_>>()?,
        protocol,
        snat,
        idle_timeout: service.idle_timeout.value().copied().unwrap_or(idle_timeout),
        backends: backends.collect::<Option<_>>()?,
    })
}

fn v4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    }
}
