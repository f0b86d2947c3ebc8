//! Turns readings of counters into data points: one for each period, or the word that there is none.
//!
//! Readings come about once a second and never to the moment: the one nearest to the end of a period closes it, and a
//! rate is over the time that really passed. Tested here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lb_common::abi::BackendId;

/// A reading that comes so much before the end of a period is the one for its end.
const EARLY: Duration = Duration::from_millis(500);
/// A period whose reading is later than this has ended without.
const LATE: Duration = Duration::from_millis(1500);
/// No alarm looks at more data points.
const MOST: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises; its data point is by how much in a second.
    Counter,
    /// Its data point is the mean of its readings.
    Level,
}

#[derive(Debug)]
pub struct Meter {
    kind: Kind,
    period: Duration,
    /// Of the period; None before the first reading.
    end: Option<Instant>,
    last: BTreeMap<BackendId, u64>,
    last_at: Option<Instant>,
    /// Within the period: what was counted in so many seconds, or the sum of so many readings.
    sum: f64,
    over: f64,
}

impl Meter {
    pub fn new(kind: Kind, period: Duration) -> Self {
        Self {
            kind,
            period,
            end: None,
            last: BTreeMap::new(),
            last_at: None,
            sum: 0.0,
            over: 0.0,
        }
    }

    /// The data points that end by this reading, None for one without data. Of no backend: nothing could be read.
    pub fn read(&mut self, values: &BTreeMap<BackendId, u64>, now: Instant) -> Vec<Option<f64>> {
        let mut points = self.pass(now);
        match self.kind {
            Kind::Counter => self.count(values, now),
            Kind::Level if values.is_empty() => {}
            Kind::Level => {
                self.sum += values.values().sum::<u64>() as f64;
                self.over += 1.0;
            }
        }
        let mut end = *self.end.get_or_insert(now + self.period);
        if end <= now + EARLY && !values.is_empty() {
            points.push(self.take());
            // What a late reading closes was in its rate already.
            while end <= now + EARLY {
                end += self.period;
            }
            self.end = Some(end);
        }
        points
    }

    /// The data points of periods that have ended without a reading.
    pub fn pass(&mut self, now: Instant) -> Vec<Option<f64>> {
        let mut points = Vec::new();
        while let Some(end) = self.end.filter(|end| *end + LATE <= now) {
            points.push(self.take());
            self.end = Some(end + self.period);
            if points.len() == MOST {
                self.end = Some(now + self.period);
            }
        }
        points
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.end.map(|end| end + LATE)
    }

    /// A counter that fell, or was not there before, says nothing until the next reading.
    fn count(&mut self, values: &BTreeMap<BackendId, u64>, now: Instant) {
        if values.is_empty() {
            return;
        }
        let last = std::mem::replace(&mut self.last, values.clone());
        let rises = values
            .iter()
            .filter_map(|(id, value)| value.checked_sub(*last.get(id)?));
        let rises: Vec<u64> = rises.collect();
        if let Some(last_at) = self.last_at.replace(now).filter(|_| !rises.is_empty()) {
            self.sum += rises.iter().sum::<u64>() as f64;
            self.over += now.saturating_duration_since(last_at).as_secs_f64();
        }
    }

    fn take(&mut self) -> Option<f64> {
        let point = (self.over > 0.0).then(|| self.sum / self.over);
        (self.sum, self.over) = (0.0, 0.0);
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Readings {
        meter: Meter,
        start: Instant,
    }

    impl Readings {
        fn of(kind: Kind, seconds: u64) -> Self {
            Self {
                meter: Meter::new(kind, Duration::from_secs(seconds)),
                start: Instant::now(),
            }
        }

        /// Backends from 1 up.
        fn read(&mut self, millis: u64, values: &[u64]) -> Vec<Option<f64>> {
            let values = (1..).zip(values.iter().copied()).collect();
            self.meter.read(&values, self.start + Duration::from_millis(millis))
        }

        fn pass(&mut self, millis: u64) -> Vec<Option<f64>> {
            self.meter.pass(self.start + Duration::from_millis(millis))
        }
    }

    #[test]
    fn a_rate_is_over_the_time_that_passed() {
        let mut readings = Readings::of(Kind::Counter, 2);
        assert_eq!(
            readings.read(0, &[1_000_000]),
            [],
            "what was counted before is of long ago"
        );
        assert_eq!(readings.read(1_000, &[1_000_100]), []);
        assert_eq!(readings.read(1_600, &[1_000_160]), [Some(100.0)], "nearest to the end");
        assert_eq!(readings.read(2_600, &[1_000_160]), []);
        assert_eq!(readings.read(4_100, &[1_000_410]), [Some(100.0)], "250 in 2.5 s");
    }

    #[test]
    fn backends_come_go_and_begin_anew() {
        let mut readings = Readings::of(Kind::Counter, 1);
        readings.read(0, &[10]);
        assert_eq!(
            readings.read(1_000, &[20, 500]),
            [Some(10.0)],
            "a new one counts from its second reading"
        );
        assert_eq!(readings.read(2_000, &[30, 520]), [Some(30.0)]);
        assert_eq!(
            readings.read(3_000, &[0, 530]),
            [Some(10.0)],
            "one that fell says nothing"
        );
        assert_eq!(readings.read(4_000, &[5, 530]), [Some(5.0)]);
        assert_eq!(readings.read(5_000, &[1]), [None]);
    }

    #[test]
    fn a_level_is_the_mean_of_its_readings() {
        let mut readings = Readings::of(Kind::Level, 2);
        readings.read(0, &[10, 10]);
        assert_eq!(readings.read(1_000, &[40]), []);
        assert_eq!(readings.read(2_000, &[60]), [Some(40.0)]);
        assert_eq!(readings.read(3_000, &[0]), []);
        assert_eq!(readings.read(4_000, &[0]), [Some(0.0)]);
    }

    #[test]
    fn periods_without_a_reading_have_no_data() {
        let mut readings = Readings::of(Kind::Counter, 2);
        assert_eq!(readings.pass(60_000), [], "nothing has begun");
        readings.read(0, &[0]);
        readings.read(1_000, &[100]);
        assert_eq!(readings.read(2_000, &[]), []);
        assert_eq!(readings.pass(3_499), []);
        assert_eq!(readings.pass(3_500), [Some(100.0)], "half of it was read");
        assert_eq!(readings.pass(5_500), [None]);
        let meter = &readings.meter;
        assert_eq!(meter.deadline(), Some(readings.start + Duration::from_millis(7_500)));
        assert_eq!(readings.read(6_000, &[600]), [Some(100.0)], "it counted on");
        assert_eq!(readings.pass(3_600_000).len(), MOST, "as after a long sleep");
        assert_eq!(readings.pass(3_600_000).len(), 0);
    }
}
