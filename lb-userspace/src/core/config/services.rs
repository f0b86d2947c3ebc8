//! Whether the services fit beside each other, and the `Config` of those that do.
//!
//! Every rule looks at the whole file before it speaks; none stops at the first error.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::abi;

use super::diagnostic::{Report, Span, subject};
use super::file::{self, File, Protocol};
use super::reader::At;
use super::service::{Beside, protocol, service};
use super::values::Endpoint;
use super::weights::member_names;

/// Id 0 is never given out.
const MOST_SERVICES: usize = abi::MAX_SERVICES as usize - 1;
const MOST_BACKENDS: usize = abi::MAX_BACKENDS as usize - 1;

/// None: an error was reported.
pub fn services(file: &File, report: &mut Report<'_>) -> Option<BTreeMap<String, super::Service>> {
    let Some(sections) = file.service.value() else {
        if file.service.is_absent() && !report.has_errors() {
            let hint = "add [service.NAME] with listen and backends".to_owned();
            report.error(&(0..0), "no service is defined, so nothing would be served", hint);
        }
        return None;
    };
    let sections = sections.in_order();
    let listens = listens(&sections, report);
    check_limits(&sections, report);
    warn_unused_backends(file, &sections, report);
    let checked = sections.iter().map(|(name, section)| {
        let beside = Beside {
            file,
            listens: &listens,
        };
        Some(((*name).to_owned(), service(name, &section.value, beside, report)?))
    });
    // Each service is looked at, also those after a wrong one.
    checked.collect::<Vec<_>>().into_iter().collect()
}

/// Every listen, and where it is first given.
pub type Listens<'a> = BTreeMap<(Protocol, SocketAddr), (&'a str, &'a Span)>;

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
        let lists = [&section.value.backends, &section.value.backup];
        count += lists
            .iter()
            .filter_map(|list| list.value())
            .map(|list| list.0.len())
            .sum::<usize>();
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
