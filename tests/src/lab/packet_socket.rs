//! Whole frames of one type, in and out of one interface, without waiting.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Namespace;

const LONGEST: usize = 2048;

pub struct PacketSocket(OwnedFd);

/// Somebody who looks into one again and again; Drop ends it.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// On a host's `eth0`.
    pub fn start(
        host: &Namespace,
        ether_type: u16,
        every: Duration,
        mut look: impl FnMut(&PacketSocket) + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = host.inside(|| -> Result<_> {
            let socket = PacketSocket::open("eth0", ether_type)?;
            Ok(thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    look(&socket);
                    thread::sleep(every);
                }
            }))
        })??;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl PacketSocket {
    /// Of the calling thread's namespace.
    pub fn open(interface: &str, ether_type: u16) -> Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: a plain call; a new descriptor is ours.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                i32::from(ether_type.to_be()),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("open a packet socket");
        }
        // SAFETY: just opened.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: any bytes are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ether_type.to_be();
        // SAFETY: a name that ends with a zero.
        address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
        // SAFETY: the address is as long as said, and outlives the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error()).context("bind a packet socket");
        }
        Ok(Self(socket))
    }

    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, frame)?;
        Ok(())
    }

    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; LONGEST];
        let length = rustix::io::read(&self.0, &mut frame[..]).ok()?;
        frame.truncate(length);
        Some(frame)
    }
}
