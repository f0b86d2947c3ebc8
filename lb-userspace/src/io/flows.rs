//! The flow tables as the daemon sees them: memory shared with the XDP program, read without a system call.
//!
//! Lists flows, frees those that are over, and points live ones at a next hop that moved. Entries change under its
//! hands: every step goes through `lb_common::flow_table`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_common::abi::{BackendId, ENTRIES_PER_FLOW, NextHop, Route, TCP};
use lb_common::family::Address;
use lb_common::flow_table::{
    DOUBTED, Entry, FlowEntry, FlowMemory, Found, Loop, State, TICK_SHIFT, TO_CLIENT, partner, release,
};
use lb_common::wire::{Be16, Be32, Ip};
use rustix::time::{ClockId, clock_gettime};

use super::bpf::MappedArray;
use crate::core::config::TCP_IDLE_TIMEOUT;
use crate::core::kernel::KernelState;
use crate::core::network::{Prefix, longest};

/// A SYN that nobody confirmed. A client's own retries keep it.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of silence, for what both sides of a closed connection may still send again.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a flow that somebody, perhaps one of its peers, wanted to end by a RST.
const DOUBTED_TIMEOUT: Duration = Duration::from_secs(300);
/// How much of the table one step of a sweep looks at: a few milliseconds at most.
const SLICE: usize = 1 << 18;

/// Both families'.
pub struct FlowTables {
    pub ipv4: FlowTable<Be32>,
    pub ipv6: FlowTable<Ip>,
}

/// Of one address family.
pub struct FlowTable<A> {
    memory: MappedArray<FlowEntry<A>>,
    active: Arc<ActiveFlows>,
}

/// How many active flows each backend has: whoever begins or ends one counts it here, the program too.
pub struct ActiveFlows(pub MappedArray<u64>);

impl ActiveFlows {
    pub fn of(&self, backend: BackendId) -> u64 {
        self.cell(backend).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn cell(&self, backend: BackendId) -> Option<&AtomicU64> {
        // SAFETY: an aligned element of the mapping, which all change by atomics only.
        self.0
            .get(usize::from(backend))
            .map(|count| unsafe { AtomicU64::from_ptr(count) })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    pub client: SocketAddr,
    pub listen: SocketAddr,
    pub snat: SocketAddr,
    pub backend_address: SocketAddr,
    pub backend: BackendId,
    pub state: &'static str,
    pub idle: Duration,
}

/// One way through the tables, a slice at a time.
#[derive(Default)]
pub struct Sweep {
    next: usize,
    report: SweepReport,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows in the tables, also those that are just ending, by backend.
    pub flows: BTreeMap<BackendId, u64>,
    pub expired: u64,
}

impl FlowTables {
    /// How many flows each of them is made for.
    pub fn capacity(&self) -> u64 {
        self.ipv4.length() as u64 / u64::from(ENTRIES_PER_FLOW)
    }

    /// Each flow once.
    pub fn iter(&self) -> impl Iterator<Item = Flow> + '_ {
        self.ipv4.iter().chain(self.ipv6.iter())
    }

    /// Takes one step; Some when that was the last. `idle_timeout` is by backend.
    pub fn sweep(&self, sweep: &mut Sweep, idle_timeout: &BTreeMap<BackendId, Duration>) -> Option<SweepReport> {
        let (first, all) = (self.ipv4.length(), self.ipv4.length() + self.ipv6.length());
        let (start, report) = (sweep.next, &mut sweep.report);
        sweep.next = if start < first {
            let end = first.min(start + SLICE);
            self.ipv4.sweep(start..end, idle_timeout, report);
            end
        } else {
            let end = all.min(start + SLICE);
            self.ipv6.sweep(start - first..end - first, idle_timeout, report);
            end
        };
        (sweep.next == all).then(|| std::mem::take(sweep).report)
    }

    /// Gives every live flow the next hop that `state` has for its backend or client now; tells how many changed.
    pub fn repoint(&self, state: &KernelState) -> u64 {
        let ways = Ways::new(state);
        self.ipv4.repoint(&ways) + self.ipv6.repoint(&ways)
    }
}

impl<A> Loop for FlowTable<A> {}

impl<A: Address> FlowMemory<A> for FlowTable<A> {
    fn mask(&self) -> u32 {
        self.memory.length() as u32 - 1
    }

