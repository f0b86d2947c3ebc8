//! Whether the kernel's neighbour tables have room: a host that finds none in them cannot be reached. What strangers ask for
//! from many addresses fills them, and all network namespaces of a machine share the limit.
//!
//! Our own next hops and peers do not count against it (`io::netlink` marks them), and adverts to the group need none.

/// Of the parts of the limit, in percent.
const NEARLY_FULL: u64 = 90;

/// One family's, as `/proc/net/stat/arp_cache` or `ndisc_cache` and `gc_thresh3` tell.
pub struct Table<'a> {
    /// `ipv4` or `ipv6`.
    pub family: &'a str,
    pub statistics: &'a str,
    pub limit: u64,
}

impl Table<'_> {
    pub fn warning(&self) -> Option<String> {
        let Self { family, limit, .. } = self;
        let entries = self.entries()?;
        (entries * 100 >= limit * NEARLY_FULL).then(|| {
            format!(
                "the kernel's table of {family} neighbours is nearly full: {entries} of {limit} entries; hosts that find no \
                 room in it cannot be reached; set net.{family}.neigh.default.gc_thresh3 higher"
            )
        })
    }

    /// The same in the line of every core.
    fn entries(&self) -> Option<u64> {
        let mut lines = self.statistics.lines();
        let column = lines.next()?.split_whitespace().position(|name| name == "entries")?;
        let entries = lines.next()?.split_whitespace().nth(column)?;
        u64::from_str_radix(entries, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(entries: &str, limit: u64) -> Option<String> {
        let statistics =
            format!("entries  allocs   table_fulls\n{entries} 00000167 00000000\n{entries} 00000001 00000000\n");
        let table = Table {
            family: "ipv4",
            statistics: &statistics,
            limit,
        };
        table.warning()
    }

    #[test]
    fn a_table_is_told_of_before_it_is_full() {
        assert_eq!(warning("00000399", 1024), None, "921 of 1024");
        assert_eq!(
            warning("0000039a", 1024).expect("922 of 1024"),
            "the kernel's table of ipv4 neighbours is nearly full: 922 of 1024 entries; hosts that find no room in it cannot \
             be reached; set net.ipv4.neigh.default.gc_thresh3 higher"
        );
        assert!(
            warning("00000402", 1024).is_some(),
            "those that do not count are among them"
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_trouble() {
        let table = |statistics| Table {
            family: "ipv6",
            statistics,
            limit: 1024,
        };
        assert_eq!(table("").warning(), None);
        assert_eq!(table("allocs\n1\n").warning(), None);
    }
}
