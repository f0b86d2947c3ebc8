//! A way through the tables, in steps: flows that are over are freed, those of a lost backend or of an address that another
//! node has now end at once, and where next hops moved the others follow.
//!
//! By what terms is decided elsewhere. What the peers of a severed connection should hear comes out as frames, for
//! others to send. Tested in `tests/it/packets/lost_backends.rs` and in the lab.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{BackendId, NextHop, TCP, UDP};
use lb_common::family::Address;
use lb_common::flow_table::upkeep::{expire, live};
use lb_common::flow_table::{DOUBTED, Found, State, TO_CLIENT, partner, release};
use lb_common::lease::LeaseId;
use lb_common::lifetime::sever;

use super::reset::reset_frame;
use super::ways::Ways;
use super::{FlowTable, FlowTables, now, ticks};
use crate::core::config::{TCP_IDLE_TIMEOUT, UDP_IDLE_TIMEOUT};
use crate::core::endings::{Ending, Terms};
use crate::core::kernel::KernelState;
use crate::io::bpf::Leases;

/// A SYN that nobody confirmed. A client's own retries keep it.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// For what both sides of an ended connection may still send: of silence where they ended it, in all where we did.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a flow that somebody, perhaps one of its peers, wanted to end by a RST.
const DOUBTED_TIMEOUT: Duration = Duration::from_secs(300);
/// How much of the table one step looks at, and how many connections it severs: a few milliseconds at most.
const SLICE: usize = 1 << 18;
pub const SEVERED_AT_ONCE: u64 = 512;

pub struct Sweep {
    terms: BTreeMap<BackendId, Terms>,
    /// How many next hops were set, where that is asked for.
    repointed: Option<u64>,
    next: usize,
    /// How many places were looked at since it began, or began anew.
    done: usize,
    /// By backend.
    counts: Vec<u64>,
    severed: BTreeMap<BackendId, u64>,
    lost: Option<Box<Lost>>,
}

/// Leases that another node holds after this one did: connections under them are dead.
struct Lost {
    ids: BTreeSet<LeaseId>,
    /// This node may hold them again by the time that a flow is looked at.
    leases: Arc<Leases>,
    /// Connections that were severed.
    severed: u64,
}

impl Lost {
    fn contains(&self, lease: LeaseId) -> bool {
        self.ids.contains(&lease) && !self.leases.is_held(lease)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows in the tables, also those that are just ending, by backend.
    pub flows: BTreeMap<BackendId, u64>,
    /// Connections that were severed on the way, by backend.
    pub severed: BTreeMap<BackendId, u64>,
    /// Connections that were severed because another node serves their address now.
    pub lost: u64,
    /// Next hops that were set; none where nobody asked for it.
    pub repointed: Option<u64>,
}

/// Takes a frame and the interface that it is to leave by.
pub type Send<'a> = dyn FnMut(u32, &[u8]) + 'a;

/// One step of a sweep.
struct Step<'a> {
    send: &'a mut Send<'a>,
    ways: Ways<'a>,
    severed: u64,
}

impl Sweep {
    pub fn new(terms: BTreeMap<BackendId, Terms>) -> Self {
        Self {
            terms,
            repointed: None,
            next: 0,
            done: 0,
            counts: vec![0; usize::from(BackendId::MAX) + 1],
            severed: BTreeMap::new(),
            lost: None,
        }
    }

    /// From now on connections under these leases are severed while this node does not hold them.
    pub fn lose(&mut self, ids: impl IntoIterator<Item = LeaseId>, leases: Arc<Leases>) {
        let lost = self.lost.get_or_insert_with(|| {
            Box::new(Lost {
                ids: BTreeSet::new(),
                leases,
                severed: 0,
            })
        });
        lost.ids.extend(ids);
    }

    /// Goes on from where it is, once around, by other terms.
    pub fn begin_anew(&mut self, terms: BTreeMap<BackendId, Terms>) {
        self.terms = terms;
        self.done = 0;
        self.counts.fill(0);
    }

    /// From now on each live flow also gets the next hop that its backend or client has.
    pub fn repoint(&mut self) {
        self.repointed = Some(0);
    }

    fn report(self) -> SweepReport {
        let counts = (0..=BackendId::MAX).zip(self.counts);
        SweepReport {
            flows: counts.filter(|(_, count)| *count > 0).collect(),
            severed: self.severed,
            lost: self.lost.map_or(0, |lost| lost.severed),
            repointed: self.repointed,
        }
    }
}

