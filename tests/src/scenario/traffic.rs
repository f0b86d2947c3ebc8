//! Traffic as the kernel counts it, so much in a second, by backend: new flows, and packets to clients.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_common::abi::BackendId;
use lb_userspace::core::status::Counters;

const EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Traffic {
    rates: BTreeMap<BackendId, u64>,
    /// None: there is nothing to read yet.
    next: Option<Duration>,
    unreadable: bool,
    /// Packets to clients: so many in a second, since then.
    carried: BTreeMap<BackendId, (u64, Duration)>,
}

impl Traffic {
    /// True where the command is one about traffic: `new_flows 1=600`, `carried 1=50`, `counters unreadable`.
    pub fn change(&mut self, command: &str, now: Duration) -> Result<bool> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["new_flows", ref rates @ ..] => {
                for rate in rates {
                    let (id, rate) = rate.split_once('=').context("a rate is ID=FLOWS")?;
                    self.rates.insert(id.parse()?, rate.parse()?);
                }
                self.next.get_or_insert(now);
            }
            ["carried", ref rates @ ..] => {
                for rate in rates {
                    let (id, rate) = rate.split_once('=').context("a rate is ID=PACKETS")?;
                    self.carried.insert(id.parse()?, (rate.parse()?, now));
                }
            }
            ["counters", "unreadable"] => self.unreadable = true,
            ["counters", "readable"] => self.unreadable = false,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How many packets its clients have got.
    pub fn carried(&self, backend: BackendId, now: Duration) -> u64 {
        let rate = self.carried.get(&backend);
        rate.map_or(0, |(rate, since)| rate * (now - *since).as_millis() as u64 / 1000)
    }

    /// When the counters are read.
    pub fn next(&self) -> Option<Duration> {
        self.next
    }

    /// False: they could not be read.
    pub fn count(&mut self, counters: &mut Counters) -> bool {
        self.next = self.next.map(|at| at + EVERY);
        for (id, rate) in &self.rates {
            counters.traffic.entry(*id).or_default().new_flows += rate;
        }
        !self.unreadable
    }
}
