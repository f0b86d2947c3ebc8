//! What the world tells whoever asks: status, plan and the daemon.
//!
//! Changes nothing. Tested with `world`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use lb_common::abi::{BackendId, ServiceId};
use lb_common::verdict::Reason;

use super::{Applied, World};
use crate::core::condition::Condition;
use crate::core::config::{Node, Xdp};
use crate::core::interfaces::Called;
use crate::core::journal::Journal;
use crate::core::kernel::KernelState;
use crate::core::members::Members;
use crate::core::network::Network;
use crate::core::next_hops::NextHops;
use crate::core::plan::Failure;

impl World {
    /// Neighbours that the caller is to keep known: those on the way to backends, and the gateways of clients.
    pub fn to_resolve(&self) -> BTreeSet<(u32, IpAddr)> {
        let Some((_, network)) = self.settled() else {
            return BTreeSet::new();
        };
        let hops = NextHops {
            network,
            interfaces: &self.interfaces,
        };
        hops.to_resolve(self.members.backends.values().map(|member| member.address.ip()))
    }

    /// Enough is known to decide.
    pub fn settled(&self) -> Option<(&Applied, &Network)> {
        self.applied.as_ref().zip(self.network.as_ref())
    }

    pub fn adopted(&self) -> &KernelState {
        &self.adopted
    }

    pub fn applied(&self) -> Option<&Applied> {
        self.applied.as_ref()
    }

    /// Why the newest file is not the one applied.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// What the first config said about this node.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The word for the mode of a program that an earlier daemon put there, if what it got satisfies this start.
    pub fn kept_mode(&self, ifindex: u32) -> Option<Xdp> {
        Some(self.kept.as_ref()?.get(&ifindex)?.mode)
    }

    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Where the program is to be.
    pub fn interfaces(&self) -> &BTreeSet<u32> {
        &self.interfaces
    }

    /// By which names they came to be ours.
    pub fn called(&self) -> &Called {
        &self.called
    }

    pub fn unpinned(&self) -> Option<&str> {
        self.unpinned.as_deref()
    }

    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Of every member, once settled.
    pub fn conditions(&self) -> &BTreeMap<BackendId, Condition> {
        &self.conditions
    }

    /// Services that have more than one primary, each in a sentence.
    pub fn quarrels(&self) -> impl Iterator<Item = &str> {
        self.selection.quarrels()
    }

    pub fn slots(&self, service: ServiceId) -> &[BackendId] {
        self.tables.get(&service).map_or(&[], |table| &table.slots)
    }

    pub fn flows(&self, backend: BackendId) -> u64 {
        self.flows.get(&backend).copied().unwrap_or_default()
    }

    /// Of IPv4, and of IPv6.
    pub fn flows_by_family(&self) -> (u64, u64) {
        let is_ipv6 = |id| {
            self.members
                .backends
                .get(id)
                .is_some_and(|member| member.address.is_ipv6())
        };
        let all: u64 = self.flows.values().sum();
        let ipv6 = self
            .flows
            .iter()
            .filter(|(id, _)| is_ipv6(id))
            .map(|(_, flows)| flows)
            .sum();
        (all - ipv6, ipv6)
    }

    /// Whether packets came to this end within the last minute.
    pub fn lately(&self, reason: Reason, now: Instant) -> bool {
        self.verdicts.lately(&reason, now)
    }

    /// Whether new flows found no source port towards the backend within the last minute.
    pub fn ports_exhausted_lately(&self, backend: BackendId, now: Instant) -> bool {
        self.ports_exhausted.lately(&backend, now)
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }
}
