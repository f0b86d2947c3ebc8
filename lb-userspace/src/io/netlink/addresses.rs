//! Puts addresses on interfaces and takes them off, marked as ours, sets interfaces of ours up and down, and sees what is
//! there; without tokio, for whoever must not wait for others.
//!
//! Decides nothing of who has which address, and touches none but those it is told. Tested in the lab.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use tracing::debug;

use super::picture;
use crate::core::network::Link;
use crate::core::vrrp::settings::Address;
use crate::core::vrrp::virtual_link::VirtualLink;

/// As `ip -d address` shows it, from Linux 5.18 on: whose address this is.
const MARK: AddressProtocol = AddressProtocol::Other(112);

const DUMPED_AGAIN: usize = 2;

/// So many steps are one call to the kernel: its answers have to fit the socket.
pub const STEPS_AT_ONCE: usize = 32;

pub struct Addresses {
    requests: Socket,
    news: Socket,
    sequence: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub link: Link,
    /// Those with our mark, whoever of us left them.
    pub marked: Vec<Address>,
    /// It is an interface of ours.
    pub virtual_link: Option<VirtualLink>,
    /// Whether it carries anything or not.
    pub is_set_up: bool,
    pub is_macvlan: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Routed: with a route to its block by this interface.
    Put {
        own: Address,
        routed: bool,
    },
    Remove(Address),
    SetUp,
    SetDown,
}

/// As failures put it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { own, .. } => write!(f, "put {own}"),
            Self::Remove(own) => write!(f, "remove {own}"),
            Self::SetUp => f.write_str("set the interface of the virtual MAC up"),
            Self::SetDown => f.write_str("set the interface of the virtual MAC down"),
        }
    }
}

impl Step {
    /// In an operator's words, where the kernel's are not.
    pub fn why(&self, error: &io::Error) -> String {
        match (self, error.raw_os_error()) {
            (Self::SetUp, Some(libc::EBUSY)) => "another macvlan there has that MAC".to_owned(),
            _ => error.to_string(),
        }
    }
}

type Message = NetlinkMessage<RouteNetlinkMessage>;

