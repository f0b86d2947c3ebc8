//! A host that asks by ARP, every millisecond, who has an address, and remembers who answered: nobody but one may.
//!
//! It asks as who has no address yet, of which nobody makes a neighbour, and under another MAC each time, which says when:
//! an answer may be on its way for long where a core is busy, and by then its sender may have left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::packet_socket::Watcher;
use super::{Namespace, Twins};

const EVERY: Duration = Duration::from_millis(1);
const ARP: u16 = 0x0806;
/// How the MACs begin under which it asks: nobody's.
const ASKER: [u8; 2] = [0x02, 0xa5];

type Mac = [u8; 6];

pub struct ArpWatch {
    answers: Arc<Mutex<Vec<Answer>>>,
    _watcher: Watcher,
}

#[derive(Clone, Copy)]
struct Answer {
    by: Mac,
    asked: Instant,
    came: Instant,
}

impl ArpWatch {
    pub fn start(host: &Namespace, of: IpAddr) -> Result<Self> {
        let IpAddr::V4(of) = of else { bail!("ARP is of IPv4") };
        let mac = Twins::mac(host)?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answers);
        let begun = Instant::now();
        let watcher = Watcher::start(host, ARP, EVERY, move |socket| {
            let asked = u32::try_from(begun.elapsed().as_micros()).expect("an hour is not over");
            let _lost = socket.send(&question(mac, asked, of));
            while let Some(frame) = socket.receive() {
                if let Some((by, asked)) = answer(&frame, of) {
                    let (asked, came) = (begun + Duration::from_micros(asked.into()), Instant::now());
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    told.push(Answer { by, asked, came });
                }
            }
        })?;
        Ok(Self {
            answers,
            _watcher: watcher,
        })
    }

    /// Who answered, one after the other; whoever was asked after another had answered, and answers again, stands there
    /// twice.
    pub fn owners(&self) -> Vec<Mac> {
        let mut owners: Vec<Answer> = Vec::new();
        for answer in self.answers().iter() {
            let is_news = |last: &Answer| last.by != answer.by && answer.asked > last.came;
            if owners.last().is_none_or(is_news) {
                owners.push(*answer);
            }
        }
        owners.iter().map(|owner| owner.by).collect()
    }

    /// How many questions more than one answered.
    pub fn answered_twice(&self) -> usize {
        let mut answers: BTreeMap<Instant, BTreeSet<Mac>> = BTreeMap::new();
        for answer in self.answers().iter() {
            answers.entry(answer.asked).or_default().insert(answer.by);
        }
        answers.values().filter(|by| by.len() > 1).count()
    }

    /// How long after `to` had begun to answer somebody asked whom `from` answered, since then.
    pub fn overlap(&self, since: Instant, from: Mac, to: Mac) -> Duration {
        let answers = self.answers();
        let answers = || answers.iter().filter(|answer| answer.asked >= since);
        let first = answers().find(|answer| answer.by == to).map(|answer| answer.came);
        let last = answers().rfind(|answer| answer.by == from).map(|answer| answer.asked);
        let both = last
            .zip(first)
            .map(|(last, first)| last.saturating_duration_since(first));
        both.unwrap_or_default()
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn question(mac: Mac, asked: u32, of: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &ASKER].concat();
    frame.extend(asked.to_be_bytes());
    frame.extend(Ipv4Addr::UNSPECIFIED.octets());
    frame.extend([0; 6]);
    frame.extend(of.octets());
    frame
}

/// Of a reply to us: its sender, and what it was asked.
fn answer(frame: &[u8], of: Ipv4Addr) -> Option<(Mac, u32)> {
    let is_reply = frame.get(12..14)? == [8, 6] && frame.get(20..22)? == [0, 2];
    let is_ours = frame.get(28..32)? == of.octets() && frame.get(32..34)? == ASKER;
    let by = frame.get(22..28)?.try_into().ok()?;
    let asked = u32::from_be_bytes(frame.get(34..38)?.try_into().ok()?);
    (is_reply && is_ours).then_some((by, asked))
}
