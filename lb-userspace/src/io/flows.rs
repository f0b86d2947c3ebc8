//! The flow table as the daemon sees it: memory shared with the XDP program, read without a system call.
//!
//! Lists flows, frees those that are over, and points live ones at a next hop that moved. Entries change under its
//! hands: every step goes through `lb_common::flow_table`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_common::abi::{BackendId, ENTRIES_PER_FLOW, NextHop, Route, TCP};
use lb_common::flow_table::{Entry, FlowEntry, FlowMemory, Found, State, TICK_SHIFT, TO_CLIENT, partner, release};
use lb_common::wire::{Be16, Be32};
use rustix::time::{ClockId, clock_gettime};

use super::bpf::MappedArray;
use crate::core::config::TCP_IDLE_TIMEOUT;
use crate::core::kernel::KernelState;
use crate::core::network::Prefix;

/// A SYN that nobody confirmed. A client's own retries keep it.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of silence, for what both sides of a closed connection may still send again.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of the table one step of a sweep looks at: a few milliseconds at most.
const SLICE: usize = 1 << 18;

pub struct FlowTable {
    memory: MappedArray<FlowEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    pub client: SocketAddrV4,
    pub listen: SocketAddrV4,
    pub snat: SocketAddrV4,
    pub backend_address: SocketAddrV4,
    pub backend: BackendId,
    pub state: &'static str,
    pub idle: Duration,
}

/// One way through the table, a slice at a time.
#[derive(Default)]
pub struct Sweep {
    next: usize,
    report: SweepReport,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows in the table, also those that are just ending, by backend.
    pub flows: BTreeMap<BackendId, u64>,
    pub expired: u64,
}

impl FlowMemory for FlowTable {
    fn mask(&self) -> u32 {
        self.memory.length() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        // SAFETY: an element of the mapping, which lives as long as `self`; entries are used within its methods.
        self.memory
            .get(index as usize)
            .map(|entry| unsafe { Entry::new(entry) })
    }
}

impl FlowTable {
    pub fn new(memory: MappedArray<FlowEntry>) -> Self {
        Self { memory }
    }

    /// How many flows it is made for.
    pub fn capacity(&self) -> u64 {
        self.memory.length() as u64 / u64::from(ENTRIES_PER_FLOW)
    }

    /// Each flow once.
    pub fn iter(&self) -> impl Iterator<Item = Flow> + '_ {
        let now = now();
        self.live(0..self.memory.length())
            .filter(|found| !found.word.has(TO_CLIENT))
            .filter_map(move |found| {
                let key = found.entry.key(found.word.protocol());
                let rewrite = *found.entry.rewrite();
                let idle = self.idle(&found, now);
                found.entry.word().same_tenant(found.word).then(|| Flow {
                    protocol: key.protocol,
                    client: address(key.source, key.source_port),
                    listen: address(key.destination, key.destination_port),
                    snat: address(rewrite.source, rewrite.source_port),
                    backend_address: address(rewrite.destination, rewrite.destination_port),
                    backend: found.word.backend(),
                    state: state_name(&found),
                    idle,
                })
            })
    }

    /// Takes one step; Some when that was the last of the table. `idle_timeout` is by backend.
    pub fn sweep(&self, sweep: &mut Sweep, idle_timeout: &BTreeMap<BackendId, Duration>) -> Option<SweepReport> {
        let now = now();
        let end = (sweep.next + SLICE).min(self.memory.length());
        let mut counts = vec![0_u64; usize::from(BackendId::MAX) + 1];
        for found in self.live(sweep.next..end) {
            if self.is_over(&found, now, idle_timeout) && release(self, &found) {
                sweep.report.expired += 1;
            } else if !found.word.has(TO_CLIENT) {
                counts[usize::from(found.word.backend())] += 1;
            }
        }
        for (id, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            *sweep.report.flows.entry(id as BackendId).or_default() += count;
        }
        sweep.next = end;
        (end == self.memory.length()).then(|| std::mem::take(sweep).report)
    }

    /// Gives every live flow the next hop that `state` has for its backend or client now; tells how many changed.
    pub fn repoint(&self, state: &KernelState) -> u64 {
        let ways_back = WaysBack::new(state);
        let mut changed = 0;
        for mut found in self.live(0..self.memory.length()) {
            while let Some(wanted) = ways_back.moved(&found) {
                found.entry.set_next_hop(wanted);
                changed += 1;
                // Another flow may have come to live there before we wrote: then that one needs its own.
                let word = found.entry.word();
                if word.same_tenant(found.word) || !word.is_live() {
                    break;
                }
                found.word = word;
            }
        }
        changed
    }

    fn live(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = Found> + '_ {
        range.filter_map(|index| {
            let entry = self.entry(index as u32)?;
            let word = entry.word();
            word.is_live().then_some(Found {
                entry,
                word,
                index: index as u32,
            })
        })
    }

    /// Looks at the other direction only where this one has been silent for long enough.
    fn is_over(&self, found: &Found, now: u32, idle_timeout: &BTreeMap<BackendId, Duration>) -> bool {
        if found.word.has(TO_CLIENT) {
            // Its flow is looked at from the other side; alone it is what a lost race left.
            return since(found, now) > CLOSING_TIMEOUT && partner(self, found).is_none();
        }
        let limit = timeout(found, idle_timeout);
        since(found, now) > limit && self.idle(found, now) > limit
    }

    /// Since the last packet in either direction.
    fn idle(&self, found: &Found, now: u32) -> Duration {
        let own = since(found, now);
        partner(self, found).map_or(own, |other| own.min(since(&other, now)))
    }
}

