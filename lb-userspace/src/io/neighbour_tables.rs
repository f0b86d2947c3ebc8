//! Reads how full the kernel's neighbour tables are. Outside the machine's first network namespace the kernel does not tell.

use std::fs;

use crate::core::neighbour_tables::Table;

const TABLES: [(&str, &str); 2] = [("ipv4", "arp_cache"), ("ipv6", "ndisc_cache")];

pub fn warnings() -> Vec<String> {
    let warning = |(family, name): (&str, &str)| {
        let statistics = fs::read_to_string(format!("/proc/net/stat/{name}")).ok()?;
        let limit = fs::read_to_string(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3")).ok()?;
        let table = Table {
            family,
            statistics: &statistics,
            limit: limit.trim().parse().ok()?,
        };
        table.warning()
    };
    TABLES.into_iter().filter_map(warning).collect()
}
