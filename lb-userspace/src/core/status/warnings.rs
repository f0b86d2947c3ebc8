//! What is not an error and yet worth an operator's look.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use lb_common::abi::ENTRIES_PER_FLOW;
use lb_common::ports::PORTS;
use lb_common::verdict::Reason;

use super::{Counters, Flows};
use crate::core::config::Config;
use crate::core::dns::Question;
use crate::core::kernel::{KernelState, flow_entries};
use crate::core::members::Name;
use crate::core::network::Network;
use crate::core::next_hops::{NextHops, doors, owners};
use crate::core::world::{Doubt, World};

pub fn warnings(world: &World, actual: &KernelState, counters: &Counters, flows: &Flows, now: Instant) -> Vec<String> {
    let mut warnings: Vec<String> = world
        .failures()
        .iter()
        .map(|failed| format!("{}: {}; trying again", failed.action, failed.error))
        .collect();
    warnings.extend(fullness(flows));
    warnings.extend(refusals(world, counters, now));
    warnings.extend(world.suspects_itself().map(own_fault));
    warnings.extend(world.quarrels().map(str::to_owned));
    warnings.extend(world.unkept());
    warnings.extend(world.unpinned().map(|why| {
        format!("somebody has removed pins, and they cannot be put back: {why}; a restart now would lose every flow")
    }));
    warnings.extend(names(world));
    warnings.extend(held(world));
    if let Some((applied, network)) = world.settled() {
        let file = &applied.file;
        warnings.extend(file.warnings.iter().map(|warning| warning.headline()));
        warnings.extend(file.unowned_listens(network).iter().map(|warning| warning.headline()));
        warnings.extend(interfaces(world, &file.config, network));
        warnings.extend(super::interfaces::warnings(world, actual, now));
        warnings.extend(listens(world, actual, &file.config));
        warnings.extend(snat(&file.config, network));
        warnings.extend(capacity(&file.config, flows));
        warnings.extend(next_start(world, &file.config));
    }
    warnings
}

fn own_fault(doubt: Doubt) -> String {
    let why = match doubt {
        Doubt::Silence => {
            "most services fall silent at once, so this node suspects itself: no backend is judged down for silence until \
             some are heard"
        }
        Doubt::Overload => {
            "checks go unanswered while backends serve their clients, so this node suspects itself of having too much to \
             do: none of these is judged down for silence, for 30 s at most"
        }
    };
    why.to_owned()
}

/// Of a name that leads nowhere its backend says so itself.
fn names(world: &World) -> Vec<String> {
    let names = world.names();
    let leads_anywhere = |question: &&Question| names.leads_anywhere(question);
    let named = names
        .iter()
        .filter(|(question, _)| names.behind(question).iter().any(leads_anywhere));
    let troubles = named.filter_map(|(question, standing)| Some(format!("{}: {}", question.host, standing.trouble?)));
    let overcrowded = world.overcrowded().map(|why| format!("names of backends: {why}"));
    troubles.chain(overcrowded).collect()
}

/// Names that lead to nobody who is up, and may have moved without our hearing of it.
fn held(world: &World) -> Vec<String> {
    let mut held: BTreeMap<&Name, Option<String>> = BTreeMap::new();
    for (id, member) in &world.members().backends {
        if let Some(name) = member.name.as_ref().filter(|_| member.leaving.is_none()) {
            let why = world.held(*id);
            let all = held.entry(name).or_insert_with(|| why.clone());
            *all = all.take().and(why);
        }
    }
    let held = held.into_iter().filter_map(|(name, why)| {
        let Name { service, backend } = name;
        let hint = "[dns] servers may name one that knows at once";
        Some(format!(
            "{service}/{backend}: no address of its name is up, and {}; {hint}",
            why?
        ))
    });
    held.collect()
}

fn fullness(flows: &Flows) -> impl Iterator<Item = String> {
    let capacity = flows.capacity;
    let families = [("IPv4", flows.ipv4), ("IPv6", flows.ipv6)].into_iter();
    let full = families.filter(move |(_, active)| capacity > 0 && active * 10 >= capacity * 8);
    full.map(move |(family, active)| {
        let standing = if active > capacity {
            format!("has more flows than it is made for: {active}, made for {capacity}; new ones may find no place")
        } else {
            format!("is nearly full: {active} of {capacity}")
        };
        format!("the flow table of {family} {standing}; raise [node] max_flows")
    })
}

