//! Names a configured thing by a number that every node and every version of the daemon finds alike.
//!
//! Pinned maps and slot tables rest on it: a change here orphans the pins of an older daemon.

use std::net::SocketAddr;

use super::config::Protocol;

pub fn service(name: &str) -> u64 {
    hash(&["service", name])
}

pub fn backend(service: &str, name: &str, address: SocketAddr, protocol: Protocol) -> u64 {
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    hash(&["backend", service, name, &address.to_string(), protocol])
}

/// FNV-1a, then mixed so that similar names differ in every bit; 0 means "nobody" in the maps.
fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // 0xff is in no UTF-8 text, so ("ab", "c") differs from ("a", "bc").
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash).max(1)
}

/// The finish of splitmix64.
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 1, 11)), 8080);

    #[test]
    fn numbers_stay_as_pinned_maps_of_older_daemons_have_them() {
        assert_eq!(service("web"), 14_970_000_223_063_673_144);
        assert_eq!(
            backend("web", "rack", ADDRESS, Protocol::Tcp),
            7_845_847_761_064_078_515
        );
    }

    #[test]
    fn every_part_counts() {
        let rack = backend("web", "rack", ADDRESS, Protocol::Tcp);
        assert_ne!(rack, backend("web", "rack", ADDRESS, Protocol::Udp));
        assert_ne!(rack, backend("web2", "rack", ADDRESS, Protocol::Tcp));
        assert_ne!(rack, backend("webr", "ack", ADDRESS, Protocol::Tcp));
        assert_ne!(
            rack,
            backend("web", "rack", SocketAddr::new(ADDRESS.ip(), 80), Protocol::Tcp)
        );
    }
}