impl FlowTables {
    /// Takes one step; `Err` is a sweep that has not come to its end. `state` has the next hops.
    pub fn sweep<'a>(
        &self,
        mut sweep: Sweep,
        state: &'a KernelState,
        send: &'a mut Send<'a>,
    ) -> Result<SweepReport, Sweep> {
        let mut step = Step {
            send,
            ways: Ways::new(state),
            severed: 0,
        };
        let (first, all) = (self.ipv4.length(), self.ipv4.length() + self.ipv6.length());
        let start = sweep.next;
        let end = all.min(start + SLICE.min(all - sweep.done));
        let end = if start < first {
            self.ipv4.sweep(start..end.min(first), &mut sweep, &mut step)
        } else {
            first + self.ipv6.sweep(start - first..end - first, &mut sweep, &mut step)
        };
        sweep.done += end - start;
        sweep.next = end % all;
        if sweep.done == all {
            Ok(sweep.report())
        } else {
            Err(sweep)
        }
    }
}

impl<A: Address> FlowTable<A> {
    /// Where the next step begins.
    fn sweep(&self, slice: Range<usize>, sweep: &mut Sweep, step: &mut Step<'_>) -> usize {
        let now = now();
        for found in live(self, slice.start as u32..slice.end as u32) {
            let backend = found.word.backend();
            let terms = sweep.terms.get(&backend);
            if let Some(repointed) = &mut sweep.repointed
                && let Some(next_hop) = step.ways.moved(&found)
            {
                found.entry.set_next_hop(next_hop);
                *repointed += 1;
            }
            if self.end(&found, now, terms) || found.word.has(TO_CLIENT) {
                continue;
            }
            sweep.counts[usize::from(backend)] += 1;
            let lost = sweep.lost.as_deref_mut();
            let lost = lost.filter(|lost| lost.contains(found.word.lease()));
            let is_reset = terms.and_then(|terms| terms.ending) == Some(Ending::Reset);
            if (lost.is_some() || is_reset) && sever(self, &found, now) {
                self.tell_both(&found, step);
                match lost {
                    Some(lost) => lost.severed += 1,
                    None => *sweep.severed.entry(backend).or_default() += 1,
                }
                step.severed += 1;
            }
            if step.severed == SEVERED_AT_ONCE {
                return found.index as usize + 1;
            }
        }
        slice.end
    }

    /// Frees a flow that is over; true if that was so just now.
    fn end(&self, found: &Found<A>, now: u32, terms: Option<&Terms>) -> bool {
        let is_released = terms.is_some_and(|terms| terms.ending == Some(Ending::Release));
        if is_released && found.word.protocol() == UDP && !found.word.has(TO_CLIENT) {
            return release(self, found);
        }
        expire(self, found, now, ticks(timeout(found, terms)))
    }

    /// The client hears it by the way of the answers; where those do not pass us, by that which routes have for it.
    fn tell_both(&self, flow: &Found<A>, step: &mut Step<'_>) {
        let Some(answers) = partner(self, flow) else {
            let client = flow.entry.key(TCP).source.ip().into();
            if let Some(back) = step.ways.towards(client) {
                Self::tell(flow, &back, step);
            }
            return;
        };
        Self::tell(flow, &answers.entry.rewrite().next_hop, step);
        Self::tell(&answers, &flow.entry.rewrite().next_hop, step);
    }

    /// Resets whoever sends the packets of this direction; `hop` leads there. What that side expects is what it has
    /// acknowledged last; where it has since received more, its next packet is answered.
    fn tell(direction: &Found<A>, hop: &NextHop, step: &mut Step<'_>) {
        let expected = direction.entry.acknowledged();
        let key = direction.entry.key(TCP);
        // 0: it has not acknowledged anything yet.
        if expected != 0 && hop.is_known() && direction.entry.word().same_tenant(direction.word) {
            (step.send)(hop.ifindex, &reset_frame(&key, expected, hop.ether));
        }
    }
}

fn timeout<A: Address>(found: &Found<A>, terms: Option<&Terms>) -> Duration {
    let ended = found.word.is(State::Closing) || found.word.is(State::Severed);
    // An entry towards the client leaves with the other one; alone it is what a lost race left.
    if ended || found.word.has(TO_CLIENT) {
        return CLOSING_TIMEOUT;
    }
    let tcp = found.word.protocol() == TCP;
    let default = if tcp { TCP_IDLE_TIMEOUT } else { UDP_IDLE_TIMEOUT };
    let idle = terms.and_then(|terms| terms.idle_timeout).unwrap_or(default);
    if found.word.is(State::HalfOpen) && tcp {
        HALF_OPEN_TIMEOUT.min(idle)
    } else if found.word.has(DOUBTED) {
        DOUBTED_TIMEOUT.min(idle)
    } else {
        idle
    }
}
