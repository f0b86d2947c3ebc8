//! What is to hold after a restart: when it is written down, in which form, and what an operator has to know about that.
//!
//! It is in force whether it could be written or not. Never touches a file: that is for `io::record`. Tested here.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How soon a record that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The records there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// What operators said.
    Overrides,
    /// Where names of backends led.
    Names,
}

/// What a record is of.
pub trait Keep: Clone + Default + PartialEq {
    /// Begins a sentence about a record that cannot be read.
    const LOST: &'static str;
    /// And one about a record that cannot be written.
    const WILL_BE_LOST: &'static str;

    fn write(&self) -> String;

    /// What it cannot understand whole it refuses whole; completes the sentence "cannot be read: ".
    fn read(text: &[u8]) -> Result<Self, String>;
}

#[derive(Debug, Default)]
pub struct Keeping<T> {
    /// What the newest record says, or is going to.
    recorded: T,
    /// To be written, not told yet.
    due: Option<String>,
    /// Why what an earlier daemon recorded is not in force.
    lost: Option<String>,
    /// It could be read, and not understood.
    is_damaged: bool,
    /// Why the newest record is not on disk.
    failure: Option<String>,
    retry_at: Option<Instant>,
}

impl Kept {
    pub const ALL: [Self; 2] = [Self::Overrides, Self::Names];
}

impl<T: Keep> Keeping<T> {
    /// What an earlier daemon has recorded, or why that cannot be read.
    pub fn recall(&mut self, record: Result<Vec<u8>, String>) -> T {
        let understand = |text: Vec<u8>| T::read(&text).inspect_err(|_| self.is_damaged = true);
        match record.and_then(understand) {
            Ok(recorded) => self.recorded = recorded,
            Err(error) => self.lost = Some(error),
        }
        self.recorded.clone()
    }

    /// Whether the record that was recalled is to be set aside.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    pub fn follow(&mut self, kept: &T, now: Instant) {
        if *kept != self.recorded || self.is_due(now) {
            self.recorded = kept.clone();
            self.retry_at = None;
            self.due = Some(kept.write());
        }
    }

    /// What could not be written is to be tried again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
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

    /// Why what is in force now would not hold after a restart.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let lost = self.lost.iter();
        let lost = lost.map(|why| format!("{}, their record cannot be read: {why}", T::LOST));
        let failure = self.failure.iter();
        let failure = failure.map(|why| format!("{}: {why}; trying again", T::WILL_BE_LOST));
        lost.chain(failure)
    }
}

/// Read first: a later format may be another in all the rest.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
}

#[derive(Serialize)]
struct Whole<T> {
    format: u32,
    #[serde(flatten)]
    body: T,
}

pub fn text<T: Serialize>(format: u32, body: T) -> String {
    let text = serde_json::to_string_pretty(&Whole { format, body });
    text.expect("INVARIANT: nothing that is kept is from before 1970") + "\n"
}

pub fn understand<T: DeserializeOwned>(format: u32, text: &[u8]) -> Result<T, String> {
    let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
    let head: Head = serde_json::from_slice(text).map_err(damaged)?;
    if head.format != format {
        return Err(format!(
            "another version of naru has written it (format {}, not {format})",
            head.format
        ));
    }
    serde_json::from_slice(text).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::core::config::parse;
    use crate::core::members::Name;
    use crate::core::overrides::{Change, Overrides, Said};

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
        let (mut keeping, mut overrides) = (Keeping::<Overrides>::default(), Overrides::default());
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

        let mut next = Keeping::<Overrides>::default();
        assert_eq!(next.recall(Ok(text.into_bytes())), overrides);
        next.follow(&overrides, at(20));
        assert_eq!(next.take_due(), None, "it is on disk already");
        change(&mut overrides, Change::Undrain);
        next.follow(&overrides, at(21));
        assert!(next.take_due().is_some());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_told_until_there_is_a_new_one() {
        let mut keeping = Keeping::<Overrides>::default();
        assert_eq!(keeping.recall(Ok(b"{".to_vec())), Overrides::default());
        let told: Vec<String> = keeping.warnings().collect();
        assert!(
            keeping.is_damaged() && told[0].contains("cannot be read: it is damaged"),
            "{told:?}"
        );
        keeping.recorded(Ok(()), Instant::now());
        assert_eq!(keeping.warnings().count(), 0);

        let mut keeping = Keeping::<Overrides>::default();
        keeping.recall(Err("Input/output error".to_owned()));
        assert!(!keeping.is_damaged(), "it may be read the next time");
        assert_eq!(keeping.warnings().count(), 1);
    }
}
