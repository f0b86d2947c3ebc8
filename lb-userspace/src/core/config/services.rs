//! Whether each service fits together and beside the others, and the `Config` of those that do.
//!
//! Every rule looks at the whole file before it speaks; none stops at the first error.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi;

use super::diagnostic::{Report, Span, subject, suggest};
use super::file::{self, File, Protocol};
use super::reader::{At, Field};
use super::shapes::{List, Sections, Weights};
use super::values::{self, Endpoint, Member};

const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Id 0 is never given out.
const MOST_SERVICES: usize = abi::MAX_SERVICES as usize - 1;
const MOST_BACKENDS: usize = abi::MAX_BACKENDS as usize - 1;

/// None: an error was reported.
pub fn services(file: &File, report: &mut Report<'_>) -> Option<BTreeMap<String, super::Service>> {
    let Some(sections) = file.service.value() else {
        if file.service.is_absent() && !report.has_errors() {
            let hint = "add [service.NAME] with listen and backends".to_owned();
            report.warning(&(0..0), "no service is defined, so nothing is served", hint);
        }
        return file.service.is_absent().then(BTreeMap::new);
    };
    let sections = sections.in_order();
    let listens = listens(&sections, report);
    check_limits(&sections, report);
    warn_unused_backends(file, &sections, report);
    let checked = sections.iter().map(|(name, section)| {
        let context = Context {
            service: subject("service", Some(name)),
            file,
            listens: &listens,
        };
        Some(((*name).to_owned(), context.service(section, report)?))
    });
    // Each service is looked at, also those after a wrong one.
    checked.collect::<Vec<_>>().into_iter().collect()
}

/// The names weights and alarms may use, or None where one of them could not be read.
pub fn member_names(service: &file::Service) -> Option<BTreeSet<String>> {
    let named = |field: &Field<List<Member>>| match field {
        Field::Wrong => None,
        Field::Absent => Some(Vec::new()),
        Field::Given(list) => Some(list.value.0.iter().map(|member| member.value.to_string()).collect()),
    };
    Some(
        named(&service.backends)?
            .into_iter()
            .chain(named(&service.backup)?)
            .collect(),
    )
}

/// Complains about names that are not backends of the service, and about weights that leave nobody.
pub fn check_weights(who: &str, weights: &At<Weights>, names: &BTreeSet<String>, report: &mut Report<'_>) {
    for weight in &weights.value.0 {
        let name = &weight.backend;
        if !names.contains(&canonical(&name.value)) {
            let hint = suggest(report, &name.value, "its backends", names.iter().map(String::as_str));
            let message = format!(
                "{who}: weights names {:?}, which is not one of its backends",
                name.value
            );
            report.error(&name.span, message, hint);
        }
    }
    let weights_by_name = by_name(&weights.value);
    if !names.is_empty() && names.iter().all(|name| weights_by_name.get(name) == Some(&Some(0))) {
        let hint = "give at least one backend a weight of 1 or more".to_owned();
        report.error(
            &weights.span,
            format!("{who}: every weight is 0, so nobody would serve it"),
            hint,
        );
    }
}

type Listens<'a> = BTreeMap<(Protocol, SocketAddr), (&'a str, &'a Span)>;

fn listens<'a>(sections: &[(&'a str, &'a At<file::Service>)], report: &mut Report<'_>) -> Listens<'a> {
    let mut listens = Listens::new();
    for (name, section) in sections {
        let Some(protocol) = protocol(&section.value) else {
            continue;
        };
        for At {
            value: Endpoint(address),
            span,
        } in section.value.listen.value().into_iter().flat_map(|list| &list.0)
        {
            let Some((first, at)) = listens.get(&(protocol, *address)) else {
                listens.insert((protocol, *address), (name, span));
                continue;
            };
            let who = subject("service", Some(name));
            let message = match first == name {
                true => format!("{who}: {address} is listed twice"),
                false => format!(
                    "{who}: {address} is already the listen of {}",
                    subject("service", Some(first))
                ),
            };
            report.error(span, message, format!("first given at {}", report.place(at)));
        }
    }
    if let Some((_, (name, span))) = listens.iter().nth(abi::MAX_LISTENS as usize) {
        let message = format!(
            "{}: more than {} listens",
            subject("service", Some(name)),
            abi::MAX_LISTENS
        );
        report.error(span, message, None);
    }
    listens
}

