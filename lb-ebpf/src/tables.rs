//! The maps, and looking things up in them. The daemon resizes `FLOWS` when it creates it.

use core::ffi::{c_long, c_void};

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_loop};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{
    Backend, BackendId, FLOW_FLAGS, FragmentKey, Listen, MAX_BACKENDS, MAX_FRAGMENTED, MAX_LISTENS, MAX_PORT_TURNS,
    MAX_ROUTES, MAX_SERVICES, MAX_SHARED_ADDRESSES, MAX_SLOT_CELLS, Ports, Route, SIGNS_BYTES, SLOT_COUNT_CELL,
    SLOT_FLAGS, Service, ServiceId, slot_cell, slot_in,
};
use lb_common::decide::Tables;
use lb_common::flow_table::{Entry, FlowEntry, FlowMemory, Loop};
use lb_common::lease::{self, LeaseId, MAX_LEASES};
use lb_common::open::{Opening, Scratch};
use lb_common::port_rest::Notes;
use lb_common::shared;
use lb_common::signs::Signal;
use lb_common::stage::Stage;
use lb_common::wire::{Be32, Ip};

use crate::count;

#[btf_map]
static SERVICES: HashMap<Listen, Service, { MAX_LISTENS as usize }> = HashMap::new();
#[btf_map]
static SLOTS: ArrayOfMaps<Array<u64, { MAX_SLOT_CELLS as usize }, { SLOT_FLAGS as usize }>, { MAX_SERVICES as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }> = Array::new();
#[btf_map]
static ROUTES: LpmTrie<Ip, Route, { MAX_ROUTES as usize }> = LpmTrie::new();
/// Of IPv4.
#[btf_map]
static FLOWS: Array<FlowEntry<Be32>, 1024, { FLOW_FLAGS as usize }> = Array::new();
/// Of IPv6.
#[btf_map]
static FLOWS6: Array<FlowEntry<Ip>, 1024, { FLOW_FLAGS as usize }> = Array::new();

/// By `LeaseId`; the daemon shares the memory.
#[btf_map]
static LEASES: Array<u64, { MAX_LEASES as usize }, { FLOW_FLAGS as usize }> = Array::new();
/// To `LeaseId`: values of maps are a multiple of four bytes here.
#[btf_map]
static SHARED_ADDRESSES: HashMap<Ip, u32, { MAX_SHARED_ADDRESSES as usize }> = HashMap::new();

/// See `Loop::forget`.
#[btf_map]
static FORGOTTEN: PerCpuArray<u64, 1> = PerCpuArray::new();
/// In ticks.
#[btf_map]
static EXHAUSTED: Ticks = Array::new();
/// When a sign was last told, in ticks.
#[btf_map]
static SIGNED: Ticks = Array::new();
#[btf_map]
static SIGNS: RingBuf<Signal, { SIGNS_BYTES as usize }> = RingBuf::new();
#[btf_map]
static OPENING: PerCpuArray<Opening<Be32>, 1> = PerCpuArray::new();
#[btf_map]
static OPENING6: PerCpuArray<Opening<Ip>, 1> = PerCpuArray::new();
/// By `BackendId`; the daemon, which ends flows too, shares the memory.
#[btf_map]
static ACTIVE: Array<u64, { MAX_BACKENDS as usize }, { FLOW_FLAGS as usize }> = Array::new();
/// By `ports::endpoint`; the daemon that makes it fills it.
#[btf_map]
static PORT_TURNS: Array<u64, { MAX_PORT_TURNS as usize }, { FLOW_FLAGS as usize }> = Array::new();
/// By `port_rest::line`; the daemon resizes it with `FLOWS`.
#[btf_map]
static PORT_NOTES: Array<Notes, 128, { FLOW_FLAGS as usize }> = Array::new();
/// By `ServiceId`.
#[btf_map]
static TURNS: Array<u64, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, Ports, { MAX_FRAGMENTED as usize }> = LruHashMap::new();
/// The programs of `Stage`.
#[btf_map]
static STAGES: ProgramArray<{ Stage::ALL.len() }> = ProgramArray::new();

/// Entries of `FLOWS`, and of `FLOWS6`, less one. Set at load; the verifier then knows it as a constant.
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 1023;