impl Addresses {
    /// Of the network namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let open = || -> io::Result<_> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            Ok(socket)
        };
        let requests = open().context("open an rtnetlink socket")?;
        let news = open().context("open an rtnetlink socket")?;
        for group in [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ] {
            let joined = news.add_membership(group as u32);
            joined.context("subscribe to changes of addresses (rtnetlink)")?;
        }
        news.set_non_blocking(true).context("open an rtnetlink socket")?;
        Ok(Self {
            requests,
            news,
            sequence: 0,
        })
    }

    /// Readable when something has changed.
    pub fn news(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns it as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.news.as_raw_fd()) }
    }

    /// True: something may have changed since the last call. An overrun is news, too.
    pub fn take_news(&self) -> bool {
        let mut any = false;
        loop {
            match self.news.recv(&mut &mut [0; 8192][..], 0) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(_) => return true,
            }
        }
    }

    /// All interfaces, by index.
    pub fn look(&mut self) -> Result<BTreeMap<u32, Interface>> {
        let mut interfaces = BTreeMap::new();
        let links = self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()));
        for message in links.context("read links (rtnetlink)")? {
            if let RouteNetlinkMessage::NewLink(message) = message {
                let (ifindex, interface) = interface(&message);
                interfaces.insert(ifindex, interface);
            }
        }
        let addresses = self.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        for message in addresses.context("read addresses (rtnetlink)")? {
            let RouteNetlinkMessage::NewAddress(message) = message else {
                continue;
            };
            let Some(interface) = interfaces.get_mut(&message.header.index) else {
                continue;
            };
            let Some(own) = picture::address(&message) else {
                continue;
            };
            if message.attributes.contains(&AddressAttribute::Protocol(MARK)) {
                interface.marked.push(own.into());
            } else {
                interface.link.addresses.push(own);
            }
        }
        Ok(interfaces)
    }

    /// Takes all of these steps, in order; the failures. At most `STEPS_AT_ONCE`.
    pub fn take(&mut self, ifindex: u32, steps: &[Step]) -> Result<Vec<(Step, io::Error)>> {
        let failed = self.ask(steps.iter().map(|step| request(ifindex, step)));
        let failed = failed.context("change addresses (rtnetlink)")?;
        let failed = failed.into_iter().map(|(number, error)| (steps[number], error));
        Ok(failed.filter(|(step, error)| !is_done_already(step, error)).collect())
    }

    /// All of these at once; those that failed, by their place.
    pub(super) fn ask(
        &mut self,
        requests: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> Result<Vec<(usize, io::Error)>> {
        let first = self.sequence.wrapping_add(1);
        let mut buffer = Vec::new();
        for (message, flags) in requests {
            self.append(&mut buffer, message, flags | NLM_F_ACK);
        }
        self.requests.send(&buffer, 0)?;
        let mut failures = Vec::new();
        let asked = self.sequence.wrapping_add(1).wrapping_sub(first) as usize;
        let mut awaited = asked;
        while awaited > 0 {
            for answer in self.receive()? {
                let number = answer.header.sequence_number.wrapping_sub(first) as usize;
                let NetlinkPayload::Error(error) = answer.payload else {
                    continue;
                };
                if number >= asked {
                    continue;
                }
                awaited -= 1;
                if error.code.is_some() {
                    failures.push((number, error.to_io()));
                }
            }
        }
        Ok(failures)
    }

    fn append(&mut self, buffer: &mut Vec<u8>, payload: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        message.finalize();
        let start = buffer.len();
        buffer.resize((start + message.buffer_len()).next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..]);
    }

    /// Once more where something changed meanwhile, of which a part may be missing.
    fn dump(&mut self, of: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let mut found = self.dump_once(of)?;
        for _ in 0..DUMPED_AGAIN {
            if found.1 {
                found = self.dump_once(of)?;
            }
        }
        Ok(found.0)
    }

    /// True: it was interrupted.
    fn dump_once(&mut self, of: &RouteNetlinkMessage) -> Result<(Vec<RouteNetlinkMessage>, bool)> {
        let mut buffer = Vec::new();
        self.append(&mut buffer, of.clone(), NLM_F_DUMP);
        self.requests.send(&buffer, 0)?;
        let (mut found, mut interrupted) = (Vec::new(), false);
        loop {
            for answer in self.receive()? {
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => return Ok((found, interrupted)),
                    NetlinkPayload::Error(error) => bail!(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// All of one datagram but for what nobody here understands: an interface of a new kind hides no other.
    fn receive(&self) -> Result<Vec<Message>> {
        let (bytes, _) = self.requests.recv_from_full()?;
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
            match Message::deserialize(rest) {
                Ok(message) => messages.push(message),
                Err(error) => debug!(%error, "not understood, and left out (rtnetlink)"),
            }
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

fn interface(message: &LinkMessage) -> (u32, Interface) {
    let (ifindex, link) = picture::link(message);
    let macvlan = |info: &LinkInfo| matches!(info, LinkInfo::Kind(InfoKind::MacVlan | InfoKind::MacVtap));
    let is_macvlan = message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(macvlan),
        _ => false,
    });
    let interface = Interface {
        virtual_link: VirtualLink::recognise(&link.name, link.mac),
        is_set_up: message.header.flags.contains(LinkFlags::Up),
        is_macvlan,
        link,
        marked: Vec::new(),
    };
    (ifindex, interface)
}

fn request(ifindex: u32, step: &Step) -> (RouteNetlinkMessage, u16) {
    let set = |flags| {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        (RouteNetlinkMessage::SetLink(message), 0)
    };
    match step {
        Step::Put { own, routed } => {
            let message = RouteNetlinkMessage::NewAddress(message(ifindex, *own, *routed));
            (message, NLM_F_CREATE | NLM_F_REPLACE)
        }
        Step::Remove(own) => (RouteNetlinkMessage::DelAddress(message(ifindex, *own, true)), 0),
        Step::SetUp => set(LinkFlags::Up),
        Step::SetDown => set(LinkFlags::empty()),
    }
}

/// Somebody took it off, or the interface is gone with it.
fn is_done_already(step: &Step, error: &io::Error) -> bool {
    let gone = [libc::EADDRNOTAVAIL, libc::ENODEV].map(Some);
    matches!(step, Step::Remove(_) | Step::SetDown) && gone.contains(&error.raw_os_error())
}

/// No probe for a double: it would take a second, and the address is ours by VRRP. And no source that the kernel chooses
/// by itself, which in IPv4 is the first address of a prefix anyway.
fn message(ifindex: u32, own: Address, routed: bool) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.prefix_len = own.length;
    message.header.scope = AddressScope::Universe;
    message.header.family = match own.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let attributes = &mut message.attributes;
    attributes.push(AddressAttribute::Local(own.address));
    attributes.push(AddressAttribute::Address(own.address));
    attributes.push(AddressAttribute::Protocol(MARK));
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, !routed);
    if own.address.is_ipv6() {
        flags |= AddressFlags::Nodad;
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = u32::MAX;
        lifetime.ifa_preferred = 0;
        attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    attributes.push(AddressAttribute::Flags(flags));
    message
}
