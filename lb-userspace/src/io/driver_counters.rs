//! Reads what drivers count of the frames that native XDP sends (`ethtool -S`), on a thread of its own: the kernel may
//! make a reader wait for whoever changes interfaces.
//!
//! Each driver has names of its own for its counters; `meaning` knows how they are built. Decides nothing.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketType, socket};
use tokio::sync::{mpsc, watch};

use crate::core::sent_frames::Sent;

const INTERVAL: Duration = Duration::from_secs(1);

/// From <linux/ethtool.h>.
const GET_DRIVER_INFO: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const STATISTICS: u32 = 1;
const STRING_LENGTH: usize = 32;
const DRIVER_INFO_LENGTH: usize = 196;
const DRIVER_INFO_COUNT: usize = 180;
/// A driver may get more counters between our questions, and writes them all.
const SPARE: usize = 4096;

/// The reader, on the network namespace of the thread that opened it; it ends with this value.
pub struct DriverCounters {
    wanted: watch::Sender<BTreeMap<u32, String>>,
    counted: mpsc::Receiver<BTreeMap<u32, Sent>>,
}

impl DriverCounters {
    pub fn open() -> anyhow::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).context("open a socket for ethtool")?;
        let (wanted, seen) = watch::channel(BTreeMap::new());
        let (sender, counted) = mpsc::channel(1);
        thread::Builder::new()
            .name("drivers".to_owned())
            .spawn(move || read_all(&socket, &seen, &sender))
            .context("start the thread that reads drivers' counters")?;
        Ok(Self { wanted, counted })
    }

    /// Reads these interfaces, by index and name, from now on.
    pub fn follow(&self, interfaces: BTreeMap<u32, String>) {
        self.wanted.send_if_modified(|wanted| {
            let differs = *wanted != interfaces;
            *wanted = interfaces;
            differs
        });
    }

    /// Returns once a second, while there is an interface to read. Cancel safe.
    pub async fn counted(&mut self) -> BTreeMap<u32, Sent> {
        match self.counted.recv().await {
            Some(counted) => counted,
            None => std::future::pending().await,
        }
    }
}

fn read_all(
    socket: &OwnedFd,
    wanted: &watch::Receiver<BTreeMap<u32, String>>,
    sender: &mpsc::Sender<BTreeMap<u32, Sent>>,
) {
    while !sender.is_closed() {
        let interfaces = wanted.borrow().clone();
        let read = |(ifindex, name): (u32, String)| Some((ifindex, sum(&counters(socket, &name).ok()?)));
        let counted: BTreeMap<u32, Sent> = interfaces.into_iter().filter_map(read).collect();
        if !counted.is_empty() {
            // A daemon that has not taken the last ones has better to do.
            let _ = sender.try_send(counted);
        }
        thread::sleep(INTERVAL);
    }
}

fn sum(counters: &[(String, u64)]) -> Sent {
    let mut all = Sent::default();
    for (name, value) in counters {
        match meaning(name) {
            Some(Meaning::Sent) => all.sent += value,
            Some(Meaning::Lost) => all.lost += value,
            None => {}
        }
    }
    all
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Sent,
    Lost,
}

/// What a counter says of frames that XDP sends. `xdp_drops` alone may be frames that the program itself dropped.
fn meaning(name: &str) -> Option<Meaning> {
    const LOST: [&str; 5] = ["_errors", "_err", "_full", "_tx_drops", "_bad_drops"];
    const SENT: [&str; 5] = ["_tx", "_redirect", "_redirects", "_xmit", "_tx_xmit"];
    // Some drivers write the queue behind the name.
    let name = name.split('[').next().unwrap_or(name);
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if name.contains("xdp") {
        return match () {
            () if ends(&LOST) => Some(Meaning::Lost),
            () if ends(&SENT) => Some(Meaning::Sent),
            () => None,
        };
    }
    // veth counts redirects that failed here, and nothing else while it has a program.
    let is_veths = name.starts_with("rx_queue_") && name.ends_with("_drops");
    is_veths.then_some(Meaning::Lost)
}

fn counters(socket: &OwnedFd, interface: &str) -> Result<Vec<(String, u64)>> {
    let mut info = Buffer::new(DRIVER_INFO_LENGTH);
    info.set(0, GET_DRIVER_INFO);
    info.ask(socket, interface)?;
    let count = info.get(DRIVER_INFO_COUNT);
    let length = count as usize + SPARE;

    let mut names = Buffer::new(12 + length * STRING_LENGTH);
    names.set(0, GET_STRINGS);
    names.set(4, STATISTICS);
    names.set(8, count);
    names.ask(socket, interface)?;

    let mut values = Buffer::new(8 + length * 8);
    values.set(0, GET_STATISTICS);
    values.set(4, count);
    values.ask(socket, interface)?;

    let count = count.min(names.get(8)).min(values.get(4)) as usize;
    let name = |at: usize| {
        let bytes = &names.bytes()[12 + at * STRING_LENGTH..][..STRING_LENGTH];
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    Ok((0..count).map(|at| (name(at), values.words[1 + at])).collect())
}

/// Bytes that the kernel reads a request from and writes its answer to.
struct Buffer {
    words: Vec<u64>,
}

impl Buffer {
    fn new(length: usize) -> Self {
        let words = vec![0; length.div_ceil(8)];
        Self { words }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the words are initialised, and any byte may be read.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }

    fn get(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes()[at..at + 4]);
        u32::from_ne_bytes(word)
    }

    fn set(&mut self, at: usize, value: u32) {
        // SAFETY: as `bytes`, and nobody else has them.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast::<u8>(), self.words.len() * 8) };
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn ask(&mut self, socket: &OwnedFd, interface: &str) -> Result<()> {
        // SAFETY: all zeroes are a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays 0.
        let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (place, byte) in places.zip(interface.bytes()) {
            *place = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_data = self.words.as_mut_ptr().cast();
        // SAFETY: the request and the buffer it names live through the call, and the buffer has room for the answer.
        match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_each_driver_are_understood() {
        for (name, expected) in [
            ("rx_queue_0_xdp_tx", Some(Meaning::Sent)),
            ("rx_queue_0_xdp_tx_errors", Some(Meaning::Lost)),
            ("rx_queue_0_drops", Some(Meaning::Lost)),
            ("tx_queue_3_xdp_xmit_errors", Some(Meaning::Lost)),
            ("rx_queue_0_xdp_drops", None),
            ("rx_queue_0_xdp_packets", None),
            // virtio_net
            ("rx0_xdp_redirects", Some(Meaning::Sent)),
            ("tx0_xdp_tx_drops", Some(Meaning::Lost)),
            ("rx0_xdp_drops", None),
            // mlx5
            ("rx_xdp_tx_full", Some(Meaning::Lost)),
            ("tx_xdp_err", Some(Meaning::Lost)),
            ("rx_xdp_tx_xmit", Some(Meaning::Sent)),
            ("rx_xdp_drop", None),
            // gve
            ("rx_xdp_redirect_errors[0]", Some(Meaning::Lost)),
            ("rx_crc_errors", None),
            ("tx_queue_0_bytes", None),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }
}
