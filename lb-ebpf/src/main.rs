//! The XDP program: hands each frame to `lb_common::decide` and turns the verdict into an action;
//! a verdict that another stage is to give is a tail call.
//!
//! No decision is made here. Tested by the packet table and the lab of crate `lb-tests`.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
// On the host this crate is only looked at (clippy, editors), never run.
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code))]

mod count;
mod packet;
mod tables;
mod tell;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::decide::{self, Verdict};
use lb_common::verdict::Reason;
use lb_common::wire::{Be32, Ip};

use packet::Packet;
use tables::Maps;

// Inlined: every packet would pay for the call.
#[xdp(frags)]
#[inline(always)]
pub fn naru(ctx: XdpContext) -> u32 {
    act(&ctx, decide::first(&mut Packet::new(&ctx), &Maps))
}

#[xdp(frags)]
pub fn naru_unusual_ipv4(ctx: XdpContext) -> u32 {
    act(&ctx, decide::unusual::<_, Be32, _>(&mut Packet::new(&ctx), &Maps))
}

#[xdp(frags)]
pub fn naru_unusual_ipv6(ctx: XdpContext) -> u32 {
    act(&ctx, decide::unusual::<_, Ip, _>(&mut Packet::new(&ctx), &Maps))
}

#[xdp(frags)]
pub fn naru_open_ipv4(ctx: XdpContext) -> u32 {
    let verdict = decide::open::<_, Be32, _>(&mut Packet::new(&ctx), &Maps, ingress(&ctx));
    act(&ctx, tell::refusal::<Be32>(&ctx, verdict))
}

#[xdp(frags)]
pub fn naru_open_ipv6(ctx: XdpContext) -> u32 {
    let verdict = decide::open::<_, Ip, _>(&mut Packet::new(&ctx), &Maps, ingress(&ctx));
    act(&ctx, tell::refusal::<Ip>(&ctx, verdict))
}

#[xdp(frags)]
pub fn naru_answer_ipv4(ctx: XdpContext) -> u32 {
    let verdict = decide::answer::<_, Be32, _>(&mut Packet::new(&ctx), &Maps);
    act(&ctx, tell::refusal::<Be32>(&ctx, verdict))
}

#[xdp(frags)]
pub fn naru_answer_ipv6(ctx: XdpContext) -> u32 {
    let verdict = decide::answer::<_, Ip, _>(&mut Packet::new(&ctx), &Maps);
    act(&ctx, tell::refusal::<Ip>(&ctx, verdict))
}

#[xdp(frags)]
pub fn naru_clock_ipv4(ctx: XdpContext) -> u32 {
    act(&ctx, decide::clock::<_, Be32, _>(&mut Packet::new(&ctx), &Maps))
}

#[xdp(frags)]
pub fn naru_clock_ipv6(ctx: XdpContext) -> u32 {
    act(&ctx, decide::clock::<_, Ip, _>(&mut Packet::new(&ctx), &Maps))
}

#[inline(always)]
fn act(ctx: &XdpContext, verdict: Verdict) -> u32 {
    let reason = match verdict {
        Verdict::Send(ifindex) if ifindex == ingress(ctx) => return XDP_TX,
        // SAFETY: any interface index is safe to name; one that is gone drops the frame.
        Verdict::Send(ifindex) => return unsafe { bpf_redirect(ifindex, 0) as u32 },
        Verdict::Answer(reason) => {
            count::stop(reason);
            return XDP_TX;
        }
        Verdict::Stop(reason) => reason,
        Verdict::Next(stage) => {
            tables::run(ctx, stage);
            Reason::StageMissing
        }
    };
    count::stop(reason);
    if reason.passes() { XDP_PASS } else { XDP_DROP }
}

#[inline(always)]
fn ingress(ctx: &XdpContext) -> u32 {
    ctx.ingress_ifindex() as u32
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
