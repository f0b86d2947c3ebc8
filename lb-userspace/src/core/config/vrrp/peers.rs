//! Whether the peers of an instance can be heard, as far as the file shows it.
//!
//! What only the host knows is for `core::sysctls`. Tested with the rest of the section.

use std::net::IpAddr;

use super::{addresses, family};
use crate::core::config::diagnostic::Report;
use crate::core::config::file;
use crate::core::dns::Family;
use crate::core::network::{Prefix, longest};

/// VRRP does not cross routers: a peer that is not on the link would be master beside us.
pub fn check(who: &str, vrrp: &file::Vrrp, report: &mut Report<'_>) {
    let blocks = addresses(vrrp).map(|own| Prefix::around(own.value.0, own.value.1));
    // The block of one address says nothing about the link.
    let blocks: Vec<_> = blocks.filter(|block| block.length < longest(block.address)).collect();
    for peer in vrrp.peers.value().into_iter().flat_map(|list| &list.0) {
        let address = peer.value.0;
        if family(vrrp).is_some_and(|family| family != Family::of(address)) {
            continue;
        }
        let is_link_local = matches!(address, IpAddr::V6(ipv6) if ipv6.is_unicast_link_local());
        if address.is_ipv6() && !is_link_local {
            let message =
                format!("{who}: {address} would not be heard: in IPv6 adverts come from link-local addresses");
            report.error(
                &peer.span,
                message,
                "give the one of fe80::/64 that the peer has there".to_owned(),
            );
        } else if !is_link_local && !blocks.is_empty() && !blocks.iter().any(|block| block.contains(address)) {
            let message = format!("{who}: {address} is not on the link: adverts that cross a router are not heard");
            let hint = "give the peer's address on this link; where that is of another network than the addresses, give \
                        these with /32";
            report.error(&peer.span, message, hint.to_owned());
        }
    }
}
