//! The BPF programs of the lab and the bench.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

#[btf_map]
static PACKETS: Array<u64, 1> = Array::new();

/// Counts a packet and passes it on.
#[xdp]
pub fn sink(_: XdpContext) -> u32 {
    if let Some(packets) = PACKETS.get_ptr_mut(0) {
        // SAFETY: the map hands out a valid, aligned pointer; a lost count between CPUs is accepted.
        unsafe { *packets += 1 };
    }
    xdp_action::XDP_PASS
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
