//! What drivers have counted goes into the world, and into the log where frames are lost.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Daemon;
use crate::core::sent_frames::Sent;
use crate::core::world::Event;

impl Daemon {
    pub(super) fn frames_sent(&mut self, counters: BTreeMap<u32, Sent>) {
        self.happened(Event::FramesSent(counters));
        let now = Instant::now();
        let loses = |ifindex: u32| self.world.native_loses(ifindex, now).is_some();
        let losing = self.actual.attached.keys().any(|ifindex| loses(*ifindex));
        if std::mem::replace(&mut self.told.losing_frames, losing) != losing {
            self.tell_all();
        }
    }
}
