//! Writes a flow's finished rewrite into a frame: addresses, ports, checksums, TTL, Ethernet header.
//!
//! Looks nothing up: all values were computed once, when the flow began.

use crate::abi::UDP;
use crate::checksum;
use crate::flow_table::Rewrite;
use crate::parse::{Frame, IP_CHECKSUM, IP_DESTINATION, IP_SOURCE, IP_TTL, Parsed, l4_checksum};

/// None where the frame is shorter than `parsed` says, which the kernel's verifier cannot rule out; the caller drops it.
#[inline(always)]
pub fn rewrite<F: Frame>(frame: &mut F, parsed: &Parsed, new: &Rewrite) -> Option<()> {
    let at = parsed.l4 + l4_checksum(parsed.key.protocol);
    let sum: u16 = frame.read(at)?;
    let sum = if parsed.key.protocol == UDP {
        checksum::apply_udp(sum, new.l4_delta)
    } else {
        checksum::apply(sum, new.l4_delta)
    };
    frame.write(at, sum)?;
    frame.write(parsed.l4, new.source_port)?;
    frame.write(parsed.l4 + 2, new.destination_port)?;

    let sum: u16 = frame.read(IP_CHECKSUM)?;
    frame.write(IP_CHECKSUM, checksum::apply(sum, new.ip_delta))?;
    frame.write(IP_TTL, parsed.ttl - 1)?;
    frame.write(IP_SOURCE, new.source)?;
    frame.write(IP_DESTINATION, new.destination)?;

    let [a, b, c] = new.next_hop.ether.words;
    frame.write(0, a)?;
    frame.write(4, b)?;
    frame.write(8, c)
}
