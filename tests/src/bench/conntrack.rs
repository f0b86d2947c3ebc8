//! The connection table, which all namespaces share: as large as it is set up for a million flows; as it was on Drop.

use anyhow::{Context, Result};

pub struct Conntrack {
    before: [String; 2],
}

impl Conntrack {
    const FILES: [&str; 2] = [
        "/proc/sys/net/netfilter/nf_conntrack_buckets",
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ];
    /// Two entries a flow, and half of it left empty.
    const SIZE: &str = "4194304";

    pub fn enlarge() -> Result<Self> {
        let before = Self::FILES.map(|file| std::fs::read_to_string(file).with_context(|| format!("read {file}")));
        let [buckets, max] = before;
        let before = [buckets?, max?];
        for file in Self::FILES {
            std::fs::write(file, Self::SIZE).with_context(|| format!("write {file}"))?;
        }
        Ok(Self { before })
    }
}

impl Drop for Conntrack {
    fn drop(&mut self) {
        for (file, before) in Self::FILES.iter().zip(&self.before) {
            if let Err(error) = std::fs::write(file, before) {
                eprintln!("{file} stays at {}: {error}", Self::SIZE);
            }
        }
    }
}
