//! The services of the status: who serves each, and whether its clients are served.

use std::collections::BTreeMap;

use lb_common::abi::{Algorithm, BackendId, Mode};

use super::{Backend, Counters, Service, ServiceState, warnings};
use crate::core::condition::State;
use crate::core::config::{self, Protocol};
use crate::core::desired;
use crate::core::kernel::KernelState;
use crate::core::members::Name;
use crate::core::timestamp::rfc3339;
use crate::core::world::World;

pub fn services(world: &World, actual: &KernelState, counters: &Counters) -> Vec<Service> {
    let Some((applied, _)) = world.settled() else {
        return Vec::new();
    };
    let serving = world
        .members()
        .backends
        .iter()
        .filter(|(_, member)| member.leaving.is_none());
    let mut ids: BTreeMap<&Name, Vec<BackendId>> = BTreeMap::new();
    for (&id, member) in serving {
        if let Some(name) = &member.name {
            ids.entry(name).or_default().push(id);
        }
    }
    let services = applied.file.config.services.iter();
    services
        .map(|(name, service)| {
            let rows = |file: &config::Backend| {
                let name = Name {
                    service: name.clone(),
                    backend: file.name.clone(),
                };
                match ids.get(&name) {
                    Some(ids) => ids.iter().map(|id| backend(world, counters, *id, file)).collect(),
                    None => vec![unresolved(world, service, file)],
                }
            };
            let backends: Vec<Backend> = service.backends.iter().flat_map(rows).collect();
            self::service(
                name,
                service,
                service_state(world, actual, service, &backends),
                backends,
            )
        })
        .collect()
}

fn service(name: &str, service: &config::Service, state: ServiceState, backends: Vec<Backend>) -> Service {
    Service {
        name: name.to_owned(),
        listen: service.listens.iter().map(ToString::to_string).collect(),
        protocol: match service.protocol {
            Protocol::Tcp => "tcp".to_owned(),
            Protocol::Udp => "udp".to_owned(),
        },
        mode: mode(service.mode).to_owned(),
        algorithm: algorithm(service.algorithm).to_owned(),
        state,
        backends,
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Nat => "nat",
        Mode::DsrL2 => "dsr-l2",
        Mode::DsrIpip => "dsr-ipip",
    }
}

const fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Maglev => "maglev",
        Algorithm::RoundRobin => "round-robin",
        Algorithm::LeastConnections => "least-connections",
        Algorithm::Source => "source",
    }
}

/// Green only where packets are: the kernel's side counts as much as the backends.
fn service_state(world: &World, actual: &KernelState, service: &config::Service, backends: &[Backend]) -> ServiceState {
    let heard = service.listens.iter().filter(|listen| {
        let served = actual.listens.contains_key(&desired::listen(service, listen));
        served && warnings::unheard(world, actual, listen.ip()).is_none()
    });
    let heard = heard.count();
    let attached = world
        .interfaces()
        .iter()
        .filter(|ifindex| actual.attached.contains_key(ifindex))
        .count();
    let is = |state| backends.iter().any(|backend| backend.state == state);
    if heard == 0 || attached == 0 || !is(State::Up) {
        ServiceState::Down
    } else if is(State::Down)
        || is(State::Unresolved)
        || heard < service.listens.len()
        || attached < world.interfaces().len()
    {
        ServiceState::Degraded
    } else {
        ServiceState::Up
    }
}

fn backend(world: &World, counters: &Counters, id: BackendId, file: &config::Backend) -> Backend {
    let traffic = counters.traffic.get(&id).copied().unwrap_or_default();
    let condition = &world.conditions()[&id];
    Backend {
        name: file.name.clone(),
        host: file.place.name(),
        address: world.members().backends[&id].address.to_string(),
        weight: file.weight,
        effective_weight: condition.effective_weight,
        state: condition.state,
        reason: condition.reason.clone(),
        since: rfc3339(condition.since.wall),
        active_flows: world.flows(id),
        new_flows: traffic.new_flows,
        packets: traffic.packets_to_backend + traffic.packets_to_client,
        bytes: traffic.bytes_to_backend + traffic.bytes_to_client,
        snat_ports_exhausted: traffic.ports_exhausted,
    }
}

/// Of a name without an address.
fn unresolved(world: &World, service: &config::Service, file: &config::Backend) -> Backend {
    let question = service.question(file);
    let trouble = question.and_then(|question| world.names().trouble(&question));
    let (reason, since) = trouble.map_or_else(Default::default, |(why, since)| (why, rfc3339(since)));
    Backend {
        name: file.name.clone(),
        host: file.place.name(),
        address: file.place.to_string(),
        weight: file.weight,
        effective_weight: 0,
        state: State::Unresolved,
        reason,
        since,
        active_flows: 0,
        new_flows: 0,
        packets: 0,
        bytes: 0,
        snat_ports_exhausted: 0,
    }
}
