//! The XDP program: hands each frame to `lb_common::decide` and turns the verdict into an action.
//!
//! No decision is made here. Tested by the packet table and the lab of crate `lb-tests`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// On the host this crate is only looked at (clippy, editors), never run.
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]

mod count;
mod packet;
mod tables;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::decide::{Verdict, decide};

#[xdp]
pub fn naru(ctx: XdpContext) -> u32 {
    let ingress = ctx.ingress_ifindex() as u32;
    match decide(&mut packet::Packet::new(&ctx), &tables::Maps, ingress) {
        Verdict::Send(ifindex) if ifindex == ingress => XDP_TX,
        // SAFETY: any interface index is safe to name; one that is gone drops the frame.
        Verdict::Send(ifindex) => unsafe { bpf_redirect(ifindex, 0) as u32 },
        Verdict::Stop(reason) => {
            count::stop(reason);
            if reason.passes() { XDP_PASS } else { XDP_DROP }
        }
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Lets GPL-only helpers be called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
