//! The maps, and looking things up in them. The daemon resizes `FLOWS` when it creates it.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie};
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::btf_map;
use lb_common::abi::{
    Backend, BackendId, FLOW_FLAGS, Listen, MAX_BACKENDS, MAX_LISTENS, MAX_ROUTES, MAX_SERVICES, MAX_SLOTS, Route,
    SLOT_COUNT_CELL, SLOT_FLAGS, Service, ServiceId, slot_of,
};
use lb_common::decide::Tables;
use lb_common::flow_table::{Entry, FlowEntry, FlowMemory, TICK_SHIFT};
use lb_common::wire::Be32;

use crate::count;

#[btf_map]
static SERVICES: HashMap<Listen, Service, { MAX_LISTENS as usize }> = HashMap::new();
#[btf_map]
static SLOTS: ArrayOfMaps<Array<u64, { MAX_SLOTS as usize }, { SLOT_FLAGS as usize }>, { MAX_SERVICES as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }> = Array::new();
#[btf_map]
static ROUTES: LpmTrie<Be32, Route, { MAX_ROUTES as usize }> = LpmTrie::new();
#[btf_map]
static FLOWS: Array<FlowEntry, 1024, { FLOW_FLAGS as usize }> = Array::new();

/// Entries of `FLOWS` less one. Set at load; the verifier then knows it as a constant.
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 1023;

pub struct Maps;

impl FlowMemory for Maps {
    #[inline(always)]
    fn mask(&self) -> u32 {
        // SAFETY: a static; volatile because the loader puts another value into the object.
        unsafe { (&raw const FLOW_MASK).read_volatile() }
    }

    #[inline(always)]
    fn entry(&self, index: u32) -> Option<Entry> {
        // SAFETY: an element of the flow table, which lives as long as the program.
        FLOWS.get_ptr_mut(index).map(|entry| unsafe { Entry::new(entry) })
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn listen(&self, listen: &Listen) -> Option<Service> {
        // SAFETY: copied out at once; a value that is replaced meanwhile is the old or the new one's bytes.
        unsafe { SERVICES.get(listen).copied() }
    }

    #[inline(always)]
    fn slot(&self, service: ServiceId, hash: u64) -> Option<BackendId> {
        let table = SLOTS.get(u32::from(service))?;
        let count = *table.get(SLOT_COUNT_CELL)?;
        let slot = slot_of(hash, count) as u32;
        table.get(SLOT_COUNT_CELL + 1 + slot).map(|id| *id as BackendId)
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<&Backend> {
        BACKENDS.get(u32::from(id))
    }

    #[inline(always)]
    fn route(&self, address: Be32) -> Option<Route> {
        ROUTES.get(&Key::new(32, address)).copied()
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a helper without arguments.
        (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as u32
    }

    #[inline(always)]
    fn count_new_flow(&self, backend: BackendId) {
        count::new_flow(backend);
    }

    #[inline(always)]
    fn count_packet(&self, backend: BackendId, to_client: bool, bytes: u64) {
        count::packet(backend, to_client, bytes);
    }
}
