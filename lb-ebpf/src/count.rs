//! Counters, one set for each CPU: a plain addition, no event, no lock.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::abi::{BackendId, MAX_BACKENDS, Traffic};
use lb_common::verdict::{MAX_REASONS, Reason};

#[btf_map]
static VERDICTS: PerCpuArray<u64, { MAX_REASONS as usize }> = PerCpuArray::new();
#[btf_map]
static TRAFFIC: PerCpuArray<Traffic, { MAX_BACKENDS as usize }> = PerCpuArray::new();

#[inline(always)]
pub fn stop(reason: Reason) {
    if let Some(count) = VERDICTS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own element, and the program is not preempted by itself.
        unsafe { *count += 1 }
    }
}

#[inline(always)]
pub fn new_flow(backend: BackendId) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(backend)) {
        // SAFETY: as above.
        unsafe { (*traffic).new_flows += 1 }
    }
}

#[inline(always)]
pub fn ports_exhausted(backend: BackendId) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(backend)) {
        // SAFETY: as above.
        unsafe { (*traffic).ports_exhausted += 1 }
    }
}

#[inline(always)]
pub fn packet(backend: BackendId, to_client: bool, bytes: u64) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(u32::from(backend)) {
        // SAFETY: as above.
        unsafe { (*traffic).count(to_client, bytes) }
    }
}
