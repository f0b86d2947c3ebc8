//! Interfaces for virtual MACs: made where an instance wants one and what is below it is there, removed where none does.
//!
//! Down until the keeper puts addresses there. What an earlier daemon has left is not wanted. Tested in the lab.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tracing::warn;

use super::Seats;
use crate::core::vrrp::settings::Key;
use crate::core::vrrp::virtual_link::VirtualLink;
use crate::io::netlink::addresses::Addresses;

/// What failed once may do so each time, and be seen as news.
const TRIES_AGAIN: Duration = Duration::from_secs(5);

/// Instances that have no interface, and why.
pub type Unmade = BTreeMap<Key, String>;

#[derive(Default)]
pub struct VirtualLinks {
    wanted: BTreeSet<Key>,
    failed: BTreeMap<VirtualLink, (Instant, Key, String)>,
}

impl VirtualLinks {
    pub fn want(&mut self, wanted: BTreeSet<Key>) {
        self.wanted = wanted;
        self.failed.clear();
    }

    pub fn unmade(&self) -> Unmade {
        let failed = self.failed.values();
        failed.map(|(_, key, why)| (key.clone(), why.clone())).collect()
    }

    /// True: something has changed.
    pub fn tidy(&mut self, kernel: &mut Addresses, seats: &Seats, now: Instant) -> bool {
        let wanted: BTreeMap<VirtualLink, &Key> = self
            .wanted
            .iter()
            .filter_map(|key| {
                let (parent, _) = seats.get(&key.interface)?;
                Some((VirtualLink::of(key, *parent), key))
            })
            .collect();
        self.failed.retain(|link, _| wanted.contains_key(link));
        let there: BTreeSet<VirtualLink> = seats.values().filter_map(|(_, seat)| seat.virtual_link).collect();
        let mut has_changed = false;
        for link in there.iter().filter(|link| !wanted.contains_key(link)) {
            has_changed |= unmake(kernel, link);
        }
        for (link, key) in wanted.into_iter().filter(|(link, _)| !there.contains(link)) {
            if self.failed.get(&link).is_some_and(|(at, ..)| now < *at + TRIES_AGAIN) {
                continue;
            }
            self.failed.remove(&link);
            match make(kernel, seats, &link, key) {
                Ok(()) => has_changed = true,
                Err(error) => {
                    let why = format!("cannot make {link} on {}: {error:#}", key.interface);
                    self.failed.insert(link, (now, key.clone(), why));
                }
            }
        }
        has_changed
    }

    /// The daemon ends.
    pub fn remove_all(kernel: &mut Addresses) {
        match kernel.look() {
            Ok(seen) => {
                let ours = seen.into_values().filter_map(|interface| interface.virtual_link);
                for link in ours {
                    unmake(kernel, &link);
                }
            }
            Err(error) => warn!(
                error = format!("{error:#}"),
                "cannot see links; those of virtual MACs stay"
            ),
        }
    }
}

fn make(kernel: &mut Addresses, seats: &Seats, link: &VirtualLink, key: &Key) -> Result<()> {
    let is_macvlan = seats.get(&key.interface).is_some_and(|(_, seat)| seat.is_macvlan);
    // The kernel would put it beside that one, where the program sees nothing of what comes.
    ensure!(!is_macvlan, "{} is itself a macvlan", key.interface);
    kernel.make(link)
}

fn unmake(kernel: &mut Addresses, link: &VirtualLink) -> bool {
    let removed = kernel.unmake(link);
    if let Err(error) = &removed {
        warn!(
            interface = %link,
            error = format!("{error:#}"),
            "cannot remove an interface of a virtual MAC; trying again"
        );
    }
    removed.is_ok()
}