/// What goes on now, and an operator can end by a line in the file.
fn refusals(world: &World, counters: &Counters, now: Instant) -> Vec<String> {
    let mut warnings = Vec::new();
    if world.lately(Reason::FlowTableFull, now) {
        let refused = counters
            .verdicts
            .get(&Reason::FlowTableFull)
            .copied()
            .unwrap_or_default();
        warnings.push(format!(
            "the flow table is full: new flows are refused, {refused} so far; raise [node] max_flows"
        ));
    }
    for (id, member) in &world.members().backends {
        let Some(name) = member.name.as_ref().filter(|_| world.ports_exhausted_lately(*id, now)) else {
            continue;
        };
        let Name { service, backend } = name;
        let refused = counters.traffic.get(id).map_or(0, |traffic| traffic.ports_exhausted);
        let addresses = world.conditions().get(id).map_or(0, |condition| condition.snat.len());
        let ports = addresses * PORTS as usize;
        warnings.push(format!(
            "service {service:?}: none of {ports} source ports towards backend {backend:?} is free: new flows are \
             refused, {refused} so far; add an address to snat"
        ));
    }
    warnings
}

fn interfaces(world: &World, config: &Config, network: &Network) -> Vec<String> {
    let exists = |name: &String| network.links.values().any(|link| link.name == *name);
    let named = config.node.interfaces.iter().flatten().filter(|name| !exists(name));
    let renamed = |name: &String| {
        let (ifindex, _) = world.called().iter().find(|(_, called)| *called == name)?;
        Some(&network.links.get(ifindex)?.name)
    };
    let mut warnings: Vec<String> = named
        .map(|name| match renamed(name) {
            Some(now) => format!(
                "[node] interfaces: {name:?} is called {now:?} now, and serves as before; the next start needs the new name"
            ),
            None => format!("[node] interfaces: there is no {name:?}"),
        })
        .collect();
    if world.interfaces().is_empty() {
        warnings.push("the program is on no interface: none reaches a listen or a backend".to_owned());
    }
    warnings
}

fn listens(world: &World, actual: &KernelState, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, service) in &config.services {
        let unheard = service
            .listens
            .iter()
            .filter_map(|listen| Some((listen, unheard(world, actual, listen.ip())?)));
        warnings.extend(unheard.map(|(listen, why)| format!("service {name:?}: no client reaches {listen}: {why}")));
    }
    warnings
}

/// Why no client's packet for the address comes to our program, if so.
pub fn unheard(world: &World, actual: &KernelState, address: IpAddr) -> Option<String> {
    let (applied, network) = world.settled()?;
    let hops = NextHops {
        network,
        interfaces: world.interfaces(),
    };
    let mut reasons = Vec::new();
    let doors = match applied.file.config.home_of(address) {
        Some(home) => {
            let links = network.links.iter().filter(|(_, link)| link.name == home);
            links.map(|(&ifindex, _)| ifindex).collect()
        }
        None => doors(&hops, address),
    };
    for ifindex in doors {
        let Some(link) = network.links.get(&ifindex) else {
            continue;
        };
        if !link.up {
            reasons.push(format!("{} is down", link.name));
        } else if !actual.attached.contains_key(&ifindex) {
            reasons.push(format!("{} is without the program", link.name));
        } else {
            return None;
        }
    }
    if reasons.is_empty() {
        return Some("it is on no interface, and no route leads there".to_owned());
    }
    Some(reasons.join(", "))
}

fn snat(config: &Config, network: &Network) -> Vec<String> {
    let owned = |address: IpAddr| owners(network, address).next().is_some() || config.shares(address);
    let all = config.services.iter();
    let all = all.flat_map(|(name, service)| service.snat.iter().map(move |&snat| (name, snat)));
    let lost = all.filter(|&(_, snat)| !owned(snat));
    lost.map(|(name, snat)| {
        format!("service {name:?}: snat {snat} is on no interface, so the backends' answers do not come back here")
    })
    .collect()
}

/// The pinned table outlives starts, so only its size tells.
fn capacity(config: &Config, flows: &Flows) -> Option<String> {
    let wanted = u64::from(flow_entries(config.node.max_flows) / ENTRIES_PER_FLOW);
    let pins = config.node.pin_dir.display();
    (flows.capacity > 0 && flows.capacity != wanted).then(|| {
        format!(
            "[node] max_flows asks for a flow table of {wanted}, and the one there has {}; naru takes it up when the \
             pins are removed: stop it, `rm -r {pins}`, start it",
            flows.capacity
        )
    })
}

fn next_start(world: &World, config: &Config) -> Vec<String> {
    let Some(now) = world.node() else {
        return Vec::new();
    };
    let new = &config.node;
    let old_pins = format!("; remove the old pins first: rm -r {}", now.pin_dir.display());
    let changed = [
        ("run_dir", now.run_dir != new.run_dir, ""),
        ("state_dir", now.state_dir != new.state_dir, ""),
        ("xdp", now.xdp != new.xdp, ""),
        ("pin_dir", now.pin_dir != new.pin_dir, &old_pins),
    ];
    let changed = changed.into_iter().filter(|(_, changed, _)| *changed);
    changed
        .map(|(key, _, first)| format!("[node] {key} has changed; naru takes it up at its next start{first}"))
        .collect()
}
