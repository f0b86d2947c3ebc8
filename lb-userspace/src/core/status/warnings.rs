//! What is not an error and yet worth an operator's look.

use std::net::Ipv4Addr;

use super::Flows;
use crate::core::config::Config;
use crate::core::network::Network;
use crate::core::next_hops::owners;
use crate::core::world::World;

pub fn warnings(world: &World, flows: &Flows) -> Vec<String> {
    let mut warnings: Vec<String> = world
        .failures()
        .iter()
        .map(|failed| format!("{}: {}; trying again", failed.action, failed.error))
        .collect();
    if flows.active * 10 >= flows.capacity * 8 && flows.capacity > 0 {
        let Flows { active, capacity } = flows;
        warnings.push(format!(
            "the flow table is nearly full: {active} of {capacity}; raise [node] max_flows"
        ));
    }
    if let Some((applied, network)) = world.settled() {
        let file = &applied.file;
        warnings.extend(file.warnings.iter().map(|warning| warning.headline()));
        warnings.extend(file.unowned_listens(network).iter().map(|warning| warning.headline()));
        warnings.extend(interfaces(world, &file.config, network));
        warnings.extend(snat(&file.config, network));
        warnings.extend(next_start(world, &file.config));
    }
    warnings
}

fn interfaces(world: &World, config: &Config, network: &Network) -> Vec<String> {
    let exists = |name: &String| network.links.values().any(|link| link.name == *name);
    let named = config.node.interfaces.iter().flatten().filter(|name| !exists(name));
    let mut warnings: Vec<String> = named
        .map(|name| format!("[node] interfaces: there is no {name:?}"))
        .collect();
    if world.interfaces().is_empty() {
        warnings.push("the program is on no interface: none reaches a listen or a backend".to_owned());
    }
    warnings
}

fn snat(config: &Config, network: &Network) -> Vec<String> {
    let owned = |address: Ipv4Addr| owners(network, address).next().is_some();
    let lost = config
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, service.snat.filter(|a| !owned(*a))?)));
    lost.map(|(name, snat)| {
        format!("service {name:?}: snat {snat} is on no interface, so the backends' answers do not come back here")
    })
    .collect()
}

fn next_start(world: &World, config: &Config) -> Vec<String> {
    let Some(now) = world.node() else {
        return Vec::new();
    };
    let new = &config.node;
    let changed = [
        ("run_dir", now.run_dir != new.run_dir),
        ("xdp", now.xdp != new.xdp),
        ("pin_dir", now.pin_dir != new.pin_dir),
        ("max_flows", now.max_flows != new.max_flows),
    ];
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed
        .map(|(key, _)| format!("[node] {key} has changed; naru takes it up at its next start"))
        .collect()
}
