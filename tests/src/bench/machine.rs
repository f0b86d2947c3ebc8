//! What a reader must know about the machine to judge the figures, and what else happened on it meanwhile.

use std::fs;

use anyhow::{Context, Result};

pub fn describe(runs: u32) -> Result<String> {
    let system = rustix::system::uname();
    let cpus = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name);
    Ok(format!(
        "{} x {}, kernel {}; veth pairs between namespaces, not a network card\n{runs} rounds, contenders in turns; \
         a figure is the median of the rounds, a ratio the median of the rounds' ratios",
        cpus.lines().filter(|line| line.starts_with("processor")).count(),
        model.unwrap_or("unknown CPU"),
        system.release().to_string_lossy(),
    ))
}

/// CPU time taken from this machine by others, so far.
pub struct Snapshot {
    all: u64,
    stolen: u64,
    load: String,
}

impl Snapshot {
    pub fn take() -> Result<Self> {
        const STEAL: usize = 7;
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let ticks: Vec<u64> = text
            .lines()
            .next()
            .into_iter()
            .flat_map(str::split_whitespace)
            .filter_map(|t| t.parse().ok())
            .collect();
        let load = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
        Ok(Self {
            // User and nice contain the time of guests, which come after steal.
            all: ticks.iter().take(STEAL + 1).sum(),
            stolen: ticks.get(STEAL).copied().unwrap_or(0),
            load: load.split_whitespace().next().unwrap_or_default().to_owned(),
        })
    }

    pub fn since(&self) -> Result<String> {
        let now = Self::take()?;
        let share = (now.stolen - self.stolen) as f64 / (now.all - self.all).max(1) as f64;
        Ok(format!(
            "load average was {} when it began (more than 0.5 makes the figures doubtful); {:.1} % of CPU time was stolen",
            self.load,
            share * 100.0
        ))
    }
}