pub struct Maps;

/// By `BackendId`.
type Ticks = Array<u32, { MAX_BACKENDS as usize }>;

#[inline(always)]
fn tick(ticks: &Ticks, id: BackendId) -> u32 {
    ticks.get(u32::from(id)).copied().unwrap_or_default()
}

#[inline(always)]
fn note(ticks: &Ticks, id: BackendId, now: u32) {
    if let Some(tick) = ticks.get_ptr_mut(u32::from(id)) {
        // SAFETY: a u32 of its own; of several CPUs that write it, any one is right.
        unsafe { tick.write_volatile(now) };
    }
}

/// Comes back only where the stage is missing.
#[inline(always)]
pub fn run(ctx: &XdpContext, stage: Stage) {
    // SAFETY: nothing on the stack has to be dropped.
    unsafe { STAGES.tail_call(ctx, stage as u32) }
}

#[inline(always)]
fn flow_mask() -> u32 {
    // SAFETY: a static; volatile because the loader puts another value into the object.
    unsafe { (&raw const FLOW_MASK).read_volatile() }
}

#[inline(always)]
fn count_active(backend: BackendId, change: i64) {
    if let Some(count) = ACTIVE.get_ptr_mut(u32::from(backend)) {
        // SAFETY: an element of a map, which others change by atomics only.
        unsafe { shared::add(count, change as u64) };
    }
}

/// Two that count at once may read the same number, which is no harm: they take one slot, or try for one port.
#[inline(always)]
fn count_up(turn: *mut u64) -> u64 {
    // SAFETY: an element of a map, which others change by atomics only.
    unsafe {
        shared::add(turn, 1);
        shared::load(turn)
    }
}

impl FlowMemory<Be32> for Maps {
    #[inline(always)]
    fn mask(&self) -> u32 {
        flow_mask()
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> Option<Entry<Be32>> {
        // SAFETY: an element of the flow table, which lives as long as the program.
        FLOWS.get_ptr_mut(index).map(|entry| unsafe { Entry::new(entry) })
    }

    #[inline(always)]
    fn count_active(&self, backend: BackendId, change: i64) {
        count_active(backend, change);
    }
}

impl FlowMemory<Ip> for Maps {
    #[inline(always)]
    fn mask(&self) -> u32 {
        flow_mask()
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> Option<Entry<Ip>> {
        // SAFETY: as above.
        FLOWS6.get_ptr_mut(index).map(|entry| unsafe { Entry::new(entry) })
    }

    #[inline(always)]
    fn count_active(&self, backend: BackendId, change: i64) {
        count_active(backend, change);
    }
}

impl Scratch<Be32> for Maps {
    #[inline(always)]
    fn opening(&self) -> Option<&mut Opening<Be32>> {
        // SAFETY: this CPU's own, and the program is not preempted by itself.
        OPENING.get_ptr_mut(0).map(|opening| unsafe { &mut *opening })
    }
}

impl Scratch<Ip> for Maps {
    #[inline(always)]
    fn opening(&self) -> Option<&mut Opening<Ip>> {
        // SAFETY: as above.
        OPENING6.get_ptr_mut(0).map(|opening| unsafe { &mut *opening })
    }
}

impl Loop for Maps {
    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        let Some(place) = FORGOTTEN.get_ptr_mut(0) else {
            return 0;
        };
        // SAFETY: this CPU's own, and the program is not preempted by itself.
        unsafe {
            place.write_volatile(number as u64);
            place.read_volatile() as usize
        }
    }

    #[inline(always)]
    fn repeat(&self, times: u32, mut step: impl FnMut(u32) -> bool) {
        // SAFETY: the callback is for this closure, which lives until the helper returns.
        unsafe { loop_with(times, &mut step) };
    }
}

#[inline(always)]
unsafe fn loop_with<F: FnMut(u32) -> bool>(times: u32, step: &mut F) {
    unsafe extern "C" fn callback<F: FnMut(u32) -> bool>(number: u64, step: *mut c_void) -> c_long {
        // SAFETY: by `loop_with`.
        let go_on = unsafe { (*step.cast::<F>())(number as u32) };
        c_long::from(!go_on)
    }
    // SAFETY: the caller's.
    unsafe { bpf_loop(times, callback::<F> as *mut c_void, (&raw mut *step).cast(), 0) };
}

impl Tables for Maps {
    #[inline(always)]
    fn listen(&self, listen: &Listen) -> Option<Service> {
        // SAFETY: copied out at once; a value that is replaced meanwhile is the old or the new one's bytes.
        unsafe { SERVICES.get(listen).copied() }
    }

