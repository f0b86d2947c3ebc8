//! Sends whole frames out of an interface, past routes and filters, as the XDP program does.
//!
//! Receives nothing. What is sent, and where, is decided elsewhere.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

pub struct Frames(OwnedFd);

impl Frames {
    pub fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol: nothing comes in.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
        Ok(Self(socket.context("open a packet socket")?))
    }

    /// Its frames leave before all else that leaves by an interface.
    pub fn open_for_control() -> Result<Self> {
        let frames = Self::open()?;
        let priority: libc::c_int = 6;
        // SAFETY: the value is as long as said, and outlives the call.
        let set = unsafe {
            libc::setsockopt(
                frames.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PRIORITY,
                (&raw const priority).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set < 0 {
            return Err(io::Error::last_os_error()).context("set the priority of a packet socket");
        }
        Ok(frames)
    }

    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: any bytes are a valid address, zeroes too.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex.cast_signed();
        // SAFETY: the frame and the address are as long as said, and outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
