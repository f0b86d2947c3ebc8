//! When an alarm rings, and when it is over: M of the last N data points, then so many clean ones.
//!
//! Where the shift is what cures, every end of an alarm brings the load back and with it the alarm. So each time it
//! rings again it has to be clean for twice as long, up to 32 times; ten times `clear_after` in quiet take one doubling
//! back. PROMISE: in any time T it rings at most 7 + T / (10 `clear_after`) times. Tested here, that by any signal.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::config::{Alarm, Missing};

const MOST_DOUBLINGS: u32 = 5;
/// So many `clear_after` in quiet are forgiven a doubling.
const CALM: u32 = 10;

/// In the order of who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Ringing,
    /// Over, and the weights are on their way back.
    Returning,
    #[default]
    Quiet,
}

impl State {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::Returning => "returning",
            Self::Quiet => "quiet",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Rings,
    Over,
    Quiet,
}

#[derive(Debug, Default)]
pub struct Bell {
    state: State,
    /// Whether each of the last data points was over the mark.
    points: VecDeque<bool>,
    last: Option<f64>,
    /// Clean data points in a row, while it rings.
    clean: u32,
    doublings: u32,
    over_at: Option<Instant>,
}

impl Bell {
    /// A data point, None without data.
    pub fn hear(&mut self, point: Option<f64>, rule: &Alarm, now: Instant) -> Option<Turn> {
        self.last = point;
        let over = match (point, rule.missing) {
            (Some(value), _) => value > rule.above.0,
            (None, Missing::Ok) => false,
            (None, Missing::Breaching) => true,
            (None, Missing::Ignore) => return None,
        };
        self.points.push_back(over);
        while self.points.len() > rule.datapoints.of as usize {
            self.points.pop_front();
        }
        if self.state != State::Ringing {
            return (self.over() >= rule.datapoints.ringing).then(|| self.ring(rule, now));
        }
        self.clean = if over { 0 } else { self.clean + 1 };
        let needed = self.hold(rule).as_nanos().div_ceil(rule.period.as_nanos());
        (u128::from(self.clean) >= needed).then(|| self.end(now))
    }

