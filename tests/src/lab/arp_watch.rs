//! A host that asks by ARP, every millisecond, who has an address, and remembers who answered: nobody but one may.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::packet_socket::Watcher;
use super::{Namespace, Twins};

const EVERY: Duration = Duration::from_millis(1);
const ARP: u16 = 0x0806;

type Mac = [u8; 6];

pub struct ArpWatch {
    answers: Arc<Mutex<Vec<(Instant, Mac)>>>,
    _watcher: Watcher,
}

impl ArpWatch {
    /// From a host with this address of its own.
    pub fn start(host: &Namespace, own: Ipv4Addr, of: IpAddr) -> Result<Self> {
        let IpAddr::V4(of) = of else { bail!("ARP is of IPv4") };
        let question = question(Twins::mac(host)?, own, of);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answers);
        let watcher = Watcher::start(host, ARP, EVERY, move |socket| {
            let _lost = socket.send(&question);
            while let Some(frame) = socket.receive() {
                if let Some(mac) = answer(&frame, of) {
                    let now = Instant::now();
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((now, mac));
                }
            }
        })?;
        Ok(Self {
            answers,
            _watcher: watcher,
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
