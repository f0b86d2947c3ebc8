//! An address that is asked, for all the backends it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use lb_common::abi::{BackendId, ServiceId};

use super::judge::Judge;
use super::overload::Carried;
use super::suspicion::View;
use super::target::{Alike, Target};

#[derive(Debug)]
pub struct Watched {
    pub target: Arc<Target>,
    /// All that share it.
    pub backends: BTreeMap<BackendId, Sharer>,
    pub judge: Judge,
    pub on_agenda: Option<Instant>,
}

/// One of those backends.
#[derive(Clone, Copy, Debug)]
pub struct Sharer {
    pub service: ServiceId,
    pub carried: Carried,
}

impl Watched {
    /// `alike` share the judge, and are asked as the one with this id.
    pub fn new(id: BackendId, mut alike: Alike, judge: Judge) -> Self {
        let sharer = |(id, target): (&BackendId, &Target)| {
            let (service, carried) = (target.service, Carried::default());
            (*id, Sharer { service, carried })
        };
        let backends = alike.iter().map(sharer).collect();
        let target = alike.remove(&id).expect("INVARIANT: it is one of them");
        Self {
            target: Arc::new(target),
            backends,
            judge,
            on_agenda: None,
        }
    }

    pub fn services(&self) -> BTreeSet<ServiceId> {
        self.backends.values().map(|sharer| sharer.service).collect()
    }

    /// How it looks in a doubt that began at `since`, to each of its services.
    pub fn views(&self, since: Instant, now: Instant) -> impl Iterator<Item = View> {
        let heard = self.judge.is_alive() && self.judge.heard().is_some_and(|heard| heard >= since);
        let silent = self.judge.is_alive() && self.judge.silent_since(now).is_some();
        self.services().into_iter().map(move |service| View {
            service,
            host: self.target.address.ip(),
            heard,
            silent,
        })
    }
}
