//! Puts changes of state into the log, each once.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_common::abi::BackendId;
use lb_common::verdict::Reason;
use tracing::{info, warn};

use super::Daemon;
use crate::core::alarm::News;
use crate::core::condition::State;
use crate::core::journal::What;
use crate::core::world::World;

/// Reasons for which new flows are refused until an operator does something.
const RUNNING_OUT: [Reason; 2] = [Reason::FlowTableFull, Reason::SnatPortsExhausted];

/// What the log has been told.
#[derive(Default)]
pub struct Told {
    /// Of the journal.
    entries: u64,
    failures: Vec<String>,
    warnings: Vec<String>,
    sysctls: Vec<String>,
    running_out: [bool; RUNNING_OUT.len()],
    /// Whether an interface lost frames of late.
    pub(super) losing_frames: bool,
}

impl Daemon {
    /// Also what only the status knows: after a change of configuration, and when something runs out.
    pub(super) fn tell_all(&mut self) {
        self.told.tell(&self.world);
        let warnings = self.status(Vec::new()).warnings;
        for warning in warnings.iter().filter(|warning| !self.told.warnings.contains(warning)) {
            warn!(warning, "worth a look");
        }
        self.told.warnings = warnings;
    }

    /// Where addresses are shared. Nobody says when a setting changes, so it is looked at when it matters.
    pub(super) fn tell_sysctls(&mut self) {
        let troubles = self.sysctls();
        if self.told.sysctls != troubles {
            self.told.sysctls = troubles;
            self.tell_all();
        }
    }

    pub(super) fn tell_running_out(&mut self, now: Instant) {
        let running_out = RUNNING_OUT.map(|reason| self.world.lately(reason, now));
        if self.told.running_out != running_out {
            self.told.running_out = running_out;
            self.tell_all();
        }
    }
}

impl Told {
    pub fn tell(&mut self, world: &World) {
        self.tell_changes(world);
        self.tell_failures(world);
    }

    /// The connections of a lost backend, by backend.
    pub fn tell_severed(&self, world: &World, severed: &BTreeMap<BackendId, u64>) {
        for (id, connections) in severed {
            let member = world.members().backends.get(id);
            let name = member.and_then(|member| member.name.as_ref());
            let service = name.map(|name| &name.service);
            let backend = name.map(|name| &name.backend);
            info!(service, backend, connections, "connections reset");
        }
    }

    /// Connections under addresses that another node has now.
    pub fn tell_lost(&self, connections: u64) {
        if connections > 0 {
            info!(connections, "connections reset: another node has their address now");
        }
    }

    fn tell_changes(&mut self, world: &World) {
        for entry in world.journal().since(self.entries) {
            match &entry.what {
                What::Backend {
                    name,
                    address,
                    from,
                    to,
                    reason,
                } => {
                    let (service, backend) = (&name.service, &name.backend);
                    let address = address.map(tracing::field::display);
                    match (from, to) {
                        // As the configuration has it.
                        (Some(State::Checking), State::Up) => {}
                        (_, State::Down) => warn!(service, backend, address, state = ?to, reason, "backend"),
                        _ => info!(service, backend, address, state = ?to, reason, "backend"),
                    }
                }
                What::Override { name, text } => {
                    info!(service = name.service, backend = name.backend, text, "override");
                }
                What::Resolved { name, text } => info!(service = name.service, backend = name.backend, text, "name"),
                What::Alarm(News {
                    service,
                    text,
                    rings: true,
                }) => warn!(service, text, "alarm"),
                What::Alarm(News { service, text, .. }) => info!(service, text, "alarm"),
                What::Shared {
                    instance,
                    text,
                    trouble: true,
                } => warn!(instance, text, "vrrp"),
                What::Shared { instance, text, .. } => info!(instance, text, "vrrp"),
                What::Node(what) => warn!(what, "node"),
                What::File { service, text } => warn!(service, text, "configuration"),
            }
        }
        self.entries = world.journal().written();
    }

    fn tell_failures(&mut self, world: &World) {
        let failures: Vec<String> = world.failures().iter().map(|failure| failure.error.clone()).collect();
        if failures == self.failures {
            return;
        }
        for error in failures.iter().filter(|error| !self.failures.contains(error)) {
            warn!(error, "the kernel refused a step; trying again every second");
        }
        if failures.is_empty() {
            info!("the kernel took all steps that it had refused");
        }
        self.failures = failures;
    }
}
