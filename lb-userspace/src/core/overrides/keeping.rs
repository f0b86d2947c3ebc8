//! Says when overrides are to be written down, so that they hold after a restart, and what an operator has to know
//! about that.
//!
//! Overrides are in force whether they could be written or not. Tested here.

use std::time::{Duration, Instant};

use super::{Overrides, record};

/// How soon a record that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Keeping {
    /// What the newest record says, or is going to.
    recorded: Overrides,
    /// To be written, not told yet.
    due: Option<String>,
    /// Why those of an earlier daemon are not in force.
    lost: Option<String>,
    /// It could be read, and not understood.
    is_damaged: bool,
    /// Why the newest record is not on disk.
    failure: Option<String>,
    retry_at: Option<Instant>,
}

impl Keeping {
    /// What an earlier daemon has recorded, or why that cannot be read.
    pub fn recall(&mut self, record: Result<Vec<u8>, String>) -> Overrides {
        let understand = |text: Vec<u8>| record::read(&text).inspect_err(|_| self.is_damaged = true);
        match record.and_then(understand) {
            Ok(overrides) => self.recorded = overrides,
            Err(error) => self.lost = Some(error),
        }
        self.recorded.clone()
    }

    /// Whether the record that was recalled is to be set aside.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    pub fn follow(&mut self, overrides: &Overrides, now: Instant) {
        let again = self.retry_at.is_some_and(|at| at <= now);
        if *overrides != self.recorded || again {
            self.recorded = overrides.clone();
            self.retry_at = None;
            self.due = Some(record::write(overrides));
        }
    }

    /// A record for the caller to write, told once.
    pub fn take_due(&mut self) -> Option<String> {
        self.due.take()
    }

    /// What became of the last record. One that could be written makes up for one that could not be read.
    pub fn recorded(&mut self, outcome: Result<(), String>, now: Instant) {
        match outcome {
            Ok(()) => (self.failure, self.retry_at, self.lost) = (None, None, None),
            Err(error) => (self.failure, self.retry_at) = (Some(error), Some(now + RETRY)),
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Why the overrides of now would not hold after a restart.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let lost = self.lost.iter();
        let lost = lost
            .map(|why| format!("overrides of before this start are not in force, their record cannot be read: {why}"));
        let failure = self.failure.iter();
        let failure = failure.map(|why| format!("overrides will not hold after a restart: {why}; trying again"));
        lost.chain(failure)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::core::config::parse;
    use crate::core::members::Name;
    use crate::core::overrides::{Change, Said};

    const FILE: &str = "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\"]\n";

    fn change(overrides: &mut Overrides, change: Change) {
        let name = Name {
            service: "web".to_owned(),
            backend: "198.18.1.11:80".to_owned(),
        };
        let said = Said {
            by: "root".to_owned(),
            at: UNIX_EPOCH,
        };
        overrides.change(name, change, said, &parse("naru.toml", FILE).unwrap().config);
    }

    #[test]
    fn each_change_is_written_once_and_failures_are_tried_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut keeping, mut overrides) = (Keeping::default(), Overrides::default());
        keeping.follow(&overrides, at(0));
        assert_eq!(keeping.take_due(), None, "nobody has said anything");

        change(&mut overrides, Change::Drain);
        keeping.follow(&overrides, at(1));
        let text = keeping.take_due().unwrap();
        keeping.follow(&overrides, at(2));
        assert_eq!(keeping.take_due(), None);

        keeping.recorded(Err("no space".to_owned()), at(3));
        assert_eq!(keeping.warnings().count(), 1);
        keeping.follow(&overrides, at(12));
        assert_eq!((keeping.take_due(), keeping.next_deadline()), (None, Some(at(13))));
        keeping.follow(&overrides, at(13));
        assert_eq!(keeping.take_due().as_ref(), Some(&text));
        keeping.recorded(Ok(()), at(13));
        assert_eq!((keeping.warnings().count(), keeping.next_deadline()), (0, None));

        let mut next = Keeping::default();
        assert_eq!(next.recall(Ok(text.into_bytes())), overrides);
        next.follow(&overrides, at(20));
        assert_eq!(next.take_due(), None, "it is on disk already");
        change(&mut overrides, Change::Undrain);
        next.follow(&overrides, at(21));
        assert!(next.take_due().is_some());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_told_until_there_is_a_new_one() {
        let mut keeping = Keeping::default();
        assert_eq!(keeping.recall(Ok(b"{".to_vec())), Overrides::default());
        let told: Vec<String> = keeping.warnings().collect();
        assert!(
            keeping.is_damaged() && told[0].contains("cannot be read: it is damaged"),
            "{told:?}"
        );
        keeping.recorded(Ok(()), Instant::now());
        assert_eq!(keeping.warnings().count(), 0);

        let mut keeping = Keeping::default();
        keeping.recall(Err("Input/output error".to_owned()));
        assert!(!keeping.is_damaged(), "it may be read the next time");
        assert_eq!(keeping.warnings().count(), 1);
    }
}
