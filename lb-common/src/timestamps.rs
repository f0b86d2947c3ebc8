//! The TCP timestamps option (RFC 7323): finds it, reads it, and shifts it for flows whose port has not rested.
//!
//! Knows nothing of flows. Tested by `tests/it/packets/port_rest.rs`.

use crate::abi::TCP;
use crate::checksum::Delta;
use crate::flow_table::Loop;
use crate::frame::Frame;
use crate::parse::{ACK, MAX_L4, Parsed, TCP_HEADER};
use crate::wire::Be32;

const DATA_OFFSET: usize = 12;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const TIMESTAMPS: u8 = 8;
const LENGTH: usize = 10;
/// Offsets within the option.
const VALUE: usize = 2;
const ECHO: usize = 6;
/// Covers every offset up to `MAX_L4`.
const OFFSETS: usize = 0x3fff;
/// The longest TCP options are all of one byte each.
const MAX_OPTIONS: u32 = 40;

/// The length of a TCP header with its options.
#[inline(always)]
fn header_length<F: Frame, A>(frame: &F, parsed: &Parsed<A>) -> Option<usize> {
    let byte: u8 = frame.read(parsed.l4 + DATA_OFFSET)?;
    Some((byte >> 4) as usize * 4)
}

/// Where the option of a TCP packet begins in the frame, if the packet has one.
#[inline(always)]
pub fn find<F: Frame, A>(frame: &F, loops: &impl Loop, parsed: &Parsed<A>) -> Option<usize> {
    if parsed.key.protocol != TCP {
        return None;
    }
    let end = parsed.l4 + header_length(frame, parsed)?;
    // VERIFIER (6.1): walks through a loop's step once, and believes what it knows of these then.
    let mut at = loops.forget(parsed.l4 + TCP_HEADER);
    let mut found = loops.forget(0);
    loops.repeat(MAX_OPTIONS, |_| {
        if at >= end || at > MAX_L4 {
            return false;
        }
        let Some(kind) = frame.read::<u8>(at) else { return false };
        if kind == NO_OPERATION {
            at += 1;
            return true;
        }
        let Some(length) = frame.read::<u8>(at + 1) else {
            return false;
        };
        if kind == TIMESTAMPS && length as usize == LENGTH {
            found = at;
        }
        let goes_on = kind != END_OF_OPTIONS && kind != TIMESTAMPS && length >= 2;
        at += length as usize;
        goes_on
    });
    // VERIFIER (6.1): keeps a mask in mind, and loses a comparison that the compiler makes of another register.
    let found = loops.forget(found) & OFFSETS;
    (found != 0 && found <= MAX_L4 && found + LENGTH <= end && end <= parsed.end).then_some(found)
}

/// The sender's clock, of the option at `at`.
#[inline(always)]
pub fn value<F: Frame>(frame: &F, at: usize) -> Option<u32> {
    frame.read::<Be32>(at + VALUE).map(Be32::get)
}

/// The other side's clock as the sender has seen it last.
#[inline(always)]
pub fn echo<F: Frame>(frame: &F, at: usize) -> Option<u32> {
    frame.read::<Be32>(at + ECHO).map(Be32::get)
}

/// Adds to the client's clock, in its packets and in the backend's echo of it: so much the checksum changes.
#[inline(always)]
pub fn shift<F: Frame, A>(frame: &mut F, parsed: &Parsed<A>, at: usize, shift: Shift) -> Option<Delta> {
    let (field, change) = match shift {
        Shift::Value(units) => (at + VALUE, in_ticks(units)),
        // Only an acknowledgment echoes anything.
        Shift::Echo(_) if parsed.tcp_flags & ACK == 0 => return Some(Delta::NONE),
        Shift::Echo(units) => (at + ECHO, in_ticks(units).wrapping_neg()),
    };
    let old: Be32 = frame.read(field)?;
    let new = Be32::new(old.get().wrapping_add(change));
    frame.write(field, new)?;
    let delta = Delta::NONE.replace32(old.be, new.be).fold();
    // A field at an odd place lies across the words that are summed.
    let odd = (field - parsed.l4) & 1 != 0;
    Some(Delta::NONE.add16(if odd { delta.swap_bytes() } else { delta }))
}

/// What of a packet is to be shifted.
#[derive(Clone, Copy)]
pub enum Shift {
    /// The clock that a client's packet tells.
    Value(u16),
    /// The client's clock as the backend's packet repeats it.
    Echo(u16),
}

/// Shifts have a unit of 2^16 ticks of the client's clock, about a minute, so that they fit an entry.
pub const UNIT_SHIFT: u32 = 16;

/// A shift in ticks of the client's clock.
#[inline(always)]
pub const fn in_ticks(units: u16) -> u32 {
    (units as u32) << UNIT_SHIFT
}
