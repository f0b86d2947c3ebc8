//! The flow tables as the daemon sees them: memory shared with the XDP program, read without a system call.
//!
//! Lists flows, ends those that are over or have lost their backend, and points live ones at a next hop that moved.
//! Entries change under its hands: every step goes through `lb_common::flow_table`.

mod reset;
mod sweep;
mod ways;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_common::abi::{BackendId, ENTRIES_PER_FLOW};
use lb_common::family::Address;
use lb_common::flow_table::upkeep::{idle, live};
use lb_common::flow_table::{Entry, FlowEntry, FlowMemory, Found, Loop, State, TICK_SHIFT, TO_CLIENT};
use lb_common::wire::{Be16, Be32, Ip};
use rustix::time::{ClockId, clock_gettime};

pub use self::sweep::{SEVERED_AT_ONCE, Sweep, SweepReport};
use super::bpf::MappedArray;

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

impl FlowTables {
    /// How many flows each of them is made for.
    pub fn capacity(&self) -> u64 {
        self.ipv4.length() as u64 / u64::from(ENTRIES_PER_FLOW)
    }

    /// Each flow once.
    pub fn iter(&self) -> impl Iterator<Item = Flow> + '_ {
        self.ipv4.iter().chain(self.ipv6.iter())
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
        live(self, 0..self.length() as u32)
            .filter(|found| !found.word.has(TO_CLIENT))
            .filter_map(move |found| {
                let key = found.entry.key(found.word.protocol());
                let rewrite = *found.entry.rewrite();
                let idle = Duration::from_nanos(u64::from(idle(self, &found, now)) << TICK_SHIFT);
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
}

const fn ticks(time: Duration) -> u32 {
    (time.as_nanos() >> TICK_SHIFT) as u32
}

fn address<A: Address>(address: A, port: Be16) -> SocketAddr {
    SocketAddr::new(address.ip().into(), port.get())
}

fn state_name<A>(found: &Found<A>) -> &'static str {
    if found.word.is(State::HalfOpen) {
        "half-open"
    } else if found.word.is(State::Established) {
        "established"
    } else if found.word.is(State::Severed) {
        "reset"
    } else {
        "closing"
    }
}

fn now() -> u32 {
    let time = clock_gettime(ClockId::Monotonic);
    ((time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64) >> TICK_SHIFT) as u32
}
