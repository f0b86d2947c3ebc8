//! Who is asked, and how; and which backends are asked the same, so that one answer is for all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::abi::{BackendId, ServiceId};

use crate::core::config::{Ask, Check};
use crate::core::members::Name;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub service: ServiceId,
    pub name: Name,
    pub address: SocketAddr,
    /// The same on every node.
    pub fingerprint: u64,
    pub check: Check,
}

/// Backends that share a judge.
pub type Alike = BTreeMap<BackendId, Target>;

impl Target {
    /// Where its check goes.
    pub fn asked_at(&self) -> SocketAddr {
        SocketAddr::new(
            self.check.address.unwrap_or(self.address.ip()),
            self.check.port.unwrap_or(self.address.port()),
        )
    }

    /// Whether both are asked the same, of the same address. A program is told whom it is asked for.
    pub fn is_asked_as(&self, other: &Self) -> bool {
        let is_told = matches!(self.check.ask, Ask::Exec(_));
        self.address == other.address && self.check == other.check && (!is_told || self.name == other.name)
    }
}

/// Groups the targets by what is asked of which address.
pub fn alike(targets: impl IntoIterator<Item = (BackendId, Target)>) -> Vec<Alike> {
    let mut by_address: BTreeMap<SocketAddr, Vec<Alike>> = BTreeMap::new();
    for (id, target) in targets {
        let there = by_address.entry(target.address).or_default();
        let is_its = |group: &&mut Alike| group.values().next().is_some_and(|one| one.is_asked_as(&target));
        match there.iter_mut().find(is_its) {
            Some(group) => drop(group.insert(id, target)),
            None => there.push(Alike::from([(id, target)])),
        }
    }
    let mut groups: Vec<Alike> = by_address.into_values().flatten().collect();
    groups.sort_by_key(|group| group.keys().next().copied());
    groups
}
