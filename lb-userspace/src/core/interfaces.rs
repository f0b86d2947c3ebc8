//! Which interfaces the program is to be on, and where an older one may stay as it is.
//!
//! Takes it from the file and the picture of the network. Tested in `tests/it/scenarios`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::config::{Config, Node};
use super::kernel::{Attachment, KernelState};
use super::network::{Link, Network};
use super::next_hops::reaching;
use super::xdp_mode::{choose, satisfies};

/// Each with the name by which it came to be one of ours: who renames it does not take it away.
pub type Called = BTreeMap<u32, String>;

/// Interfaces found by ourselves are kept while they exist: a driver may reset its link when a program comes, and
/// the route that goes with the link must not take the program away again. `resolved`: what names stand for.
pub fn wanted(config: &Config, resolved: &BTreeSet<IpAddr>, network: &Network, before: &Called) -> Called {
    let links = network.links.iter();
    match &config.node.interfaces {
        Some(names) => {
            let is_taken = |name: &String| network.links.values().any(|link| link.name == *name);
            let renamed = |ifindex: &u32| {
                before
                    .get(ifindex)
                    .filter(|called| names.contains(called) && !is_taken(called))
            };
            let called = |(ifindex, link): (&u32, &Link)| {
                let own = Some(&link.name).filter(|name| names.contains(name));
                Some((*ifindex, own.or_else(|| renamed(ifindex))?.clone()))
            };
            links.filter_map(called).collect()
        }
        None => {
            let found = reaching(config, resolved, network);
            let ours = links.filter(|(ifindex, _)| before.contains_key(ifindex) || found.contains(ifindex));
            ours.map(|(ifindex, link)| (*ifindex, link.name.clone())).collect()
        }
    }
}

/// Those of `adopted` whose program runs in a mode that `node` accepts.
pub fn satisfying(adopted: &KernelState, node: &Node, network: &Network) -> BTreeMap<u32, Attachment> {
    let mut kept = adopted.attached.clone();
    kept.retain(|ifindex, _| {
        let Some(link) = network.links.get(ifindex) else {
            return false;
        };
        let chosen = choose(node.xdp, &link.device, false);
        link.xdp.is_some_and(|on| satisfies(chosen, on.mode))
    });
    kept
}
