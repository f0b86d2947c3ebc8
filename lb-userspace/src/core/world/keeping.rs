//! The world's part in what holds after a restart: when a record is due, and what of it is not on disk.

use std::time::Instant;

use super::World;
use crate::core::keeping::{Keeping, Kept};
use crate::core::overrides::Overrides;

impl World {
    /// A record for the caller to write down; each is told once.
    pub fn take_record(&mut self) -> Option<(Kept, String)> {
        let overrides = self.keeping.take_due().map(|text| (Kept::Overrides, text));
        overrides.or_else(|| Some((Kept::Names, self.keeping_names.take_due()?)))
    }

    /// What is on disk of the overrides, and what is not.
    pub fn keeping(&self) -> &Keeping<Overrides> {
        &self.keeping
    }

    /// A record of before this start could be read, and not understood.
    pub fn is_damaged(&self, kept: Kept) -> bool {
        match kept {
            Kept::Overrides => self.keeping.is_damaged(),
            Kept::Names => self.keeping_names.is_damaged(),
        }
    }

    /// What would not hold after a restart, and what of before this one does not.
    pub fn unkept(&self) -> impl Iterator<Item = String> {
        self.keeping.warnings().chain(self.keeping_names.warnings())
    }

    pub(super) fn recall(&mut self, kept: Kept, record: Result<Vec<u8>, String>) {
        match kept {
            Kept::Overrides => self.overrides = self.keeping.recall(record),
            Kept::Names => self.names.recall(self.keeping_names.recall(record)),
        }
    }

    pub(super) fn recorded(&mut self, kept: Kept, outcome: Result<(), String>, now: Instant) {
        match kept {
            Kept::Overrides => self.keeping.recorded(outcome, now),
            Kept::Names => self.keeping_names.recorded(outcome, now),
        }
    }

    pub(super) fn keep(&mut self, now: Instant) {
        self.keeping.follow(&self.overrides, now);
        let known = self.names.to_keep(now);
        let again = self.keeping_names.is_due(now);
        if let Some(known) = known.or_else(|| again.then(|| self.names.known())) {
            self.keeping_names.follow(&known, now);
        }
    }
}
