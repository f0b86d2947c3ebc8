//! What the daemon knows: events change it, and desired state, status and the next deadline follow from it alone.
//!
//! Never acts and never asks the time. Scenarios in `tests/it/scenarios` show it at work.

mod alarms;
mod apply;
mod checks;
mod conclude;
mod endings;
mod event;
mod facts;
mod keeping;
mod names;
mod native;
mod overrides;
mod pace;
mod shared;
mod tables;
#[cfg(test)]
mod tests;
mod unserved;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use lb_common::abi::{BackendId, ServiceId};
use lb_common::verdict::Reason;

use super::alarm::Alarms;
use super::condition::{Condition, State};
use super::config::{Node, Parsed};
use super::dns::{Known, Names, Question};
use super::health::{Health, Launch};
use super::interfaces::Called;
use super::journal::{Journal, What};
use super::keeping::Keeping;
use super::kernel::{Attachment, KernelState};
use super::members::Members;
use super::network::Network;
use super::overrides::{Overrides, Said};
use super::plan::Failure;
use super::rises::Rises;
use super::selection::Selection;
use super::sent_frames::SentFrames;
use super::vrrp::fitness::Fitness;
pub use checks::Doubt;
pub use event::{Counted, Event, Moment};
pub use overrides::Unknown;
use pace::Pace;
use shared::Shared;
use tables::Table;

/// How soon an action that failed is tried again, when nothing else happens.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct World {
    adopted: KernelState,
    applied: Option<Applied>,
    refused: Option<String>,
    /// The part of the first config that only a start takes up.
    node: Option<Node>,
    network: Option<Network>,
    /// Attachments of an earlier daemon that stay, though the file may have another word for their mode.
    kept: Option<BTreeMap<u32, Attachment>>,
    interfaces: BTreeSet<u32>,
    called: Called,
    /// Why what somebody unpinned is not pinned again.
    unpinned: Option<String>,
    names: Names,
    questions: Vec<Question>,
    /// Why names have more addresses than there is room for.
    overcrowded: Option<String>,
    members: Members,
    overrides: Overrides,
    keeping: Keeping<Overrides>,
    keeping_names: Keeping<Known>,
    alarms: Alarms,
    /// Services where the alarm that decides would leave nobody.
    unheeded: BTreeSet<ServiceId>,
    health: Health,
    selection: Selection,
    launches: Vec<Launch>,
    /// A plan has been carried out, as far as the kernel let us.
    acted: bool,
    /// As the journal has it.
    suspected: Option<Doubt>,
    written: BTreeMap<BackendId, State>,
    journal: Journal,
    /// Services that had nobody up before a new file, until that is carried out.
    unserved_before: Option<BTreeSet<String>>,
    emptied: BTreeMap<String, String>,
    conditions: BTreeMap<BackendId, Condition>,
    tables: BTreeMap<ServiceId, Table>,
    flows: BTreeMap<BackendId, u64>,
    verdicts: Rises<Reason>,
    ports_exhausted: Rises<BackendId>,
    shared: Shared,
    fitness: Fitness,
    sent_frames: SentFrames,
    /// Interfaces where native XDP has lost most of its frames, and how many it had lost then.
    native_given_up: BTreeMap<u32, u64>,
    failures: Vec<Failure>,
    retry_at: Option<Instant>,
    pace: Pace,
}

#[derive(Clone, Debug)]
pub struct Applied {
    pub file: Parsed,
    /// Counts the configs applied since the start.
    pub generation: u64,
    pub at: SystemTime,
}

impl World {
    /// Takes over what an earlier daemon left in the kernel. Until there is a config and a network, that stays as
    /// it is.
    pub fn adopt(actual: &KernelState, now: Moment) -> Self {
        Self {
            interfaces: actual.attached.keys().copied().collect(),
            called: actual
                .attached
                .iter()
                .map(|(ifindex, on)| (*ifindex, on.interface.clone()))
                .collect(),
            members: Members::adopt(actual, now.wall),
            adopted: actual.clone(),
            ..Self::default()
        }
    }

    /// Says whether there may be something to do for the kernel; for checks, see `take_launches`, for names
    /// `take_questions`.
    pub fn handle(&mut self, event: Event, now: Moment) -> bool {
        self.health.see_lateness(now.monotonic);
        // Who tells what became of a plan does not look for another; the deadline of those that go comes at once.
        let is_report = matches!(event, Event::Failures(_));
        let mut changed = self.take_in(event, now);
        if !is_report && self.let_addresses_go(now) {
            self.conclude(now);
            changed = true;
        }
        self.questions.extend(self.names.due(now.monotonic));
        self.launches.extend(self.health.due(now.monotonic));
        self.keep(now.monotonic);
        changed
    }

