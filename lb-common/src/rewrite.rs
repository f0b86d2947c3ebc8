//! Writes a flow's finished rewrite into a packet: addresses, ports, checksums, TTL.
//!
//! Looks nothing up: all values were computed once, when the flow began.

use crate::abi::{TCP, UDP};
use crate::checksum;
use crate::family::Address;
use crate::flow_table::{Found, Rewrite, TO_CLIENT};
use crate::frame::{Frame, WindowMut};
use crate::parse::{Parsed, TCP_CHECKSUM, TCP_HEADER, UDP_CHECKSUM, UDP_HEADER};
use crate::timestamps::{self, Shift};

/// None where the frame is shorter than `parsed` says, which the kernel's verifier cannot rule out; the caller drops it.
#[inline(always)]
pub fn rewrite<F: Frame, A: Address>(frame: &mut F, parsed: &Parsed<A>, new: &Rewrite<A>) -> Option<()> {
    A::rewrite_header(frame, parsed.l3, parsed.ttl, new)?;
    match parsed.key.protocol {
        TCP => {
            let mut header = frame.window_mut::<TCP_HEADER>(parsed.l4)?;
            header.write(TCP_CHECKSUM, checksum::apply(header.read(TCP_CHECKSUM), new.l4_delta));
            write_ports(&mut header, new);
        }
        UDP => {
            let mut header = frame.window_mut::<UDP_HEADER>(parsed.l4)?;
            header.write(
                UDP_CHECKSUM,
                checksum::apply_udp(header.read(UDP_CHECKSUM), new.l4_delta),
            );
            write_ports(&mut header, new);
        }
        _ => return None,
    }
    Some(())
}

/// The same for a packet of a shifted flow, whose timestamps are at `timestamps`, if it has them.
#[inline(always)]
pub fn rewrite_shifted<F: Frame, A: Address>(
    frame: &mut F,
    parsed: &Parsed<A>,
    flow: &Found<A>,
    timestamps: Option<usize>,
) -> Option<()> {
    let new = flow.entry.rewrite();
    A::rewrite_header(frame, parsed.l3, parsed.ttl, new)?;
    let mut delta = flow.entry.l4_delta();
    if let Some(at) = timestamps {
        let shift = if flow.word.has(TO_CLIENT) {
            Shift::Echo(new.l4_delta)
        } else {
            Shift::Value(new.l4_delta)
        };
        delta = delta.plus(timestamps::shift(frame, parsed, at, shift)?);
    }
    let mut header = frame.window_mut::<TCP_HEADER>(parsed.l4)?;
    header.write(TCP_CHECKSUM, checksum::apply(header.read(TCP_CHECKSUM), delta.fold()));
    write_ports(&mut header, new);
    Some(())
}

#[inline(always)]
fn write_ports<A, const N: usize>(header: &mut WindowMut<'_, N>, new: &Rewrite<A>) {
    header.write(0, new.source_port);
    header.write(2, new.destination_port);
}
