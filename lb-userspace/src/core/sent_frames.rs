//! Judges by a driver's counters whether the frames that native XDP sends leave the interface.
//!
//! Knows numbers and moments only. A full queue loses a few frames of many, which is no reason to give native XDP up; a
//! driver or a peer that takes none loses nearly all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of fewer frames nothing is concluded; they count with the next ones.
const ENOUGH: u64 = 3;
/// How long a loss is news.
const LATELY: Duration = Duration::from_secs(60);

/// What the driver of one interface has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub sent: u64,
    pub lost: u64,
}

/// By interface index.
#[derive(Debug, Default)]
pub struct SentFrames(BTreeMap<u32, Seen>);

#[derive(Debug)]
struct Seen {
    /// What was counted before we looked may be of long ago.
    first: Sent,
    judged: Sent,
    last: Sent,
    lost_at: Option<Instant>,
    loses_most: bool,
}

impl SentFrames {
    /// Takes in what drivers have counted; returns the interfaces that turn out to lose most of their frames.
    pub fn see(&mut self, counters: &BTreeMap<u32, Sent>, now: Instant) -> Vec<u32> {
        self.0.retain(|ifindex, _| counters.contains_key(ifindex));
        let mut found = Vec::new();
        for (&ifindex, &counted) in counters {
            let seen = self.0.entry(ifindex).or_insert_with(|| Seen::new(counted));
            if counted.lost < seen.last.lost || counted.sent < seen.last.sent {
                *seen = Seen::new(counted);
            }
            if seen.add(counted, now) {
                found.push(ifindex);
            }
        }
        found
    }

    /// How many frames the interface has lost since we look, where it lost one of late.
    pub fn lost_lately(&self, ifindex: u32, now: Instant) -> Option<u64> {
        let seen = self.0.get(&ifindex)?;
        let is_news = now.saturating_duration_since(seen.lost_at?) < LATELY;
        is_news.then(|| seen.lost())
    }

    pub fn lost(&self, ifindex: u32) -> u64 {
        self.0.get(&ifindex).map_or(0, Seen::lost)
    }
}

impl Seen {
    fn new(counted: Sent) -> Self {
        Self {
            first: counted,
            judged: counted,
            last: counted,
            lost_at: None,
            loses_most: false,
        }
    }

    /// True when it turns out just now to lose most.
    fn add(&mut self, counted: Sent, now: Instant) -> bool {
        if counted.lost > self.last.lost {
            self.lost_at = Some(now);
        }
        self.last = counted;
        let (sent, lost) = (counted.sent - self.judged.sent, counted.lost - self.judged.lost);
        if sent + lost < ENOUGH {
            return false;
        }
        self.judged = counted;
        lost > sent && !std::mem::replace(&mut self.loses_most, true)
    }

    fn lost(&self) -> u64 {
        self.last.lost - self.first.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Interface {
        frames: SentFrames,
        start: Instant,
    }

    impl Interface {
        fn new() -> Self {
            let (frames, start) = (SentFrames::default(), Instant::now());
            Self { frames, start }
        }

        fn see(&mut self, second: u64, sent: u64, lost: u64) -> bool {
            let counters = BTreeMap::from([(2, Sent { sent, lost })]);
            self.frames.see(&counters, self.at(second)) == [2]
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }
    }

    #[test]
    fn a_driver_that_takes_nothing_is_found_once() {
        let mut eth0 = Interface::new();
        assert!(!eth0.see(0, 100, 50), "of an earlier program");
        assert!(!eth0.see(1, 100, 52), "too few");
        assert!(eth0.see(2, 100, 53), "they add up");
        assert!(!eth0.see(3, 100, 90), "told already");
        assert_eq!(eth0.frames.lost(2), 40);
    }

    #[test]
    fn a_full_queue_is_warned_of_and_no_more() {
        let mut eth0 = Interface::new();
        eth0.see(0, 0, 0);
        assert!(!eth0.see(1, 100_000, 20_000));
        assert_eq!(eth0.frames.lost_lately(2, eth0.at(60)), Some(20_000));
        assert_eq!(eth0.frames.lost_lately(2, eth0.at(61)), None);
    }

    #[test]
    fn a_driver_that_begins_anew_has_lost_nothing() {
        let mut eth0 = Interface::new();
        eth0.see(0, 1000, 1000);
        assert!(!eth0.see(1, 1, 5));
        assert_eq!(eth0.frames.lost(2), 0);
        eth0.frames.see(&BTreeMap::new(), eth0.at(2));
        assert_eq!(eth0.frames.lost(2), 0);
    }
}