/// Since the last packet in this direction.
fn since(found: &Found, now: u32) -> Duration {
    let ticks = now.wrapping_sub(found.entry.last_seen()).cast_signed().max(0);
    Duration::from_nanos(u64::from(ticks.cast_unsigned()) << TICK_SHIFT)
}

fn timeout(found: &Found, idle_timeout: &BTreeMap<BackendId, Duration>) -> Duration {
    if found.word.is(State::Closing) {
        return CLOSING_TIMEOUT;
    }
    // A backend that left the configuration keeps its flows as long as the longest default would.
    let idle = idle_timeout
        .get(&found.word.backend())
        .copied()
        .unwrap_or(TCP_IDLE_TIMEOUT);
    if found.word.is(State::HalfOpen) && found.word.protocol() == TCP {
        HALF_OPEN_TIMEOUT.min(idle)
    } else {
        idle
    }
}

/// Next hops as they should be.
struct WaysBack<'a> {
    state: &'a KernelState,
    /// Of prefixes that there are, longest first.
    lengths: Vec<u8>,
}

impl<'a> WaysBack<'a> {
    fn new(state: &'a KernelState) -> Self {
        let lengths: BTreeSet<u8> = state.routes.keys().map(|prefix| prefix.length).collect();
        Self {
            state,
            lengths: lengths.into_iter().rev().collect(),
        }
    }

    /// The next hop that a flow should have, where it has another.
    fn moved(&self, found: &Found) -> Option<NextHop> {
        let old = found.entry.rewrite().next_hop;
        let wanted = if found.word.has(TO_CLIENT) {
            self.to_client(found.entry.rewrite().destination, &old)
        } else {
            let backend = self.state.backends.get(&found.word.backend());
            backend.map(|backend| backend.next_hop)
        };
        wanted.filter(|wanted| wanted.is_known() && *wanted != old)
    }

    /// An on-link client keeps its own address as destination: only the interface and our address on it can change.
    fn to_client(&self, client: Be32, old: &NextHop) -> Option<NextHop> {
        let client = Ipv4Addr::from(client);
        let mut routes = self.lengths.iter().map(|&length| Prefix::around(client, length));
        let Route { mut next_hop, on_link } = *routes.find_map(|prefix| self.state.routes.get(&prefix))?;
        if on_link != 0 {
            if next_hop.ifindex != old.ifindex {
                return None;
            }
            next_hop.ether = next_hop.ether.towards(old.ether.destination());
        }
        Some(next_hop)
    }
}

fn address(address: Be32, port: Be16) -> SocketAddrV4 {
    SocketAddrV4::new(address.into(), port.get())
}

fn state_name(found: &Found) -> &'static str {
    if found.word.is(State::HalfOpen) {
        "half-open"
    } else if found.word.is(State::Established) {
        "established"
    } else {
        "closing"
    }
}

fn now() -> u32 {
    let time = clock_gettime(ClockId::Monotonic);
    ((time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64) >> TICK_SHIFT) as u32
}
