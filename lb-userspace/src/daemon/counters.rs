//! The kernel's counters, read for the world: once a second, and of backends whose checks are lost.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_common::verdict::Reason;

use super::Daemon;
use crate::core::world::{Counted, Event};

impl Daemon {
    /// Backends are asked one by one only where the sum of all has changed.
    pub(super) fn count(&mut self) {
        let Ok(verdicts) = self.kernel.verdicts() else { return };
        let exhausted = verdicts.get(&Reason::SnatPortsExhausted).copied();
        let mut ports_exhausted = BTreeMap::new();
        if self.exhausted != exhausted {
            let of = |id| Some((id, self.kernel.traffic(id).ok()?.ports_exhausted));
            ports_exhausted.extend(self.world.members().backends.keys().copied().filter_map(of));
            self.exhausted = exhausted;
        }
        let traffic = self.world.metered().into_iter();
        self.happened(Event::Counted(Counted {
            verdicts,
            ports_exhausted,
            traffic: traffic
                .filter_map(|id| Some((id, self.kernel.traffic(id).ok()?)))
                .collect(),
        }));
        self.tell_running_out(Instant::now());
    }

    /// How many packets the clients of backends got that the world wants to know this of. None: of nobody.
    pub(super) fn count_wanted(&mut self) -> Option<Event> {
        let wanted = self.world.take_wanted_counts();
        let packets = |id| Some((id, self.kernel.traffic(id).ok()?.packets_to_client));
        (!wanted.is_empty()).then(|| Event::Carried(wanted.into_iter().filter_map(packets).collect()))
    }
}
