//! Which interfaces the program is to be on, and where an older one may stay as it is.
//!
//! Takes it from the file and the picture of the network. Tested in `tests/it/scenarios`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::config::{Config, Node, Xdp};
use super::kernel::{Attachment, KernelState};
use super::network::{Network, XdpMode};
use super::next_hops::reaching;

/// Interfaces found by ourselves are kept while they exist: a driver may reset its link when a program comes, and
/// the route that goes with the link must not take the program away again. `resolved`: what names stand for.
pub fn wanted(
    config: &Config,
    resolved: &BTreeSet<IpAddr>,
    network: &Network,
    before: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    match &config.node.interfaces {
        Some(names) => {
            let named = network.links.iter().filter(|(_, link)| names.contains(&link.name));
            named.map(|(&ifindex, _)| ifindex).collect()
        }
        None => {
            let found = reaching(config, resolved, network);
            before
                .union(&found)
                .copied()
                .filter(|ifindex| network.links.contains_key(ifindex))
                .collect()
        }
    }
}

/// Those of `adopted` whose program runs in a mode that `node` accepts.
pub fn satisfying(adopted: &KernelState, node: &Node, network: &Network) -> BTreeMap<u32, Attachment> {
    let mut kept = adopted.attached.clone();
    kept.retain(|ifindex, _| {
        let mode = network.links.get(ifindex).and_then(|link| link.xdp).map(|on| on.mode);
        match node.xdp {
            Xdp::Auto => mode.is_some(),
            Xdp::Native => mode == Some(XdpMode::Native),
            Xdp::Generic => mode == Some(XdpMode::Generic),
        }
    });
    kept
}
