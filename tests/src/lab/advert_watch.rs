//! A host that hears the adverts of VRRP on its link: who sent them, and how far apart.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Namespace;
use super::packet_socket::Watcher;

const IPV4: u16 = 0x0800;
const VRRP: u8 = 112;
const LOOK: Duration = Duration::from_micros(500);

pub struct AdvertWatch {
    heard: Arc<Mutex<Vec<(Instant, Ipv4Addr, u8)>>>,
    _watcher: Watcher,
}

impl AdvertWatch {
    pub fn start(host: &Namespace) -> Result<Self> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let watcher = Watcher::start(host, IPV4, LOOK, move |socket| {
            while let Some(frame) = socket.receive() {
                if let Some((from, priority)) = advert(&frame) {
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    told.push((Instant::now(), from, priority));
                }
            }
        })?;
        Ok(Self {
            heard,
            _watcher: watcher,
        })
    }

    /// The longest time between two adverts of one sender in that time, its last one before a resignation aside.
    pub fn longest_gap(&self, since: Instant) -> BTreeMap<Ipv4Addr, Duration> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: BTreeMap<Ipv4Addr, Instant> = BTreeMap::new();
        let mut longest: BTreeMap<Ipv4Addr, Duration> = BTreeMap::new();
        for (at, from, priority) in heard.iter().filter(|(at, ..)| *at >= since) {
            if *priority == 0 {
                last.remove(from);
            } else if let Some(before) = last.insert(*from, *at) {
                let gap = longest.entry(*from).or_default();
                *gap = (*gap).max(*at - before);
            }
        }
        longest
    }
}

/// Its sender and priority.
fn advert(frame: &[u8]) -> Option<(Ipv4Addr, u8)> {
    let ip = frame.get(14..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let from: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
    (*ip.get(9)? == VRRP).then_some((from.into(), *ip.get(header + 2)?))
}
