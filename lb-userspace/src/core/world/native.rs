//! Where native XDP loses what it sends, and is given up for generic.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Moment, World};
use crate::core::config::Xdp;
use crate::core::journal::What;
use crate::core::network::{Link, XdpMode};
use crate::core::sent_frames::Sent;

impl World {
    /// Says whether an interface is to have another mode from now on.
    pub(super) fn judge_native(&mut self, counters: &BTreeMap<u32, Sent>, now: Moment) -> bool {
        if let Some(network) = &self.network {
            self.native_given_up
                .retain(|ifindex, _| network.links.contains_key(ifindex));
        }
        let found = self.sent_frames.see(counters, now.monotonic);
        let is_auto = self.node.as_ref().is_some_and(|node| node.xdp == Xdp::Auto);
        for ifindex in found.iter().filter(|_| is_auto) {
            let link = self.network.as_ref().and_then(|network| network.links.get(ifindex));
            let (name, lost) = (link.map_or("?", |link| &link.name), self.sent_frames.lost(*ifindex));
            let text = format!("{name}: the driver has lost {lost} frames of native XDP; generic XDP takes its place");
            self.native_given_up.insert(*ifindex, lost);
            self.journal.write(now.wall, What::Node(text));
        }
        is_auto && !found.is_empty()
    }

    /// How many frames native XDP had lost on the interface when it was given up.
    pub fn native_given_up(&self, ifindex: u32) -> Option<u64> {
        self.native_given_up.get(&ifindex).copied()
    }

    /// Interfaces of ours where a program runs in native mode, by index and name.
    pub fn native_interfaces(&self) -> BTreeMap<u32, String> {
        let links = self.network.iter().flat_map(|network| &network.links);
        let is_native = |link: &Link| link.xdp.is_some_and(|on| on.mode == XdpMode::Native);
        links
            .filter(|(ifindex, link)| self.interfaces.contains(ifindex) && is_native(link))
            .map(|(ifindex, link)| (*ifindex, link.name.clone()))
            .collect()
    }

    /// Frames of native XDP that the interface's driver has lost since we look.
    pub fn native_lost(&self, ifindex: u32) -> u64 {
        self.sent_frames.lost(ifindex)
    }

    /// As `native_lost`, where it lost one of late.
    pub fn native_loses(&self, ifindex: u32, now: Instant) -> Option<u64> {
        self.sent_frames.lost_lately(ifindex, now)
    }
}
