//! The status for people: first the verdict, then what is wrong, then who serves what.

use std::fmt::Write as _;

use super::{Service, ServiceState, Status};
use crate::core::condition::State;
use crate::core::vrrp::document::InstanceDocument;

pub fn render(status: &Status) -> String {
    let mut text = format!("{}: {}\n", status.node, verdict(&status.services));
    for problem in problems(status) {
        let _infallible = writeln!(text, "! {problem}");
    }
    for service in &status.services {
        text.push('\n');
        text.push_str(&self::service(service));
    }
    if !status.leaving.is_empty() {
        text.push_str("\nLeaving:\n");
        text.push_str(&leaving(status));
    }
    if !status.alarms.is_empty() {
        text.push_str("\nAlarms:\n");
        text.push_str(&alarms(status));
    }
    if !status.overrides.is_empty() {
        text.push_str("\nOverrides:\n");
        text.push_str(&overrides(status));
    }
    text.push('\n');
    text.push_str(&footer(status));
    text
}

fn verdict(services: &[Service]) -> String {
    let names = |state| -> Vec<&str> {
        services
            .iter()
            .filter(|service| service.state == state)
            .map(|service| service.name.as_str())
            .collect()
    };
    let mut verdict = format!("{} of {} services up", names(ServiceState::Up).len(), services.len());
    for (word, names) in [
        ("down", names(ServiceState::Down)),
        ("degraded", names(ServiceState::Degraded)),
    ] {
        if !names.is_empty() {
            let _infallible = write!(verdict, "; {word}: {}", names.join(", "));
        }
    }
    verdict
}

fn problems(status: &Status) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(error) = &status.config.error {
        let kept = match status.config.generation {
            0 => "what an earlier daemon left in the kernel stays".to_owned(),
            generation => format!("configuration {generation} stays"),
        };
        problems.push(format!("{} is refused, {kept}: {error}", status.config.path));
    }
    for service in &status.services {
        for backend in &service.backends {
            let (name, why) = (&backend.name, &backend.reason);
            let at = backend.host.as_ref().map(|_| format!(" at {}", backend.address));
            match backend.state {
                State::Down => {
                    problems.push(format!(
                        "{}/{name}{} is down: {why}",
                        service.name,
                        at.unwrap_or_default()
                    ));
                }
                State::Unresolved => problems.push(format!("{}/{name} is unresolved: {why}", service.name)),
                _ => {}
            }
        }
    }
    for alarm in status.alarms.iter().filter(|alarm| alarm.state == "ringing") {
        let effect = alarm.without_effect.as_ref();
        let effect = effect.map(|why| format!("; without effect, {why}")).unwrap_or_default();
        problems.push(format!("alarm {} rings: {}{effect}", alarm.name, alarm.text));
    }
    problems.extend(status.warnings.iter().cloned());
    problems
}

fn service(service: &Service) -> String {
    let Service {
        name,
        protocol,
        mode,
        algorithm,
        ..
    } = service;
    let listens = service.listen.join(", ");
    let head = format!(
        "{name}: {} on {protocol} {listens} ({mode}, {algorithm})\n",
        word(service.state)
    );
    let titles = [
        "BACKEND", "ADDRESS", "STATE", "WEIGHT", "FLOWS", "NEW", "PACKETS", "BYTES", "SINCE", "REASON",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for backend in &service.backends {
        let weight = if backend.weight == backend.effective_weight {
            backend.weight.to_string()
        } else {
            format!("{} ({})", backend.effective_weight, backend.weight)
        };
        rows.push(vec![
            backend.name.clone(),
            backend.address.clone(),
            backend.state.word().to_owned(),
            weight,
            backend.active_flows.to_string(),
            backend.new_flows.to_string(),
            backend.packets.to_string(),
            backend.bytes.to_string(),
            backend.since.clone(),
            backend.reason.clone(),
        ]);
    }
    head + &table(&rows)
}

const fn word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Up => "up",
        ServiceState::Degraded => "degraded",
        ServiceState::Down => "DOWN",
    }
}

fn leaving(status: &Status) -> String {
    let or_unknown = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
    let row = |backend: &super::Leaving| {
        let name = format!("{}/{}", or_unknown(&backend.service), or_unknown(&backend.name));
        let flows = format!("flows left: {}", backend.active_flows);
        let since = format!("since {}", backend.since);
        vec![name, backend.address.clone(), flows, since, backend.reason.clone()]
    };
    table(&status.leaving.iter().map(row).collect::<Vec<_>>())
}

fn alarms(status: &Status) -> String {
    let row = |alarm: &super::AlarmStatus| {
        vec![
            alarm.name.clone(),
            alarm.state.clone(),
            format!("since {}", alarm.since),
            alarm.text.clone(),
        ]
    };
    table(&status.alarms.iter().map(row).collect::<Vec<_>>())
}

fn overrides(status: &Status) -> String {
    let row = |said: &super::OverrideStatus| {
        let name = format!("{}/{}", said.service, said.backend);
        vec![
            name,
            said.what.clone(),
            format!("by {}", said.by),
            format!("since {}", said.at),
        ]
    };
    table(&status.overrides.iter().map(row).collect::<Vec<_>>())
}

fn footer(status: &Status) -> String {
    let list = |items: Vec<String>| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(", ")
        }
    };
    let interface = |on: &super::Interface| match on.xdp.as_deref() {
        None => format!("{} (mode not known yet)", on.name),
        Some("native") => format!("{} native", on.name),
        Some(mode) => format!("{} {mode} ({})", on.name, on.reason),
    };
    let drops = status.drops.iter().filter(|(_, count)| **count > 0);
    let config = match &status.config.applied_at {
        Some(at) => format!(
            "{}, generation {}, applied {at}",
            status.config.path, status.config.generation
        ),
        None => "none applied".to_owned(),
    };
    let rows = [
        ("flows", flows(&status.flows)),
        (
            "drops",
            list(drops.map(|(reason, count)| format!("{reason} {count}")).collect()),
        ),
        ("XDP", list(status.interfaces.iter().map(interface).collect())),
        ("config", config),
        ("version", status.version.clone()),
    ];
    let shared = status.vrrp.iter().map(|instance| ("shared", shared(instance)));
    let rows = shared.chain(rows).map(|(key, value)| vec![key.to_owned(), value]);
    table(&rows.collect::<Vec<_>>())
}

fn shared(instance: &InstanceDocument) -> String {
    let InstanceDocument {
        name,
        role,
        addresses,
        since,
        fault,
        virtual_mac,
        ..
    } = instance;
    let why = fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default();
    let mac = virtual_mac.as_ref().map(|mac| format!(" at {mac}")).unwrap_or_default();
    format!("{name}: {role}{why} since {since}, {}{mac}", addresses.join(", "))
}

fn flows(flows: &super::Flows) -> String {
    let super::Flows {
        active,
        ipv4,
        ipv6,
        capacity,
    } = flows;
    match ipv6 {
        0 if active > capacity => format!("{active}, made for {capacity}"),
        0 => format!("{active} of {capacity}"),
        _ => format!("{ipv4} of IPv4, {ipv6} of IPv6, each of {capacity}"),
    }
}

/// Two spaces in front of and between columns, none at the end of a line.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("  {cell:width$}"));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}
