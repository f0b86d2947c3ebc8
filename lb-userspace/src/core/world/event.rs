//! What may happen, as the world is told of it.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use lb_common::abi::{BackendId, Traffic};
use lb_common::verdict::Reason;

use crate::core::config::Parsed;
use crate::core::dns::{Answer, Question};
use crate::core::health::Launch;
use crate::core::health::observation::Observation;
use crate::core::keeping::Kept;
use crate::core::members::Name;
use crate::core::network::Network;
use crate::core::overrides::Change;
use crate::core::plan::Failure;
use crate::core::sent_frames::Sent;
use crate::core::vrrp::track::Program;

#[derive(Clone, Debug)]
pub enum Event {
    /// The file, read anew; or why it cannot be used.
    Config(Result<Parsed, String>),
    Network(Network),
    /// Flows of each backend; one that is not here has none.
    FlowCounts(BTreeMap<BackendId, u64>),
    Counted(Counted),
    Override {
        name: Name,
        change: Change,
        by: String,
    },
    /// What an earlier daemon wrote down, or why it cannot be read. Comes before the first config.
    Recalled(Kept, Result<Vec<u8>, String>),
    /// What became of the last record that was to be written.
    Recorded(Kept, Result<(), String>),
    /// What checks saw. Of very many backends very many may come up or go at once: what follows is concluded once.
    Observed(Vec<(Launch, Observation)>),
    /// How many packets the clients of backends got so far, as `take_wanted_counts` asked. One that is not here could
    /// not be counted.
    Carried(BTreeMap<BackendId, u64>),
    /// What became of a question about a name.
    Resolved(Question, Answer),
    /// A sign that this backend may be in trouble.
    Doubt(BackendId),
    /// The thread that keeps shared addresses tells what happened to an instance.
    Shared {
        instance: String,
        text: String,
        trouble: bool,
    },
    /// Somebody took away what this node has in the kernel; for the journal.
    Disturbed(String),
    /// Why what somebody unpinned cannot be pinned again; None: all is pinned.
    Pins(Option<String>),
    /// A program that says whether this node is fit has ended; true: well.
    Ended(Program, bool),
    /// What drivers have counted of the frames that native XDP sends, by interface index.
    FramesSent(BTreeMap<u32, Sent>),
    /// What became of the last plan; empty when all went well.
    Failures(Vec<Failure>),
    /// The deadline has passed.
    Tick,
}

/// What the kernel has counted, so far.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    pub verdicts: BTreeMap<Reason, u64>,
    /// New flows without a source port, by backend; those of which nothing new is known may be left out.
    pub ports_exhausted: BTreeMap<BackendId, u64>,
    /// Of the backends that alarms watch; one that is not here could not be read.
    pub traffic: BTreeMap<BackendId, Traffic>,
}

/// One moment on two clocks: deadlines go by the first, what people read by the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub monotonic: Instant,
    pub wall: SystemTime,
}
