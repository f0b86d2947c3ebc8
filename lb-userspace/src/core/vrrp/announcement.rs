//! The frames that tell a link where an address is now: an ARP request for itself, a neighbour advertisement.
//!
//! When and how often is for the machine and whoever sends them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::sum;

const BROADCAST: [u8; 6] = [0xff; 6];
/// Of ff02::1.
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

const ARP: u16 = 0x0806;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;

const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// Not asked for, and it replaces what was known.
const OVERRIDE: u8 = 0x20;
const FROM_A_ROUTER: u8 = 0x80;
const TARGET_LINK_ADDRESS: u8 = 2;
const HOP_LIMIT: u8 = 255;

/// From the interface with this hardware address.
pub fn announcement(mac: [u8; 6], address: IpAddr, routes: bool) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(mac, address),
        IpAddr::V6(address) => advertisement(mac, address, routes),
    }
}

/// RFC 5227 §3: a request whose sender and target are the address. Hosts take requests for news, and some take no
/// replies.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ARP);
    for number in [ETHERNET, IPV4, 0x0604, REQUEST] {
        frame.extend(number.to_be_bytes());
    }
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// RFC 4861 §7.2.6.
fn advertisement(mac: [u8; 6], address: Ipv6Addr, routes: bool) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let flags = OVERRIDE | if routes { FROM_A_ROUTER } else { 0 };
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_LINK_ADDRESS, 1]);
    message.extend(mac);
    let length = message.len() as u16;
    let mut covered = [address.octets(), all_nodes.octets()].concat();
    covered.extend([0, 0, (length >> 8) as u8, length as u8, 0, 0, 0, ICMPV6]);
    covered.extend(&message);
    let sum = !sum(&[&covered]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES, mac, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(address.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}

pub(super) fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16) -> Vec<u8> {
    let mut frame = [destination, source].concat();
    frame.extend(kind.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn arp_asks_for_its_own_address() {
        let frame = announcement(MAC, [198, 18, 0, 100].into(), false);
        let expected = [
            &BROADCAST[..],
            &MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &MAC,
            &[198, 18, 0, 100],
            &[0; 6],
            &[198, 18, 0, 100],
        ]
        .concat();
        assert_eq!(frame, expected);
    }

    #[test]
    fn an_advertisement_goes_to_all_nodes_with_a_right_sum() {
        let address: Ipv6Addr = "2001:db8:18::100".parse().expect("an address");
        for (routes, flags) in [(false, 0x20), (true, 0xa0)] {
            let frame = announcement(MAC, address.into(), routes);
            assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
            assert_eq!((frame[20], frame[21]), (58, 255));
            assert_eq!(frame[22..38], address.octets());
            assert_eq!((frame[54], frame[58]), (136, flags));
            assert_eq!(frame[62..78], address.octets());
            assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 1]);
            let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58], &frame[54..]].concat();
            assert_eq!(!sum(&[&pseudo]), 0);
        }
    }
}
