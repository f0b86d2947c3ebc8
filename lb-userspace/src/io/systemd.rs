//! Tells systemd, or whoever gave us a NOTIFY_SOCKET, how we do (sd_notify(3)); silent where nobody asked.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::{env, io};

use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// `ready` ends it.
pub fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(message: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    if let Err(error) = address.and_then(|address| send(&address, message)) {
        debug!(%error, "cannot reach the service manager");
    }
}

fn send(address: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), address).map(drop)
}
