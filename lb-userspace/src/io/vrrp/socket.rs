//! A raw socket for adverts: one interface and family. Hears whole datagrams, and says those for one host from a given
//! address; those for the group leave as whole frames.
//!
//! Understands nothing of them. Tested in the lab.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use crate::core::dns::Family;
use crate::core::vrrp::multicast::{CONTROL, PROTOCOL};
use crate::core::vrrp::packet::{Envelope, TTL, group, open_ipv4};
use crate::core::vrrp::refusal::Refusal;

const LONGEST: usize = 65_535;

pub struct Socket {
    fd: OwnedFd,
    ifindex: u32,
    family: Family,
    buffer: Box<[u8]>,
}

/// What was heard: an advert's bytes, or why there are none.
pub type Heard<'a> = Result<(Envelope, &'a [u8]), Refusal>;

impl Socket {
    pub fn open(interface: &str, ifindex: u32, family: Family) -> Result<Self> {
        let domain = match family {
            Family::Ipv4 => libc::AF_INET,
            Family::Ipv6 => libc::AF_INET6,
        };
        // SAFETY: a plain call; a new descriptor is ours.
        let fd = unsafe {
            libc::socket(
                domain,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                PROTOCOL.into(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("open a raw socket for VRRP");
        }
        let socket = Self {
            // SAFETY: just opened, and nobody else's.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            ifindex,
            family,
            buffer: vec![0; LONGEST].into(),
        };
        socket
            .set_up(interface)
            .with_context(|| format!("set up a socket for VRRP on {interface}"))?;
        Ok(socket)
    }

    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn set_up(&self, interface: &str) -> io::Result<()> {
        let name = CString::new(interface)?;
        self.set_bytes(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes_with_nul())?;
        // Before all else that leaves by the interface.
        self.set(libc::SOL_SOCKET, libc::SO_PRIORITY, 6_i32)?;
        match self.family {
            Family::Ipv4 => self.set_up_ipv4(),
            Family::Ipv6 => self.set_up_ipv6(),
        }
    }

    fn set_up_ipv4(&self) -> io::Result<()> {
        let by = libc::ip_mreqn {
            imr_multiaddr: in_addr(group_of(Family::Ipv4)),
            imr_address: libc::in_addr { s_addr: 0 },
            imr_ifindex: self.ifindex.cast_signed(),
        };
        let ip = libc::IPPROTO_IP;
        self.set(ip, libc::IP_ADD_MEMBERSHIP, by)?;
        self.set(ip, libc::IP_MULTICAST_ALL, 0_i32)?;
        self.set(ip, libc::IP_TTL, i32::from(TTL))?;
        self.set(ip, libc::IP_TOS, c_int::from(CONTROL))
    }

    fn set_up_ipv6(&self) -> io::Result<()> {
        let IpAddr::V6(group) = group(Family::Ipv6) else {
            unreachable!("the group of IPv6 is of IPv6");
        };
        let by = libc::ipv6_mreq {
            ipv6mr_multiaddr: in6_addr(group),
            ipv6mr_interface: self.ifindex,
        };
        let ip = libc::IPPROTO_IPV6;
        self.set(ip, libc::IPV6_ADD_MEMBERSHIP, by)?;
        self.set(ip, libc::IPV6_MULTICAST_ALL, 0_i32)?;
        self.set(ip, libc::IPV6_UNICAST_HOPS, i32::from(TTL))?;
        self.set(ip, libc::IPV6_TCLASS, c_int::from(CONTROL))?;
        self.set(ip, libc::IPV6_RECVPKTINFO, 1_i32)?;
        self.set(ip, libc::IPV6_RECVHOPLIMIT, 1_i32)?;
        // The checksum is ours: the kernel would refuse to let a wrong one be counted.
        self.set(ip, libc::IPV6_CHECKSUM, -1_i32)
    }

    fn set<T>(&self, level: c_int, option: c_int, value: T) -> io::Result<()> {
        // SAFETY: a `T` is as long as said, and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        check(result as isize).map(drop)
    }

    fn set_bytes(&self, level: c_int, option: c_int, value: &[u8]) -> io::Result<()> {
        // SAFETY: the bytes are as long as said, and outlive the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                value.as_ptr().cast(),
                value.len() as libc::socklen_t,
            )
        };
        check(result as isize).map(drop)
    }

