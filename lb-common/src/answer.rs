//! Packets that Naru answers itself instead of sending them on: a RST or "port unreachable" says that nobody serves,
//! "too big" how much the way to the backend takes.
//!
//! The frame in hand becomes the answer, back to where it came from. Whether to answer is decided elsewhere. The daemon
//! writes its RSTs here as well.

use crate::abi::{TCP, UDP};
use crate::family::{Address, pseudo_header};
use crate::flow_table::FlowKey;
use crate::frame::Frame;
use crate::icmp::ICMP_HEADER;
use crate::parse::{ACK, ETHER_ADDRESSES, Parsed, RST, TCP_CHECKSUM, TCP_HEADER};
use crate::wire::{Be16, Be32};

/// How much of a TCP or UDP header is quoted.
const QUOTED: usize = 8;
/// Of an IPv6 fragment header, before that.
const EXTENSION: usize = 8;
/// Data offset of a TCP header without options, in its first four bits.
const TCP_LENGTH: u16 = 0x5000;

/// Turns a packet of a connection that nobody will take, or goes on with, into its refusal. None: it cannot be done, and the
/// frame may be in any state.
#[inline(always)]
pub fn refuse<F: Frame, A: Address>(frame: &mut F, parsed: &Parsed<A>) -> Option<()> {
    match parsed.key.protocol {
        TCP => reset(frame, parsed),
        UDP => icmp_error(frame, parsed, A::PORT_UNREACHABLE, 0),
        _ => None,
    }
}

/// `mtu` is that of the way to the backend, where the packet travels within another one.
#[inline(always)]
pub fn too_big<F: Frame, A: Address>(frame: &mut F, parsed: &Parsed<A>, mtu: u16) -> Option<()> {
    icmp_error(frame, parsed, A::TOO_BIG, (mtu as u32).saturating_sub(A::HEADER as u32))
}

/// The one RST that a receiver believes without asking back: at the number it expects, or to a SYN, with that acknowledged
/// (RFC 9293 §3.10.7.1, RFC 5961 §3.2).
#[inline(always)]
fn reset<F: Frame, A: Address>(frame: &mut F, parsed: &Parsed<A>) -> Option<()> {
    turn_back(frame)?;
    frame.truncate(parsed.l3 + A::HEADER + TCP_HEADER)?;
    let reset = if parsed.tcp_flags & ACK != 0 {
        Reset::at(parsed.acknowledgment)
    } else {
        Reset {
            sequence: 0,
            acknowledgment: parsed.sequence.wrapping_add(1),
            flags: RST | ACK,
        }
    };
    write_reset(frame, parsed.l3, &parsed.key, &reset)
}

/// What the header of a RST says.
pub struct Reset {
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
}

impl Reset {
    /// For a receiver that expects this number.
    #[inline(always)]
    pub const fn at(sequence: u32) -> Self {
        Self {
            sequence,
            acknowledgment: 0,
            flags: RST,
        }
    }
}

/// Writes IP and TCP header of a RST to the sender of packets of `key`.
#[inline(always)]
pub fn write_reset<F: Frame, A: Address>(frame: &mut F, l3: usize, key: &FlowKey<A>, reset: &Reset) -> Option<()> {
    A::write_header(frame, l3, (&key.destination, &key.source), TCP, TCP_HEADER)?;
    let (sequence, acknowledgment) = (Be32::new(reset.sequence), Be32::new(reset.acknowledgment));
    let flags = Be16::new(TCP_LENGTH | reset.flags as u16);
    let sum = pseudo_header(&key.source, &key.destination, TCP, TCP_HEADER)
        .add16(key.source_port.be)
        .add16(key.destination_port.be)
        .add32(sequence.be)
        .add32(acknowledgment.be)
        .add16(flags.be);
    let mut header = frame.window_mut::<TCP_HEADER>(l3 + A::HEADER)?;
    header.write(0, key.destination_port);
    header.write(2, key.source_port);
    header.write(4, sequence);
    header.write(8, acknowledgment);
    header.write(12, flags);
    header.write(14, 0_u16);
    header.write(TCP_CHECKSUM, !sum.fold());
    header.write(18, 0_u16);
    Some(())
}

/// A packet with up to eight bytes of options or IPv6 extensions is quoted, so that a fragment is; others are dropped
/// without a word.
#[inline(always)]
fn icmp_error<F: Frame, A: Address>(frame: &mut F, parsed: &Parsed<A>, kind: u16, rest: u32) -> Option<()> {
    match parsed.l4.wrapping_sub(parsed.l3 + A::HEADER) {
        0 => quote::<_, _, QUOTED>(frame, parsed, kind, rest),
        EXTENSION => quote::<_, _, { EXTENSION + QUOTED }>(frame, parsed, kind, rest),
        _ => None,
    }
}

/// `BYTES` of the packet are quoted behind its IP header.
#[inline(always)]
fn quote<F: Frame, A: Address, const BYTES: usize>(
    frame: &mut F,
    parsed: &Parsed<A>,
    kind: u16,
    rest: u32,
) -> Option<()> {
    let (key, l3) = (&parsed.key, parsed.l3);
    let quoted = A::HEADER + BYTES;
    turn_back(frame)?;
    frame.truncate(l3 + quoted)?;
    frame.make_room(0, l3, A::HEADER + ICMP_HEADER)?;
    let length = ICMP_HEADER + quoted;
    A::write_header(frame, l3, (&key.destination, &key.source), A::ICMP, length)?;
    let icmp = l3 + A::HEADER;
    let (kind, rest) = (Be16::new(kind), Be32::new(rest));
    let sum = A::icmp_pseudo_header(&key.source, &key.destination, length);
    let mut sum = sum.add16(kind.be).add32(rest.be);
    let mut at = icmp + ICMP_HEADER;
    while at < icmp + length {
        sum = sum.add32(frame.read(at)?);
        at += 4;
    }
    let mut header = frame.window_mut::<ICMP_HEADER>(icmp)?;
    header.write(0, kind);
    header.write(2, !sum.fold());
    header.write(4, rest);
    Some(())
}

/// Exchanges the Ethernet addresses.
#[inline(always)]
fn turn_back<F: Frame>(frame: &mut F) -> Option<()> {
    let mut ether = frame.window_mut::<ETHER_ADDRESSES>(0)?;
    let words: [u16; 6] = [
        ether.read(0),
        ether.read(2),
        ether.read(4),
        ether.read(6),
        ether.read(8),
        ether.read(10),
    ];
    let mut place = 0;
    while place < words.len() {
        ether.write((place + 3) % 6 * 2, words[place]);
        place += 1;
    }
    Some(())
}
