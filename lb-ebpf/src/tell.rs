//! Tells the daemon's log of each new flow that was refused, and why; only where a start asked for it.
//!
//! Else the level is a constant that the verifier knows, and nothing of this is left in the program.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use aya_log_ebpf::macro_support::{Argument, IpFormatter};
use lb_common::decide::Verdict;
use lb_common::family::Address;
use lb_common::open::Scratch;
use lb_common::verdict::Reason;
use lb_common::wire::{Be32, Ip};

use crate::tables::Maps;

/// An address as the log can show it.
pub trait Shown: Address {
    type Form: Argument + IpFormatter;
    fn shown(self) -> Self::Form;
}

impl Shown for Be32 {
    type Form = u32;

    #[inline(always)]
    fn shown(self) -> u32 {
        self.get()
    }
}

impl Shown for Ip {
    type Form = [u8; 16];

    #[inline(always)]
    fn shown(self) -> [u8; 16] {
        let [a, b, c, d] = self.words.map(u32::to_ne_bytes);
        // SAFETY: of the same size, and bytes have no padding.
        unsafe { core::mem::transmute([a, b, c, d]) }
    }
}

/// The verdict, told where it is the end of a flow that would have begun.
#[inline(always)]
pub fn refusal<A: Shown>(ctx: &XdpContext, verdict: Verdict) -> Verdict
where
    Maps: Scratch<A>,
{
    if let Verdict::Stop(reason) | Verdict::Answer(reason) = verdict
        && !reason.passes()
    {
        tell::<A>(ctx, reason);
    }
    verdict
}

#[inline(always)]
fn tell<A: Shown>(ctx: &XdpContext, reason: Reason)
where
    Maps: Scratch<A>,
{
    let Some(opening) = Scratch::<A>::opening(&Maps) else {
        return;
    };
    let key = &opening.parsed.key;
    debug!(
        ctx,
        "{}: {:i} port {} to {:i} port {}",
        reason.name(),
        key.source.shown(),
        key.source_port.get(),
        key.destination.shown(),
        key.destination_port.get()
    );
}
