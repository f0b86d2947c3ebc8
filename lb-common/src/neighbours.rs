//! Who asks for the hardware address of an address that this node must not answer for: ARP and neighbour discovery.
//!
//! All else of these protocols passes, whatever it says. Tested by the packet table.

use crate::decide::Tables;
use crate::family::Address;
use crate::frame::Frame;
use crate::lease::held;
use crate::parse::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Envelope};
use crate::verdict::Reason;
use crate::wire::{Be16, Be32, Ip};

/// Of Ethernet and IPv4.
const ARP: usize = 28;
const ARP_PROTOCOL: usize = 2;
const ARP_OPERATION: usize = 6;
const ARP_SENDER: usize = 14;
const ARP_TARGET: usize = 24;
const ARP_REQUEST: u16 = 1;

/// Of ICMPv6 (RFC 4861 §4.3).
const SOLICITATION: u8 = 135;
const SOLICITATION_TARGET: usize = 8;

#[inline(always)]
pub fn arp<F: Frame, T: Tables>(frame: &F, tables: &T, l3: usize) -> Reason {
    let Some(packet) = frame.window::<ARP>(l3) else {
        return Reason::NotIp;
    };
    let protocol: Be16 = packet.read(ARP_PROTOCOL);
    let operation: Be16 = packet.read(ARP_OPERATION);
    let sender: Be32 = packet.read(ARP_SENDER);
    let target: Be32 = packet.read(ARP_TARGET);
    // Whoever announces that it has the address now does not ask.
    if protocol.get() != ETHER_TYPE_IPV4 || operation.get() != ARP_REQUEST || sender.be == target.be {
        return Reason::NotIp;
    }
    asked_for(tables, &target.ip(), Reason::NotIp)
}

/// Of an ICMP packet that is no error.
#[inline(always)]
pub fn solicitation<F: Frame, A: Address, T: Tables>(frame: &F, tables: &T, envelope: &Envelope<A>) -> Reason {
    let kind: Option<u8> = frame.read(envelope.l4);
    match frame.read::<Ip>(envelope.l4 + SOLICITATION_TARGET) {
        Some(target) if A::ETHER_TYPE == ETHER_TYPE_IPV6 && kind == Some(SOLICITATION) => {
            asked_for(tables, &target, Reason::OtherProtocol)
        }
        _ => Reason::OtherProtocol,
    }
}

#[inline(always)]
fn asked_for<T: Tables>(tables: &T, address: &Ip, passed: Reason) -> Reason {
    match tables.shared_address(address).map(|lease| held(tables, lease)) {
        Some(Err(Reason::Fenced)) => Reason::Fenced,
        _ => passed,
    }
}