    /// The weights are back.
    pub fn be_quiet(&mut self) {
        self.state = State::Quiet;
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// How long it must be clean to be over, as often as it rang lately.
    pub fn hold(&self, rule: &Alarm) -> Duration {
        rule.clear_after * (1 << self.doublings)
    }

    /// How many of the last data points were over the mark.
    pub fn over(&self) -> u32 {
        self.points.iter().map(|over| u32::from(*over)).sum()
    }

    /// The last data point.
    pub fn last(&self) -> Option<f64> {
        self.last
    }

    fn ring(&mut self, rule: &Alarm, now: Instant) -> Turn {
        if let Some(over_at) = self.over_at {
            let quiet = now.saturating_duration_since(over_at).as_nanos();
            let forgiven = quiet / (rule.clear_after * CALM).as_nanos();
            let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
            self.doublings = (self.doublings + 1).saturating_sub(forgiven).min(MOST_DOUBLINGS);
        }
        self.clean = 0;
        self.state = State::Ringing;
        Turn::Rings
    }

    fn end(&mut self, now: Instant) -> Turn {
        self.points.clear();
        self.over_at = Some(now);
        self.state = State::Returning;
        Turn::Over
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::config::parse;

    /// Above 100, 2 of 3 data points of 10 s, over after 60 s.
    fn rule(more: &str) -> Alarm {
        let file = format!(
            "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\", \"198.18.1.12:80\"]\n\
             [alarm.a]\nservice = \"web\"\nmetric = \"packets\"\nabove = 100\nweights = {{}}\n{more}"
        );
        parse("naru.toml", &file).unwrap().config.alarms["a"].clone()
    }

    struct Story {
        bell: Bell,
        rule: Alarm,
        start: Instant,
        heard: u32,
    }

    impl Story {
        fn new(more: &str) -> Self {
            Self {
                bell: Bell::default(),
                rule: rule(more),
                start: Instant::now(),
                heard: 0,
            }
        }

        fn hear(&mut self, point: Option<f64>) -> Option<Turn> {
            self.heard += 1;
            let now = self.start + self.rule.period * self.heard;
            self.bell.hear(point, &self.rule, now)
        }

        /// A letter for each data point: `x` over, `.` not, `?` none. The places, from 1, and what turned there.
        fn turns(&mut self, points: &str) -> Vec<(usize, Turn)> {
            let value = |letter| match letter {
                'x' => Some(101.0),
                '.' => Some(100.0),
                _ => None,
            };
            let turns = points.chars().map(|letter| self.hear(value(letter)));
            (1..)
                .zip(turns)
                .filter_map(|(place, turn)| Some((place, turn?)))
                .collect()
        }
    }

    #[test]
    fn rings_by_two_of_three_and_is_over_after_clean_ones() {
        assert_eq!(Story::new("").turns("x..x..x..x"), []);
        assert_eq!(Story::new("").turns("x.x"), [(3, Turn::Rings)]);
        assert_eq!(Story::new("").turns("xx......"), [(2, Turn::Rings), (8, Turn::Over)]);
        assert_eq!(
            Story::new("").turns("xx.....x......"),
            [(2, Turn::Rings), (14, Turn::Over)]
        );
        let one = "datapoints = \"1 of 1\"\nclear_after = \"15s\"\n";
        assert_eq!(Story::new(one).turns("x.."), [(1, Turn::Rings), (3, Turn::Over)]);
    }

    #[test]
    fn data_points_without_data_are_what_the_file_says() {
        let both = [(2, Turn::Rings), (8, Turn::Over)];
        assert_eq!(Story::new("missing = \"ok\"\n").turns("xx??????"), both);
        assert_eq!(Story::new("missing = \"ok\"\n").turns("x???x??"), []);
        assert_eq!(Story::new("missing = \"breaching\"\n").turns(".??"), [(3, Turn::Rings)]);
        assert_eq!(Story::new("missing = \"ignore\"\n").turns("x????x"), [(6, Turn::Rings)]);
        let ringing = [(2, Turn::Rings)];
        assert_eq!(Story::new("missing = \"ignore\"\n").turns("xx????????????"), ringing);
    }

    /// The end forgets what made it ring, so it takes as much to ring again.
    #[test]
    fn each_time_it_rings_again_it_holds_twice_as_long() {
        let mut story = Story::new("");
        let mut held = Vec::new();
        for _ in 0..8 {
            assert_eq!(story.turns("xx"), [(2, Turn::Rings)]);
            let clean = (1..).find(|_| story.hear(Some(0.0)) == Some(Turn::Over));
            held.push(clean.unwrap());
            story.bell.be_quiet();
        }
        assert_eq!(held, [6, 12, 24, 48, 96, 192, 192, 192]);
        story.turns(&".".repeat(150));
        story.turns("xx");
        assert_eq!(
            story.bell.hold(&story.rule),
            Duration::from_secs(60 * 16),
            "25 minutes are two doublings"
        );
        story.turns(&".".repeat(2000));
        story.turns("xx");
        assert_eq!(story.bell.hold(&story.rule), Duration::from_secs(60));
    }

    proptest! {
        /// Whatever the signal, no stretch of time has more changes than promised.
        #[test]
        fn a_flapping_signal_moves_weights_seldom(
            points in proptest::collection::vec(prop_oneof![Just(Some(0.0)), Just(Some(200.0)), Just(None)], 1..64),
            patience in 1..12_u32,
            rounds in 1..200_usize,
            missing in prop_oneof![Just("ok"), Just("breaching"), Just("ignore")],
        ) {
            let clear_after = patience * 10;
            let more = format!("datapoints = \"1 of 1\"\nclear_after = \"{clear_after}s\"\nmissing = {missing:?}\n");
            let mut story = Story::new(&more);
            let mut rings: Vec<u32> = Vec::new();
            let mut signal = points.iter().cycle().copied();
            for _ in 0..points.len() * rounds {
                // The worst there is: it rings as soon as it may, and for no longer than it must.
                let point = match story.bell.state() {
                    State::Ringing => Some(0.0),
                    State::Returning | State::Quiet => signal.next().flatten(),
                };
                if story.hear(point) == Some(Turn::Rings) {
                    rings.push(story.heard * 10);
                }
            }
            for (first, begin) in rings.iter().enumerate() {
                for (last, end) in rings.iter().enumerate().skip(first) {
                    let count = u32::try_from(last - first + 1).unwrap();
                    let most = 7 + (end - begin) / (10 * clear_after);
                    prop_assert!(count <= most, "{count} of {most} in {} s", end - begin);
                }
            }
        }
    }
}