    fn take_in(&mut self, event: Event, now: Moment) -> bool {
        if !matches!(event, Event::Failures(_)) {
            self.pace.interrupted();
        }
        match event {
            Event::Config(Ok(file)) => self.apply(file, now),
            Event::Config(Err(error)) => self.refused = Some(error),
            Event::Network(network) => {
                self.see_network(network, now.monotonic);
                self.look_at_ways(now.monotonic);
            }
            Event::FlowCounts(flows) => {
                if !self.count(flows) {
                    return false;
                }
            }
            Event::Counted(Counted {
                verdicts,
                ports_exhausted,
                traffic,
            }) => {
                self.verdicts.see(verdicts, now.monotonic);
                self.ports_exhausted.see(ports_exhausted, now.monotonic);
                if !self.read(&traffic, now) {
                    return false;
                }
            }
            Event::Override { name, change, by } => {
                if let Some(applied) = &self.applied {
                    self.overrides
                        .change(name, change, Said { by, at: now.wall }, &applied.file.config);
                }
            }
            Event::Recalled(kept, record) => {
                self.recall(kept, record);
                return false;
            }
            Event::Recorded(kept, outcome) => {
                self.recorded(kept, outcome, now.monotonic);
                return false;
            }
            Event::Observed(seen) => {
                let mut changed = false;
                for (launch, observation) in seen {
                    let news = self.health.observed(launch.backend, launch.number, &observation, now);
                    if observation.is_trouble(news) {
                        let alike: Vec<BackendId> = self.health.alike(launch.backend).collect();
                        for backend in alike {
                            self.doubt_name(backend, now.monotonic);
                        }
                    }
                    changed |= news;
                }
                if !changed || self.pace.puts_off(now.monotonic) {
                    return false;
                }
            }
            Event::Carried(packets) => {
                let changed = self.health.carried(&packets, now.monotonic);
                if !changed || self.pace.puts_off(now.monotonic) {
                    return false;
                }
            }
            Event::Resolved(question, answer) => {
                if !self.resolved(&question, answer, now) {
                    return false;
                }
            }
            Event::Doubt(backend) => {
                self.health.doubt(backend, now.monotonic);
                self.doubt_name(backend, now.monotonic);
                return false;
            }
            Event::Shared {
                instance,
                text,
                trouble,
            } => {
                self.journal.write(
                    now.wall,
                    What::Shared {
                        instance,
                        text,
                        trouble,
                    },
                );
                return false;
            }
            Event::Disturbed(what) => {
                self.journal.write(now.wall, What::Node(what));
                return false;
            }
            Event::Pins(trouble) => {
                self.unpinned = trouble;
                return false;
            }
            Event::Ended(program, well) => {
                self.fitness.ended(&program, well);
                return false;
            }
            Event::FramesSent(counters) => {
                if !self.judge_native(&counters, now) {
                    return false;
                }
            }
            Event::Failures(failures) => {
                self.pace.acted(now.monotonic);
                self.retry_at = (!failures.is_empty()).then(|| now.monotonic + RETRY);
                self.failures = failures;
                if !std::mem::replace(&mut self.acted, true) {
                    self.write_down(now.wall);
                }
                if let Some(before) = self.unserved_before.take() {
                    self.tell_emptied(&before, now);
                }
                if self.failures.is_empty() && self.settled().is_some() {
                    self.members.settle();
                }
                return false;
            }
            Event::Tick => {
                let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.monotonic);
                let alarms = is_due(self.alarms.next_deadline());
                if alarms {
                    let news = self.alarms.pass(now);
                    self.tell(news, now);
                }
                let calms = self.health.calms_down(now.monotonic);
                let others = [self.selection.next_deadline(), self.pace.next_deadline()];
                if !alarms && !calms && !others.into_iter().any(is_due) {
                    return is_due(self.retry_at);
                }
            }
        }
        self.conclude(now);
        self.pace.concluded(now.monotonic);
        true
    }

    /// When the caller is to send a `Tick`, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.retry_at,
            self.health.next_deadline(),
            self.keeping.next_deadline(),
            self.keeping_names.next_deadline(),
            self.alarms.next_deadline(),
            self.selection.next_deadline(),
            self.pace.next_deadline(),
            self.names.next_deadline(),
            self.health.is_overloaded_until(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// A count clears leaving backends only if the plan that took their slots away has been carried out; says
    /// whether it did.
    fn count(&mut self, flows: BTreeMap<BackendId, u64>) -> bool {
        let before = self.members.backends.len();
        if self.settled().is_some() && self.failures.is_empty() {
            self.members.forget_idle(&flows);
        }
        self.flows = flows;
        self.members.backends.len() < before
    }
}