    fn entry(&self, index: u32) -> Option<Entry<A>> {
        // SAFETY: an element of the mapping, which lives as long as `self`; entries are used within its methods.
        self.memory
            .get(index as usize)
            .map(|entry| unsafe { Entry::new(entry) })
    }

    fn count_active(&self, backend: BackendId, change: i64) {
        if let Some(count) = self.active.cell(backend) {
            count.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        }
    }
}

impl<A: Address> FlowTable<A> {
    pub fn new(memory: MappedArray<FlowEntry<A>>, active: Arc<ActiveFlows>) -> Self {
        Self { memory, active }
    }

    fn length(&self) -> usize {
        self.memory.length()
    }

    fn iter(&self) -> impl Iterator<Item = Flow> + '_ {
        let now = now();
        self.live(0..self.length())
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

    fn sweep(&self, slice: Range<usize>, idle_timeout: &BTreeMap<BackendId, Duration>, report: &mut SweepReport) {
        let now = now();
        let mut counts = vec![0_u64; usize::from(BackendId::MAX) + 1];
        for found in self.live(slice) {
            if self.is_over(&found, now, idle_timeout) && release(self, &found) {
                report.expired += 1;
            } else if !found.word.has(TO_CLIENT) {
                counts[usize::from(found.word.backend())] += 1;
            }
        }
        for (id, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            *report.flows.entry(id as BackendId).or_default() += count;
        }
    }

    fn repoint(&self, ways: &Ways) -> u64 {
        let mut changed = 0;
        for mut found in self.live(0..self.length()) {
            while let Some(wanted) = ways.moved(&found) {
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

    fn live(&self, range: Range<usize>) -> impl Iterator<Item = Found<A>> + '_ {
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
    fn is_over(&self, found: &Found<A>, now: u32, idle_timeout: &BTreeMap<BackendId, Duration>) -> bool {
        if found.word.has(TO_CLIENT) {
            // Its flow is looked at from the other side; alone it is what a lost race left.
            return since(found, now) > CLOSING_TIMEOUT && partner(self, found).is_none();
        }
        let limit = timeout(found, idle_timeout);
        since(found, now) > limit && self.idle(found, now) > limit
    }

    /// Since the last packet in either direction.
    fn idle(&self, found: &Found<A>, now: u32) -> Duration {
        let own = since(found, now);
        partner(self, found).map_or(own, |other| own.min(since(&other, now)))
    }
}

/// Since the last packet in this direction.
fn since<A: Address>(found: &Found<A>, now: u32) -> Duration {
    let ticks = now.wrapping_sub(found.entry.last_seen()).cast_signed().max(0);
    Duration::from_nanos(u64::from(ticks.cast_unsigned()) << TICK_SHIFT)
}

fn timeout<A: Address>(found: &Found<A>, idle_timeout: &BTreeMap<BackendId, Duration>) -> Duration {
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
    } else if found.word.has(DOUBTED) {
        DOUBTED_TIMEOUT.min(idle)
    } else {
        idle
    }
}

/// Next hops as they should be.
struct Ways<'a> {
    state: &'a KernelState,
    /// Of prefixes that there are, longest first.
    lengths: Vec<u8>,
}

impl<'a> Ways<'a> {
    fn new(state: &'a KernelState) -> Self {
        let lengths: BTreeSet<u8> = state.routes.keys().map(|prefix| prefix.length).collect();
        Self {
            state,
            lengths: lengths.into_iter().rev().collect(),
        }
    }

    /// The next hop that a flow should have, where it has another.
    fn moved<A: Address>(&self, found: &Found<A>) -> Option<NextHop> {
        let old = found.entry.rewrite().next_hop;
        let wanted = if found.word.has(TO_CLIENT) {
            self.to_client(found.entry.rewrite().destination.ip().into(), &old)
        } else {
            let backend = self.state.backends.get(&found.word.backend());
            backend.map(|backend| backend.next_hop)
        };
        wanted.filter(|wanted| wanted.is_known() && *wanted != old)
    }

    /// An on-link client keeps its own address as destination: only the interface and our address on it can change.
    fn to_client(&self, client: IpAddr, old: &NextHop) -> Option<NextHop> {
        let lengths = self.lengths.iter().filter(|&&length| length <= longest(client));
        let mut routes = lengths.map(|&length| Prefix::around(client, length));
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

fn address<A: Address>(address: A, port: Be16) -> SocketAddr {
    SocketAddr::new(address.ip().into(), port.get())
}

fn state_name<A>(found: &Found<A>) -> &'static str {
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
