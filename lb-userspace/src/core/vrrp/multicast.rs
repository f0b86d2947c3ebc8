//! An advert to the group as a whole frame. Sent as such it needs no entry in the kernel's neighbour table, which strangers
//! can fill; the kernel would drop an advert that finds no room there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::announcement::{IPV4, IPV6, ethernet};
use super::packet::{TTL, sum};

pub const PROTOCOL: u8 = 112;
/// "Internetwork control", as routers mark what they say to each other.
pub const CONTROL: u8 = 0xc0;
const DONT_FRAGMENT: u16 = 0x4000;

/// From the interface with this MAC. None: the destination is one host, whose MAC the kernel knows.
pub fn frame(mac: [u8; 6], source: IpAddr, destination: IpAddr, payload: &[u8]) -> Option<Vec<u8>> {
    if !destination.is_multicast() {
        return None;
    }
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(group)) => Some(ipv4(mac, source, group, payload)),
        (IpAddr::V6(source), IpAddr::V6(group)) => Some(ipv6(mac, source, group, payload)),
        _ => None,
    }
}

/// RFC 1112 §6.4.
fn ipv4(mac: [u8; 6], source: Ipv4Addr, group: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    const HEADER: usize = 20;
    let [_, a, b, c] = group.octets();
    let mut header = vec![0x45, CONTROL];
    header.extend(((HEADER + payload.len()) as u16).to_be_bytes());
    header.extend([0, 0]);
    header.extend(DONT_FRAGMENT.to_be_bytes());
    header.extend([TTL, PROTOCOL, 0, 0]);
    header.extend(source.octets());
    header.extend(group.octets());
    let sum = !sum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet([0x01, 0x00, 0x5e, a & 0x7f, b, c], mac, IPV4);
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// RFC 2464 §7.
fn ipv6(mac: [u8; 6], source: Ipv6Addr, group: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], mac, IPV6);
    // Version 6, the traffic class, no flow label.
    frame.extend([0x60 | CONTROL >> 4, CONTROL << 4, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([PROTOCOL, TTL]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::vrrp::packet::{Envelope, open_ipv4};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_advert_of_ipv4_is_heard_as_it_was_said() {
        let (source, group) = (address("198.18.0.2"), address("224.0.0.18"));
        let frame = frame(MAC, source, group, &[1, 2, 3]).expect("the group is multicast");
        assert_eq!(frame[..14], [0x01, 0, 0x5e, 0, 0, 0x12, 2, 0, 0, 0, 0, 7, 0x08, 0]);
        let (envelope, payload) = open_ipv4(&frame[14..]).expect("a datagram of VRRP");
        let expected = Envelope {
            source,
            destination: group,
            ttl: 255,
        };
        assert_eq!((envelope, payload), (expected, &[1, 2, 3][..]));
        assert_eq!((frame[15], sum(&[&frame[14..34]])), (0xc0, 0xffff));
    }

    #[test]
    fn an_advert_of_ipv6_goes_to_the_group_of_the_link() {
        let (source, group) = (address("fe80::2"), address("ff02::12"));
        let frame = frame(MAC, source, group, &[9]).expect("the group is multicast");
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 0x12, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        assert_eq!(frame[14..22], [0x6c, 0, 0, 0, 0, 1, 112, 255]);
        assert_eq!((frame[37], frame[53], frame[54]), (2, 0x12, 9));
    }

    #[test]
    fn what_is_for_one_host_is_left_to_the_kernel() {
        assert_eq!(frame(MAC, address("198.18.0.2"), address("198.18.0.3"), &[]), None);
    }
}