    #[inline(always)]
    fn slot_count(&self, service: ServiceId) -> Option<u64> {
        SLOTS.get(u32::from(service))?.get(SLOT_COUNT_CELL).copied()
    }

    #[inline(always)]
    fn slot(&self, service: ServiceId, number: u64) -> Option<BackendId> {
        let table = SLOTS.get(u32::from(service))?;
        table.get(slot_cell(number)).map(|cell| slot_in(*cell, number))
    }

    #[inline(always)]
    fn turn(&self, service: ServiceId) -> u64 {
        TURNS.get_ptr_mut(u32::from(service)).map_or(0, count_up)
    }

    #[inline(always)]
    fn signed_at(&self, id: BackendId) -> u32 {
        tick(&SIGNED, id)
    }

    #[inline(always)]
    fn signal(&self, signal: Signal, now: u32) {
        note(&SIGNED, signal.backend(), now);
        // Where nobody reads them, the next checks will find out as well.
        let _full = SIGNS.output(signal, 0);
    }

    #[inline(always)]
    fn active_flows(&self, id: BackendId) -> u64 {
        // SAFETY: as above.
        ACTIVE
            .get_ptr_mut(u32::from(id))
            .map_or(0, |count| unsafe { shared::load(count) })
    }

    #[inline(always)]
    fn remember(&self, key: &FragmentKey, ports: &Ports) {
        // A table that takes no more forgets: the later fragments are counted then.
        let _full = FRAGMENTS.insert(key, ports, 0);
    }

    #[inline(always)]
    fn recall(&self, key: &FragmentKey) -> Option<Ports> {
        // SAFETY: copied out at once.
        unsafe { FRAGMENTS.get(key).copied() }
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<&Backend> {
        BACKENDS.get(u32::from(id))
    }

    #[inline(always)]
    fn port_turn(&self, endpoint: u16) -> u64 {
        PORT_TURNS.get_ptr_mut(u32::from(endpoint)).map_or(0, count_up)
    }

    #[inline(always)]
    fn port_notes(&self, line: u32) -> Option<&mut Notes> {
        // SAFETY: an element of a map, made of words; CPUs that write one at once spoil hints at most.
        PORT_NOTES.get_ptr_mut(line).map(|notes| unsafe { &mut *notes })
    }

    #[inline(always)]
    fn exhausted_at(&self, id: BackendId) -> u32 {
        tick(&EXHAUSTED, id)
    }

    #[inline(always)]
    fn note_exhausted(&self, id: BackendId, now: u32) {
        note(&EXHAUSTED, id, now);
    }

    #[inline(always)]
    fn route(&self, address: &Ip) -> Option<Route> {
        ROUTES.get(&Key::new(128, *address)).copied()
    }

    #[inline(always)]
    fn shared_address(&self, address: &Ip) -> Option<LeaseId> {
        // SAFETY: copied out at once.
        unsafe { SHARED_ADDRESSES.get(address).map(|lease| *lease as LeaseId) }
    }

    #[inline(always)]
    fn lease(&self, id: LeaseId) -> u64 {
        // SAFETY: an element of a map, which the daemon writes at any time.
        LEASES
            .get_ptr_mut(u32::from(id))
            .map_or(lease::ENDED, |until| unsafe { until.read_volatile() })
    }

    #[inline(always)]
    fn clock(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn count_new_flow(&self, backend: BackendId) {
        count::new_flow(backend);
    }

    #[inline(always)]
    fn count_ports_exhausted(&self, backend: BackendId) {
        count::ports_exhausted(backend);
    }

    #[inline(always)]
    fn count_packet(&self, backend: BackendId, to_client: bool, bytes: u64) {
        count::packet(backend, to_client, bytes);
    }
}