fn check_limits(sections: &[(&str, &At<file::Service>)], report: &mut Report<'_>) {
    if let Some((name, section)) = sections.get(MOST_SERVICES) {
        let message = format!("{}: more than {MOST_SERVICES} services", subject("service", Some(name)));
        report.error(&section.span, message, None);
    }
    let mut count = 0;
    for (name, section) in sections {
        let before = count;
        count += section.value.backends.value().map_or(0, |list| list.0.len());
        if before <= MOST_BACKENDS && count > MOST_BACKENDS {
            let message = format!(
                "{}: more than {MOST_BACKENDS} backends in all",
                subject("service", Some(name))
            );
            report.error(
                &section.span,
                message,
                "one that two services use counts twice".to_owned(),
            );
        }
    }
}

fn warn_unused_backends(file: &File, sections: &[(&str, &At<file::Service>)], report: &mut Report<'_>) {
    let all_read = file
        .service
        .value()
        .is_some_and(|services| services.names().count() == sections.len());
    let used: Option<Vec<_>> = sections
        .iter()
        .map(|(_, section)| member_names(&section.value))
        .collect();
    let (Some(backends), Some(used), true) = (file.backend.value(), used, all_read) else {
        return;
    };
    let used: BTreeSet<String> = used.into_iter().flatten().collect();
    for (name, section) in backends.in_order() {
        if !used.contains(name) {
            let message = format!("{}: no service uses it", subject("backend", Some(name)));
            report.warning(
                &section.span,
                message,
                "name it in the `backends` of a service, or remove it".to_owned(),
            );
        }
    }
}

/// Absent is tcp; None: an error was reported.
fn protocol(service: &file::Service) -> Option<Protocol> {
    match &service.protocol {
        Field::Absent => Some(Protocol::Tcp),
        field => field.value().copied(),
    }
}

fn by_name(weights: &Weights) -> BTreeMap<String, Option<u16>> {
    weights
        .0
        .iter()
        .map(|weight| (canonical(&weight.backend.value), weight.weight))
        .collect()
}

/// An address may be written in more than one way.
fn canonical(name: &str) -> String {
    values::member(name).map_or_else(|_| name.to_owned(), |member| member.to_string())
}

/// One service among the others.
struct Context<'a> {
    service: String,
    file: &'a File,
    listens: &'a Listens<'a>,
}

/// An element of `backends` with its address, where that is known.
struct Found<'a> {
    name: String,
    span: &'a Span,
    address: Option<SocketAddr>,
}

impl Context<'_> {
    fn service(&self, section: &At<file::Service>, report: &mut Report<'_>) -> Option<super::Service> {
        let service = &section.value;
        let backends = self.members(&service.backends, report);
        let backup = self.members(&service.backup, report);
        let all: Vec<&Found<'_>> = backends.iter().chain(&backup).collect();
        self.check_duplicates(&all, report);
        self.check_loops(service, &all, report);
        self.check_families(service, &all, report);
        if let (Some(weights), Some(names)) = (service.weights.given(), member_names(service)) {
            check_weights(&self.service, weights, &names, report);
        }
        build(service, &backends)
    }

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
        let backends = match &self.file.backend {
            Field::Absent => &empty,
            field => field.value()?,
        };
        let Some(backend) = backends.0.get(name) else {
            let hint = suggest(report, name, "defined backends", backends.names());
            let hint = hint.unwrap_or_else(|| format!("add [backend.{name}], or give address:port"));
            report.error(span, format!("{}: backend {name:?} is not defined", self.service), hint);
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
            report.error(member.span, format!("{}: {message}", self.service), hint);
        }
    }

    fn check_loops(&self, service: &file::Service, members: &[&Found<'_>], report: &mut Report<'_>) {
        let Some(protocol) = protocol(service) else { return };
        for member in members {
            let listen = member
                .address
                .and_then(|address| self.listens.get(&(protocol, address)));
            if let Some((owner, at)) = listen {
                let owner = subject("service", Some(owner));
                let message = format!(
                    "{}: backend {:?} is the listen of {owner}: a loop",
                    self.service, member.name
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
                self.service,
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
