//! Where frames of a flow should leave now, found as the program found it when the flow began.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::abi::{NextHop, Route};
use lb_common::family::Address;
use lb_common::flow_table::{Found, TO_CLIENT};

use crate::core::kernel::KernelState;
use crate::core::network::{Prefix, longest};

pub struct Ways<'a> {
    state: &'a KernelState,
    lengths: OnceCell<Vec<u8>>,
}

impl<'a> Ways<'a> {
    pub fn new(state: &'a KernelState) -> Self {
        Self {
            state,
            lengths: OnceCell::new(),
        }
    }

    /// The next hop that a flow should have, where it has another.
    pub fn moved<A: Address>(&self, found: &Found<A>) -> Option<NextHop> {
        let old = found.entry.rewrite().next_hop;
        let wanted = if found.word.has(TO_CLIENT) {
            self.to_client(found.entry.rewrite().destination.ip().into(), &old)
        } else {
            let backend = self.state.backends.get(&found.word.backend());
            backend.map(|backend| backend.next_hop)
        };
        wanted.filter(|wanted| wanted.is_known() && *wanted != old)
    }

    /// An on-link client keeps its own address as destination: only our address can change. The interface can where the
    /// old one is gone: the same link is behind another one then, which was made in its place.
    fn to_client(&self, client: IpAddr, old: &NextHop) -> Option<NextHop> {
        let Route { mut next_hop, on_link } = self.route(client)?;
        if on_link != 0 {
            if next_hop.ifindex != old.ifindex && self.state.attached.contains_key(&old.ifindex) {
                return None;
            }
            next_hop.ether = next_hop.ether.towards(old.ether.destination());
        }
        Some(next_hop)
    }

    /// For a client of which no frame is at hand; none where it is on the link, and nobody knows its neighbour.
    pub fn towards(&self, client: IpAddr) -> Option<NextHop> {
        let route = self.route(client)?;
        (route.on_link == 0).then_some(route.next_hop)
    }

    fn route(&self, client: IpAddr) -> Option<Route> {
        let lengths = self.lengths().iter().filter(|&&length| length <= longest(client));
        let mut prefixes = lengths.map(|&length| Prefix::around(client, length));
        prefixes.find_map(|prefix| self.state.routes.get(&prefix)).copied()
    }

    /// Of prefixes that there are, longest first.
    fn lengths(&self) -> &[u8] {
        self.lengths.get_or_init(|| {
            let lengths: BTreeSet<u8> = self.state.routes.keys().map(|prefix| prefix.length).collect();
            lengths.into_iter().rev().collect()
        })
    }
}
