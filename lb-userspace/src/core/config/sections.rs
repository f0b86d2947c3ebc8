//! Whether the sections other than services fit together, each and with the rest of the file.

use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::{Report, subject, suggest};
use super::file::{Backend, Dns, File, Node};
use super::reader::{At, Field};
use super::shapes::Sections;
use super::values::Name;
use super::{alarms, checks, vrrp};

/// A Unix socket's path is 107 bytes at most, and `/naru.sock` is added to the folder.
const LONGEST_RUN_DIR: usize = 107 - "/naru.sock".len();

pub fn check(file: &File, report: &mut Report<'_>) {
    if let Some(node) = file.node.value() {
        check_node(node, report);
    }
    if let Some(dns) = file.dns.value() {
        check_dns(dns, report);
    }
    each("vrrp", &file.vrrp, |who, vrrp| {
        vrrp::check_fits(who, vrrp, file, report)
    });
    vrrp::check_together(file, report);
    each("check", &file.check, |who, check| {
        checks::check_fits(who, check, report)
    });
    each("backend", &file.backend, |who, backend| {
        check_backend(who, backend, report)
    });
    each("service", &file.service, |who, service| {
        check_exists(who, "check", &service.value.check, &file.check, report);
    });
    each("alarm", &file.alarm, |who, alarm| {
        check_exists(who, "service", &alarm.value.service, &file.service, report);
        alarms::check_fits(who, &alarm.value, file, report);
    });
}

fn each<T>(section: &str, sections: &Field<Sections<T>>, mut check: impl FnMut(&str, &At<T>)) {
    for (name, section_of_name) in sections.value().into_iter().flat_map(Sections::in_order) {
        check(&subject(section, Some(name)), section_of_name);
    }
}

/// Complains about a name that is not that of a section.
pub fn check_exists<T>(who: &str, what: &str, name: &Field<Name>, all: &Field<Sections<T>>, report: &mut Report<'_>) {
    let Some(At {
        value: Name(name),
        span,
    }) = name.given()
    else {
        return;
    };
    let names: Vec<&str> = match all {
        Field::Wrong => return,
        Field::Absent => Vec::new(),
        Field::Given(sections) => sections.value.names().collect(),
    };
    if !names.contains(&name.as_str()) {
        let hint = suggest(report, name, &format!("defined {what}s"), names.into_iter());
        let hint = hint.unwrap_or_else(|| format!("add [{what}.{name}]"));
        report.error(span, format!("{who}: {what} {name:?} is not defined"), hint);
    }
}

fn check_node(node: &Node, report: &mut Report<'_>) {
    let is_long = |path: &Path| path.as_os_str().len() > LONGEST_RUN_DIR;
    if let Some(run_dir) = node.run_dir.given().filter(|run_dir| is_long(&run_dir.value)) {
        let hint = format!("{LONGEST_RUN_DIR} bytes at most");
        report.error(&run_dir.span, "[node]: run_dir: too long for the socket in it", hint);
    }
    let interfaces = node.interfaces.value().into_iter().flat_map(|list| &list.0);
    let mut seen = BTreeMap::new();
    for interface in interfaces {
        if let Some(first) = seen.insert(&interface.value.0, &interface.span) {
            let message = format!("[node]: interface {:?} is listed twice", interface.value.0);
            report.error(
                &interface.span,
                message,
                format!("first given at {}", report.place(first)),
            );
        }
    }
}

fn check_dns(dns: &Dns, report: &mut Report<'_>) {
    if let (Some(min), Some(max)) = (dns.min_ttl.value(), dns.max_ttl.given())
        && max.value < *min
    {
        report.error(
            &max.span,
            "[dns]: max_ttl is shorter than min_ttl",
            "swap them".to_owned(),
        );
    }
}

fn check_backend(who: &str, backend: &At<Backend>, report: &mut Report<'_>) {
    let Backend { address, host, srv } = &backend.value;
    let given = [address.is_absent(), host.is_absent(), srv.is_absent()]
        .iter()
        .filter(|absent| !**absent)
        .count();
    if given == 0 && !report.may_have_lost_keys(&backend.span) {
        report.error(
            &backend.span,
            format!("{who}: `address` is missing"),
            "add address = \"198.18.1.11:8080\", or host = \"app.example:8080\"".to_owned(),
        );
    }
    if given > 1 {
        let hint = "remove all but one".to_owned();
        report.error(
            &backend.span,
            format!("{who}: has more than one of address, host and srv"),
            hint,
        );
    }
}
