//! A cable of two taps: a thread carries each frame from one namespace to the other, as a virtual machine's host does.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Namespace;

const LONGEST: usize = 1 << 16;
const LOOK_UP: Duration = Duration::from_millis(100);

/// Drop removes both taps.
pub struct TapCable {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TapCable {
    pub fn between(a: &Namespace, a_end: &str, b: &Namespace, b_end: &str) -> Result<Self> {
        let ends = [open(a, a_end)?, open(b, b_end)?];
        a.ip(&format!("link set {a_end} up"))?;
        b.ip(&format!("link set {b_end} up"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                carry(&ends);
            }
        });
        let thread = Some(thread);
        Ok(Self { stop, thread })
    }
}

impl Drop for TapCable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(namespace: &Namespace, name: &str) -> Result<File> {
    // It belongs to the namespace of the thread that opens it.
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        options.open("/dev/net/tun")
    };
    let file = namespace.inside(open)?.context("open /dev/net/tun")?;
    // SAFETY: all zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives through the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    ensure!(made == 0, "make tap {name}: {}", Error::last_os_error());
    Ok(file)
}

fn carry(ends: &[File; 2]) {
    let mut ready = [
        PollFd::new(&ends[0], PollFlags::IN),
        PollFd::new(&ends[1], PollFlags::IN),
    ];
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK_UP.subsec_nanos().into(),
    };
    let _ = poll(&mut ready, Some(&wait));
    let mut frame = vec![0; LONGEST];
    let [a, b] = ends;
    for (mut from, mut to) in [(a, b), (b, a)] {
        loop {
            match from.read(&mut frame) {
                // A tap that is full loses frames, as a cable does.
                Ok(length) => drop(to.write(&frame[..length])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
}
