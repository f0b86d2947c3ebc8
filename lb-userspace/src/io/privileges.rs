//! What this process may do, as far as it matters here; asked before anything is tried half-way.

use std::fs;

use anyhow::{Context as _, bail};

/// Names and numbers of linux/capability.h.
const NEEDED: [(&str, u32); 4] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];
/// Stands for the latter two.
const SYS_ADMIN: u32 = 21;
const OF_NETWORKS: [u32; 2] = [12, 13];

pub fn check() -> anyhow::Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let effective = effective(&status).context("find CapEff in /proc/self/status")?;
    let missing = missing(effective);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "naru needs root, or the capabilities CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON, to load and attach \
         its program and to reset connections; it lacks {}",
        missing.join(", ")
    );
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |number: u32| effective & (1 << number) != 0;
    let covered = |number: u32| has(number) || (!OF_NETWORKS.contains(&number) && has(SYS_ADMIN));
    NEEDED
        .iter()
        .filter(|(_, number)| !covered(*number))
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capabilities_are_named() {
        assert_eq!(missing(u64::MAX), [""; 0]);
        assert_eq!(missing(1 << 12 | 1 << 13 | 1 << 38 | 1 << 39), [""; 0]);
        assert_eq!(
            missing(1 << 12 | 1 << 13 | 1 << 21),
            [""; 0],
            "as on kernels where CAP_SYS_ADMIN was all there was"
        );
        assert_eq!(missing(1 << 21), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(missing(1 << 12), ["CAP_NET_RAW", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing(0), ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON", "CAP_BPF"]);
    }

    #[test]
    fn the_effective_set_is_read() {
        let status = "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000201000\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(1 << 12 | 1 << 21));
    }
}
