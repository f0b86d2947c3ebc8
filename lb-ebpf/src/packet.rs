//! The frame as the driver gives it: all raw packet pointers and their bounds checks.

use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use lb_common::frame::Frame;

pub struct Packet<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// After the frame was resized, which makes all older pointers worthless.
    #[inline(always)]
    fn resized(&mut self, result: i64) -> Option<()> {
        *self = Self::new(self.ctx);
        (result == 0).then_some(())
    }
}

impl Frame for Packet<'_> {
    /// The first buffer has all of it but in jumbo frames.
    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        let length = unknown(self.end) - self.start;
        // SAFETY: the context is the program's own.
        bytes <= length || bytes <= unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) } as usize
    }

    /// VERIFIER (6.18): follows the comparison only in this form, address plus size against the end.
    #[inline(always)]
    fn bytes(&self, at: usize, length: usize) -> Option<*mut u8> {
        let start = self.start + at;
        (start + length <= unknown(self.end)).then_some(start as *mut u8)
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Option<()> {
        // SAFETY: the kernel refuses what the frame has no room for.
        let result = unsafe {
            let by = length as i64 - bpf_xdp_get_buff_len(self.ctx.ctx) as i64;
            bpf_xdp_adjust_tail(self.ctx.ctx, by as i32)
        };
        self.resized(result)
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: as above.
        let result = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) };
        self.resized(result)
    }
}

/// The same. VERIFIER (6.18): the compiler must not leave out a comparison that follows from an earlier one, since for
/// the verifier it may not follow.
#[inline(always)]
fn unknown(#[allow(unused_mut)] mut end: usize) -> usize {
    // SAFETY: a register is copied to itself; no instruction at all would upset the line numbers.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) end, options(nomem, nostack, preserves_flags));
    }
    end
}
