//! Makes interfaces for virtual MACs, each so that it answers for its own addresses alone and says nothing by itself, and
//! removes them.
//!
//! Of settings of the kernel it touches those of these interfaces, which are ours. Tested in the lab.

use std::fs;
use std::io;

use anyhow::{Context as _, Result, bail};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};

use super::addresses::Addresses;
use crate::core::dns::Family;
use crate::core::sysctls::Sysctl;
use crate::core::vrrp::virtual_link::VirtualLink;

/// It answers for no address of other interfaces. Packets come by it and the answers leave by the interface below, so the way
/// back is never the way they came.
const OF_IPV4: &[(Family, &str, &str)] = &[
    (Family::Ipv4, "arp_ignore", "1"),
    (Family::Ipv4, "arp_filter", "0"),
    // Whatever that of all interfaces says: the higher one counts.
    (Family::Ipv4, "rp_filter", "2"),
    (Family::Ipv6, "disable_ipv6", "1"),
];
const OF_IPV6: &[(Family, &str, &str)] = &[
    (Family::Ipv4, "arp_ignore", "1"),
    // No address of its own, and none by what routers say.
    (Family::Ipv6, "addr_gen_mode", "1"),
    (Family::Ipv6, "accept_ra", "0"),
    // Groups are joined and left at once, by one message: nothing follows when the addresses are elsewhere.
    (Family::Ipv6, "force_mld_version", "1"),
    (Family::Ipv6, "mldv1_unsolicited_report_interval", "10"),
    (Family::Ipv6, "disable_ipv6", "0"),
];

/// Apart from other macvlans of the host, as if private. But with that the interface below hears nothing that others say
/// under the same MAC to a group: no advert of another master.
const MODE: MacVlanMode = MacVlanMode::Vepa;

impl Addresses {
    /// Down, and without addresses.
    pub fn make(&mut self, link: &VirtualLink) -> Result<()> {
        let mut message = LinkMessage::default();
        let mode = InfoData::MacVlan(vec![InfoMacVlan::Mode(MODE)]);
        message.attributes = vec![
            LinkAttribute::IfName(link.to_string()),
            LinkAttribute::Link(link.parent),
            LinkAttribute::Address(link.mac().to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(mode)]),
        ];
        let made = self.ask_one(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        if let Err(error) = made {
            bail!(in_words(&error));
        }
        set(link).inspect_err(|_| drop(self.unmake(link)))
    }

    /// With the addresses on it.
    pub fn unmake(&mut self, link: &VirtualLink) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(link.to_string()));
        match self.ask_one(RouteNetlinkMessage::DelLink(message), 0)? {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ask_one(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<io::Result<()>> {
        let failed = self.ask([(message, flags)]).context("change links (rtnetlink)")?;
        Ok(failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error)))
    }
}

fn in_words(error: &io::Error) -> String {
    let words = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the kernel has no macvlan",
        Some(libc::EBUSY) => "the interface below belongs to a bridge, a bond or the like",
        Some(libc::EINVAL) => "the interface below is no Ethernet, or another macvlan takes all of it (passthru)",
        Some(libc::EEXIST) => "an interface has that name",
        _ => return error.to_string(),
    };
    words.to_owned()
}

fn set(link: &VirtualLink) -> Result<()> {
    let settings = match link.family {
        Family::Ipv4 => OF_IPV4,
        Family::Ipv6 => OF_IPV6,
    };
    let name = link.to_string();
    for (family, key, value) in settings {
        let path = Sysctl::new(*family, &name, key).path();
        match fs::write(&path, value) {
            // A kernel without IPv6 says nothing by it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && link.family == Family::Ipv4 => {}
            written => written.with_context(|| format!("write {path}"))?,
        }
    }
    Ok(())
}
