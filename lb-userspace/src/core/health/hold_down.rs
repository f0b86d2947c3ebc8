//! How long a backend that keeps falling stays down: twice as long each time, up to a minute.
//!
//! The first fall costs nothing. Each minute without one takes one back.

use std::fmt;
use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub struct HoldDown {
    falls: u32,
    last: Option<Instant>,
    hold: Duration,
}

impl HoldDown {
    pub fn fell(&mut self, now: Instant) {
        let calm = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let forgiven = u32::try_from(calm.as_secs() / CALM.as_secs()).unwrap_or(u32::MAX);
        self.falls = self.falls.saturating_sub(forgiven).saturating_add(1);
        self.hold = match self.falls {
            0 | 1 => Duration::ZERO,
            falls => SHORTEST.saturating_mul(1 << (falls - 2).min(16)).min(LONGEST),
        };
        self.last = Some(now);
    }

    pub fn fell_at(&self) -> Option<Instant> {
        self.last
    }

    pub fn holds(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last + self.hold)
    }
}

impl fmt::Display for HoldDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held down for {}s after {} falls", self.hold.as_secs(), self.falls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hold after a fall at each of these seconds.
    fn holds(falls: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut hold_down = HoldDown::default();
        let fall = |&at: &u64| {
            hold_down.fell(start + Duration::from_secs(at));
            hold_down.hold.as_secs()
        };
        falls.iter().map(fall).collect()
    }

    #[test]
    fn doubles_with_every_fall_up_to_a_minute() {
        assert_eq!(
            holds(&[0, 1, 3, 7, 15, 31, 50, 80, 120]),
            [0, 1, 2, 4, 8, 16, 32, 60, 60]
        );
    }

    #[test]
    fn calm_takes_it_back() {
        assert_eq!(holds(&[0, 1, 3, 200]), [0, 1, 2, 0]);
        assert_eq!(holds(&[0, 1, 3, 64, 65]), [0, 1, 2, 2, 4]);
    }

    #[test]
    fn holds_until_its_time_is_over() {
        let start = Instant::now();
        let mut hold_down = HoldDown::default();
        assert!(!hold_down.holds(start));
        hold_down.fell(start);
        hold_down.fell(start + Duration::from_secs(5));
        assert!(hold_down.holds(start + Duration::from_millis(5_999)));
        assert!(!hold_down.holds(start + Duration::from_secs(6)));
    }
}
