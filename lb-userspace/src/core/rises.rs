//! Notices which counters rose lately, so that a warning tells what goes on now and not what once went on.
//!
//! Knows numbers and moments only; what they count is for others to say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a rise is news.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Rises<K> {
    /// None: nothing has been counted yet.
    counters: Option<BTreeMap<K, Counter>>,
}

#[derive(Debug, Default)]
struct Counter {
    value: u64,
    rose_at: Option<Instant>,
}

impl<K> Default for Rises<K> {
    fn default() -> Self {
        Self { counters: None }
    }
}

impl<K: Ord> Rises<K> {
    /// What is counted at first may be of long ago. A counter that comes later began at zero; one that fell was cleared.
    pub fn see(&mut self, values: impl IntoIterator<Item = (K, u64)>, now: Instant) {
        let begun = self.counters.is_some();
        let counters = self.counters.get_or_insert_default();
        for (key, value) in values {
            let counter = counters.entry(key).or_default();
            if begun && value > counter.value {
                counter.rose_at = Some(now);
            }
            counter.value = value;
        }
    }

    pub fn lately(&self, key: &K, now: Instant) -> bool {
        let counter = self.counters.as_ref().and_then(|counters| counters.get(key));
        let rose_at = counter.and_then(|counter| counter.rose_at);
        rose_at.is_some_and(|rose_at| now.saturating_duration_since(rose_at) < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_news_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rises = Rises::default();
        assert!(!rises.lately(&"a", at(0)));
        rises.see([("a", 5)], at(0));
        assert!(!rises.lately(&"a", at(0)), "of an earlier daemon");
        rises.see([("a", 5), ("b", 0)], at(1));
        assert!(!rises.lately(&"a", at(1)) && !rises.lately(&"b", at(1)));
        rises.see([("a", 6), ("c", 1)], at(2));
        assert!(rises.lately(&"a", at(2)) && rises.lately(&"a", at(61)) && rises.lately(&"c", at(2)));
        assert!(!rises.lately(&"a", at(62)));
        rises.see([("a", 2)], at(70));
        assert!(!rises.lately(&"a", at(70)), "cleared");
        rises.see([("a", 3)], at(71));
        assert!(rises.lately(&"a", at(130)));
    }
}
