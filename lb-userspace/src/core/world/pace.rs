//! How often conclusions are drawn from what checks tell: never more than half of the time goes into them.
//!
//! To conclude and to act on it takes long where backends are very many, and meanwhile no check has its turn. So each
//! conclusion is followed by a rest of its own length; for a few hundred backends that is less than a millisecond.
//! Tested in `tests.rs` beside it.

use std::time::Instant;

#[derive(Debug, Default)]
pub struct Pace {
    concluded: Option<Instant>,
    rests_until: Option<Instant>,
    put_off_to: Option<Instant>,
}

impl Pace {
    /// Checks have told something; true: it is to be concluded from later, at `next_deadline`.
    pub fn puts_off(&mut self, now: Instant) -> bool {
        self.put_off_to = self.rests_until.filter(|until| now < *until);
        self.put_off_to.is_some()
    }

    pub fn concluded(&mut self, now: Instant) {
        self.put_off_to = None;
        self.concluded = Some(now);
    }

    /// Something else has happened since, so the caller does not act on it yet: what it waits for costs nothing.
    pub fn interrupted(&mut self) {
        self.concluded = None;
    }

    /// What followed from the conclusion has been carried out.
    pub fn acted(&mut self, now: Instant) {
        let took = self.concluded.take().map(|then| now.saturating_duration_since(then));
        self.rests_until = took.map(|took| now + took);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.put_off_to
    }
}
