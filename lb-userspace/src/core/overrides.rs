//! What operators said about backends: it holds until taken back, or until the file's word on that backend changes.
//!
//! A changed file wins because it is the newer word. A restart changes nothing: `record` is how overrides are kept over
//! it. Tested there, and by the scenarios `override_*`.

mod record;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::config::{Backend, Config};
use super::members::Name;
use super::timestamp::rfc3339;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<Name, Override>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub disable: Option<Said>,
    pub drain: Option<Said>,
    pub weight: Option<(u16, Said)>,
    /// The file's word at that time.
    file: Word,
}

/// What the file says of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    address: String,
    weight: u16,
    backup: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub by: String,
    pub at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No traffic, as if it were down.
    Disable,
    Enable,
    /// No new flows; those that are there may finish.
    Drain,
    Undrain,
    /// The weight of the file takes an override back.
    Weight(u16),
}

impl Word {
    fn of(backend: &Backend) -> Self {
        Self {
            address: backend.place.to_string(),
            weight: backend.weight,
            backup: backend.backup,
        }
    }
}

impl Override {
    /// Each thing that was said: `drain`, `weight 3`; with by whom and when.
    pub fn sayings(&self) -> impl Iterator<Item = (String, &Said)> {
        let disable = self.disable.iter().map(|said| ("disable".to_owned(), said));
        let drain = self.drain.iter().map(|said| ("drain".to_owned(), said));
        let weight = self.weight.iter();
        let weight = weight.map(|(weight, said)| (format!("weight {weight}"), said));
        disable.chain(drain).chain(weight)
    }

    /// `drain by root since 2026-01-01T00:00:00Z`.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        self.sayings()
            .map(|(what, said)| format!("{what} by {} since {}", said.by, rfc3339(said.at)))
    }
}

impl Overrides {
    /// Of a backend that the file does not know, nothing is kept.
    pub fn change(&mut self, name: Name, change: Change, said: Said, config: &Config) {
        let Some(file) = config.backend(&name) else { return };
        let new = Override {
            disable: None,
            drain: None,
            weight: None,
            file: Word::of(file),
        };
        let entry = self.0.entry(name).or_insert(new);
        match change {
            Change::Disable => entry.disable = Some(said),
            Change::Enable => entry.disable = None,
            Change::Drain => entry.drain = Some(said),
            Change::Undrain => entry.drain = None,
            Change::Weight(weight) => entry.weight = (weight != file.weight).then_some((weight, said)),
        }
        self.0
            .retain(|_, entry| entry.disable.is_some() || entry.drain.is_some() || entry.weight.is_some());
    }

    /// Gives up those about which the file has a new word, and tells which.
    pub fn yield_to(&mut self, config: &Config) -> BTreeMap<Name, Override> {
        let is_as_it_was =
            |(name, said): &(Name, Override)| config.backend(name).map(Word::of).as_ref() == Some(&said.file);
        let (kept, ended) = std::mem::take(&mut self.0).into_iter().partition(is_as_it_was);
        self.0 = kept;
        ended
    }

    pub fn get(&self, name: &Name) -> Option<&Override> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Override)> {
        self.0.iter()
    }
}
