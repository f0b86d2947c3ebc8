//! The frame as the driver gives it: all raw packet pointers and their bounds checks.

use aya_ebpf::programs::XdpContext;
use lb_common::parse::{Field, Frame};

pub struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// VERIFIER (6.18): follows the comparison only in this form, address plus size against the end.
    #[inline(always)]
    fn field<T: Field>(&self, at: usize) -> Option<*mut T> {
        let field = self.start + at;
        (field + size_of::<T>() <= self.end).then_some(field as *mut T)
    }
}

impl Frame for Packet {
    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }

    // A field may lie at an odd multiple of two. The kernels we run on allow that for packet memory (x86-64,
    // arm64), and a load that claims less alignment is compiled to one load for each byte.
    #[inline(always)]
    fn read<T: Field>(&self, at: usize) -> Option<T> {
        // SAFETY: within the frame; any bytes are a `Field`.
        self.field(at).map(|field| unsafe { *field })
    }

    #[inline(always)]
    fn write<T: Field>(&mut self, at: usize, value: T) -> Option<()> {
        // SAFETY: within the frame, which is ours until the program returns.
        self.field(at).map(|field| unsafe { *field = value })
    }
}
