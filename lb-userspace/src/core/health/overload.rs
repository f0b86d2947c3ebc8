//! Whether the node has too much to do to judge: then it loses the checks of good backends as well.
//!
//! A backend whose checks go unanswered is spared while all of this is so:
//! - Its packets to clients go on, within the last second too. Who carries data is alive.
//! - Most of those on other hosts that answer lose checks as well, or the event loop is late. Else it is the backend: a
//!   server that hangs may serve old connections and accept no new ones.
//! - No more than `LONG` have passed since the first of these checks, or `SHORT` where another host loses none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lb_common::abi::BackendId;

/// What has happened within this time tells of now.
pub const LATELY: Duration = Duration::from_secs(1);
/// A host has lost a check lately: of those that lose every third one, hardly any loses none in this time.
pub const LOSSY: Duration = Duration::from_secs(2);
/// A third of the time in which a check by TCP is to be answered.
const LATE: Duration = Duration::from_millis(50);
const SHORT: Duration = Duration::from_secs(3);
pub const LONG: Duration = Duration::from_secs(30);
/// How long after it spared somebody the node is said to be overloaded.
const CALM: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Overload {
    late_at: Option<Instant>,
    spared_at: Option<Instant>,
    /// Backends whose counters are to be read.
    wanted: BTreeSet<BackendId>,
    /// Judges that decide when they have been read.
    on_trial: BTreeSet<BackendId>,
}

/// What a check and the ones before it say of another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Answers, and no check was lost lately.
    Clean,
    Lossy,
    /// Has not been asked lately, or is not alive.
    Unknown,
}

/// How many packets a backend's clients got, and when that rose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    read: Option<(Instant, u64)>,
    rose_at: Option<Instant>,
}

impl Overload {
    /// What was to happen at `due` happens now.
    pub fn see_lateness(&mut self, due: Instant, now: Instant) {
        if now >= due + LATE {
            self.late_at = Some(now);
        }
    }

    /// Whether the node may be the reason why a backend has been silent since then.
    pub fn is_possible(&self, others: impl Iterator<Item = Hearing>, since: Instant, now: Instant) -> bool {
        let (mut clean, mut lossy) = (0, 0);
        for hearing in others {
            clean += usize::from(hearing == Hearing::Clean);
            lossy += usize::from(hearing == Hearing::Lossy);
        }
        let is_late = self.late_at.is_some_and(|late| now < late + LATELY);
        let bound = if lossy > 0 && clean == 0 { LONG } else { SHORT };
        (lossy > clean || is_late) && now < since + bound
    }

    /// The counters of these are to be read.
    pub fn want(&mut self, backends: impl IntoIterator<Item = BackendId>) {
        self.wanted.extend(backends);
    }

    pub fn take_wanted(&mut self) -> BTreeSet<BackendId> {
        std::mem::take(&mut self.wanted)
    }

    pub fn try_when_read(&mut self, judge: BackendId) {
        self.on_trial.insert(judge);
    }

    pub fn take_on_trial(&mut self) -> BTreeSet<BackendId> {
        std::mem::take(&mut self.on_trial)
    }

    pub fn spared(&mut self, now: Instant) {
        self.spared_at = Some(now);
    }

    /// Until when the node is overloaded, as far as is known.
    pub fn lasts_until(&self) -> Option<Instant> {
        self.spared_at.map(|at| at + CALM)
    }

    /// True: it has just ended.
    pub fn ends(&mut self, now: Instant) -> bool {
        let ends = self.lasts_until().is_some_and(|until| until <= now);
        self.spared_at = self.spared_at.filter(|_| !ends);
        ends
    }
}

impl Carried {
    /// A reading of the counter, while the backend has been silent since then.
    pub fn read(&mut self, packets: u64, silent_since: Option<Instant>, now: Instant) {
        let before = self.read.replace((now, packets));
        let (Some((at, before)), Some(since)) = (before, silent_since) else {
            return;
        };
        if at >= since && packets > before {
            self.rose_at = Some(now);
        }
    }

    pub fn goes_on(&self, silent_since: Instant, now: Instant) -> bool {
        self.rose_at
            .is_some_and(|rose| rose >= silent_since && now < rose + LATELY)
    }
}

#[cfg(test)]
mod tests {
    use super::Hearing::{Clean, Lossy, Unknown};
    use super::*;

    fn is_possible(others: &[Hearing], since: u64, late: bool) -> bool {
        let now = Instant::now() + Duration::from_secs(100);
        let mut overload = Overload::default();
        if late {
            overload.see_lateness(now - Duration::from_millis(60), now);
        }
        overload.is_possible(others.iter().copied(), now - Duration::from_secs(since), now)
    }

    #[test]
    fn one_that_is_silent_alone_is_no_sign_of_it() {
        assert!(!is_possible(&[], 0, false) && !is_possible(&[Unknown], 0, false));
        assert!(!is_possible(&[Clean], 0, false) && !is_possible(&[Clean, Lossy], 0, false));
    }

    #[test]
    fn when_most_lose_checks_it_lasts_the_longer_the_fewer_do_not() {
        assert!(is_possible(&[Lossy, Lossy, Clean], 2, false) && !is_possible(&[Lossy, Lossy, Clean], 3, false));
        assert!(is_possible(&[Lossy, Unknown], 29, false) && !is_possible(&[Lossy, Unknown], 30, false));
    }

    #[test]
    fn a_late_loop_is_a_sign_for_a_short_time() {
        assert!(is_possible(&[], 2, true) && is_possible(&[Clean], 2, true));
        assert!(!is_possible(&[], 3, true) && !is_possible(&[Clean], 3, true));
        let (mut overload, now) = (Overload::default(), Instant::now());
        overload.see_lateness(now, now + Duration::from_millis(49));
        assert!(!overload.is_possible(std::iter::empty(), now, now));
        overload.see_lateness(now, now + Duration::from_millis(50));
        let later = now + Duration::from_millis(1_051);
        assert!(!overload.is_possible(std::iter::empty(), later, later));
    }

    #[test]
    fn only_what_rose_in_the_silence_and_lately_counts() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut carried = Carried::default();
        carried.read(100, Some(at(0)), at(30));
        assert!(!carried.goes_on(at(0), at(30)), "it is the first reading");
        carried.read(100, Some(at(0)), at(210));
        assert!(!carried.goes_on(at(0), at(210)));
        carried.read(101, Some(at(0)), at(220));
        assert!(carried.goes_on(at(0), at(1_219)) && !carried.goes_on(at(0), at(1_220)));
        carried.read(500, Some(at(60_000)), at(60_030));
        assert!(!carried.goes_on(at(60_000), at(60_030)), "it rose before");
    }
}
