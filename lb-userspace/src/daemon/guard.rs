//! What others take away from us in the kernel, the program from an interface or a pin, is noticed, told and put back.
//!
//! Nothing announces either, so it is looked for. Tested in `tests/it/lab/disturbed.rs`.

use std::time::Duration;

use tracing::warn;

use super::Daemon;
use crate::core::world::Event;

/// Until the program is back the host's own stack answers for our flows, by a RST.
pub const LOOKS_EVERY: Duration = Duration::from_millis(50);

impl Daemon {
    /// The next plan puts the program back. Where that of somebody else is in its place the plan fails there, and that
    /// interface counts as without.
    pub(super) fn guard_links(&mut self) {
        let lost = self.kernel.lost().unwrap_or_default();
        for ifindex in &lost {
            let Some(attachment) = self.actual.attached.remove(ifindex) else {
                continue;
            };
            let interface = attachment.interface;
            self.happened(Event::Disturbed(format!(
                "somebody has taken the XDP program off {interface}; attaching it again"
            )));
            if let Err(error) = self.kernel.detach(*ifindex) {
                warn!(interface, error = format!("{error:#}"), "cannot clear up after it");
            }
        }
        if !lost.is_empty() {
            self.act();
            self.told.tell(&self.world);
        }
    }

    pub(super) fn guard_pins(&mut self) {
        let trouble = match self.kernel.pin_again() {
            Ok(names) => {
                if !names.is_empty() {
                    let names = names.join(", ");
                    self.happened(Event::Disturbed(format!(
                        "somebody has removed pins ({names}); pinned again"
                    )));
                }
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        if self.world.unpinned() != trouble.as_deref() {
            self.happened(Event::Pins(trouble));
            self.tell_all();
        }
        if !self.kernel.slot_tables_are_pinned() {
            self.actual.slots.clear();
            self.act();
        }
    }
}
