//! Whether the node suspects itself: when most of several services fall silent at once, it is rather the node that is
//! cut off.
//!
//! It then judges nobody down for silence. It trusts itself again when most services are heard, or when some have
//! been heard for a while: then its own way is good, and those still silent are judged anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_common::abi::ServiceId;

/// How long some must have been heard, and for how long no new suspicion arises after that.
const PARTLY_HEARD: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(10);
/// How often the whole is looked at while it lasts.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub struct Suspicion {
    doubt: Option<Doubt>,
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Doubt {
    since: Instant,
    first_heard: Option<Instant>,
    looked: Instant,
}

/// A backend, as the doubt sees it. One that is neither heard nor silent has not been asked.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub service: ServiceId,
    pub host: IpAddr,
    pub heard: bool,
    pub silent: bool,
}

impl Suspicion {
    pub fn since(&self) -> Option<Instant> {
        self.doubt.as_ref().map(|doubt| doubt.since)
    }

    /// Asked when a backend would go down for silence; true keeps it.
    pub fn stays<V: Iterator<Item = View>>(&mut self, views: impl Fn() -> V, now: Instant) -> bool {
        if self.doubt.is_some() {
            return true;
        }
        if self.rests_until.is_some_and(|until| now < until) || !most_are_silent(views()) {
            return false;
        }
        self.doubt = Some(Doubt {
            since: now,
            first_heard: None,
            looked: now,
        });
        true
    }

    /// Asked when somebody has been heard; true: the doubt is over.
    pub fn ends<V: Iterator<Item = View>>(&mut self, views: impl Fn() -> V, now: Instant) -> bool {
        let Some(doubt) = &mut self.doubt else {
            return false;
        };
        let first_heard = *doubt.first_heard.get_or_insert(now);
        let partly = now >= first_heard + PARTLY_HEARD;
        if !partly && now < doubt.looked + LOOK {
            return false;
        }
        doubt.looked = now;
        if !partly && most_are_silent(views()) {
            return false;
        }
        self.rests_until = partly.then_some(now + REST);
        self.doubt = None;
        true
    }
}

/// Of the services of which anything is known more than half, and at least two on two hosts.
fn most_are_silent(views: impl Iterator<Item = View>) -> bool {
    let mut services: BTreeMap<ServiceId, (usize, usize)> = BTreeMap::new();
    let mut silent_hosts = BTreeSet::new();
    for view in views {
        let (heard, silent) = services.entry(view.service).or_default();
        if view.heard {
            *heard += 1;
        } else if view.silent {
            *silent += 1;
            silent_hosts.insert(view.host);
        }
    }
    let known = services.values().filter(|(heard, silent)| heard + silent > 0).count();
    let failing = services.values().filter(|(heard, silent)| silent > heard).count();
    failing >= 2 && failing * 2 > known && silent_hosts.len() >= 2
}
