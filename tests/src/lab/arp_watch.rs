//! A host that asks by ARP, every millisecond, who has an address, and remembers who answered: nobody but one may.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::packet_socket::PacketSocket;
use super::{Namespace, Twins};

const EVERY: Duration = Duration::from_millis(1);
const ARP: u16 = 0x0806;

type Mac = [u8; 6];

pub struct ArpWatch {
    answers: Arc<Mutex<Vec<(Instant, Mac)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ArpWatch {
    /// From a host with this address of its own.
    pub fn start(host: &Namespace, own: Ipv4Addr, of: IpAddr) -> Result<Self> {
        let IpAddr::V4(of) = of else { bail!("ARP is of IPv4") };
        let question = question(Twins::mac(host)?, own, of);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (told, stopped) = (Arc::clone(&answers), Arc::clone(&stop));
        let thread = host.inside(|| -> Result<_> {
            let socket = PacketSocket::open("eth0", ARP)?;
            Ok(thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let _lost = socket.send(&question);
                    while let Some(frame) = socket.receive() {
                        if let Some(mac) = answer(&frame, of) {
                            let now = Instant::now();
                            told.lock().unwrap_or_else(PoisonError::into_inner).push((now, mac));
                        }
                    }
                    thread::sleep(EVERY);
                }
            }))
        })??;
        Ok(Self {
            answers,
            stop,
            thread: Some(thread),
        })
    }

    /// Who answered, one after the other; whoever answers again after another did stands there twice.
    pub fn owners(&self) -> Vec<Mac> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut owners: Vec<Mac> = answers.iter().map(|(_, mac)| *mac).collect();
        owners.dedup();
        owners
    }

    /// How long `from` went on answering after `to` had begun to, since then.
    pub fn overlap(&self, since: Instant, from: Mac, to: Mac) -> Duration {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = || answers.iter().filter(|(at, _)| *at >= since);
        let first = answers().find(|(_, mac)| *mac == to).map(|(at, _)| *at);
        let last = answers().rfind(|(_, mac)| *mac == from).map(|(at, _)| *at);
        let both = last
            .zip(first)
            .map(|(last, first)| last.saturating_duration_since(first));
        both.unwrap_or_default()
    }

    /// The longest time without an answer since then.
    pub fn longest_silence(&self, since: Instant) -> Duration {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let times = answers.iter().map(|(at, _)| *at).filter(|at| *at >= since);
        let times: Vec<_> = [since].into_iter().chain(times).chain([Instant::now()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Drop for ArpWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn question(mac: Mac, own: Ipv4Addr, of: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
    frame.extend(own.octets());
    frame.extend([0; 6]);
    frame.extend(of.octets());
    frame
}

/// The sender of a reply.
fn answer(frame: &[u8], of: Ipv4Addr) -> Option<Mac> {
    let is_reply = frame.get(12..14)? == [8, 6] && frame.get(20..22)? == [0, 2];
    let mac = frame.get(22..28)?.try_into().ok()?;
    (is_reply && frame.get(28..32)? == of.octets()).then_some(mac)
}