    /// The next datagram; none: there is none just now.
    pub fn hear(&mut self) -> io::Result<Option<Heard<'_>>> {
        let mut source = zeroed_storage();
        let mut control = Control::default();
        let mut part = libc::iovec {
            iov_base: self.buffer.as_mut_ptr().cast(),
            iov_len: self.buffer.len(),
        };
        let mut header = header(&mut source, &mut part, &mut control);
        // SAFETY: all that the header points to outlives the call.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, 0) };
        let length = match check(length) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let datagram = &self.buffer[..length];
        Ok(Some(match self.family {
            Family::Ipv4 => open_ipv4(datagram),
            Family::Ipv6 => envelope(&source, &header)
                .map(|envelope| (envelope, datagram))
                .ok_or(Refusal::Truncated),
        }))
    }

    pub fn say(&self, source: IpAddr, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let mut to = self.address(destination);
        let mut control = Control::default();
        let mut part = libc::iovec {
            iov_base: payload.as_ptr().cast_mut().cast(),
            iov_len: payload.len(),
        };
        let mut header = header(&mut to, &mut part, &mut control);
        header.msg_namelen = match self.family {
            Family::Ipv4 => size_of::<libc::sockaddr_in>(),
            Family::Ipv6 => size_of::<libc::sockaddr_in6>(),
        } as libc::socklen_t;
        match source {
            IpAddr::V4(source) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: self.ifindex.cast_signed(),
                    ipi_spec_dst: in_addr(source),
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                put_control(&mut header, libc::IPPROTO_IP, libc::IP_PKTINFO, from);
            }
            IpAddr::V6(source) => {
                let from = libc::in6_pktinfo {
                    ipi6_addr: in6_addr(source),
                    ipi6_ifindex: self.ifindex,
                };
                put_control(&mut header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, from);
            }
        }
        // SAFETY: all that the header points to outlives the call.
        let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        check(sent).map(drop)
    }

    fn address(&self, of: IpAddr) -> libc::sockaddr_storage {
        let mut storage = zeroed_storage();
        match of {
            IpAddr::V4(address) => {
                // SAFETY: a `sockaddr_storage` is large enough and aligned for any address.
                let at = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
                at.sin_family = libc::AF_INET as u16;
                at.sin_addr = in_addr(address);
            }
            IpAddr::V6(address) => {
                // SAFETY: as above.
                let at = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
                at.sin6_family = libc::AF_INET6 as u16;
                at.sin6_addr = in6_addr(address);
                at.sin6_scope_id = self.ifindex;
            }
        }
        storage
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for what the kernel tells of a datagram, or we of one.
#[repr(align(8))]
struct Control([u8; 128]);

impl Default for Control {
    fn default() -> Self {
        Self([0; 128])
    }
}

fn header(address: &mut libc::sockaddr_storage, part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: any bytes are a valid header, zeroes too.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut *address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    header
}

/// The only one of this header.
fn put_control<T>(header: &mut libc::msghdr, level: c_int, kind: c_int, value: T) {
    // SAFETY: `Control` has room for one message of any type that is put here.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as usize;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        header.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
    }
}

/// Of a datagram of IPv6, whose header the kernel keeps.
fn envelope(source: &libc::sockaddr_storage, header: &libc::msghdr) -> Option<Envelope> {
    // SAFETY: of this family; a `sockaddr_storage` holds any address.
    let source = unsafe { &*(&raw const *source).cast::<libc::sockaddr_in6>() };
    let (mut destination, mut ttl) = (None, None);
    // SAFETY: the kernel has filled the header's messages, each of the type that its level and kind say.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data: *const c_void = libc::CMSG_DATA(message).cast();
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let to = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    destination = Some(Ipv6Addr::from(to.ipi6_addr.s6_addr));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    ttl = u8::try_from(data.cast::<c_int>().read_unaligned()).ok();
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    Some(Envelope {
        source: Ipv6Addr::from(source.sin6_addr.s6_addr).into(),
        destination: destination?.into(),
        ttl: ttl?,
    })
}

fn zeroed_storage() -> libc::sockaddr_storage {
    // SAFETY: any bytes are a valid one.
    unsafe { zeroed() }
}

fn group_of(family: Family) -> Ipv4Addr {
    match group(family) {
        IpAddr::V4(group) => group,
        IpAddr::V6(_) => unreachable!("the group of IPv4 is of IPv4"),
    }
}

const fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    }
}

const fn in6_addr(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: address.octets(),
    }
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
