//! What operators said about backends: it holds until taken back, until the file's word on that backend changes, or until
//! the daemon restarts.
//!
//! A changed file wins because it is the newer word, and the one that the next start will go by.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::config::{Backend, Config};
use super::members::Name;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<Name, Override>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub disable: Option<Said>,
    pub drain: Option<Said>,
    pub weight: Option<(u16, Said)>,
    /// The file's word at that time.
    file: Backend,
}

#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Overrides {
    /// Of a backend that the file does not know, nothing is kept.
    pub fn change(&mut self, name: Name, change: Change, said: Said, config: &Config) {
        let Some(file) = in_file(config, &name) else { return };
        let new = Override {
            disable: None,
            drain: None,
            weight: None,
            file: file.clone(),
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

    pub fn yield_to(&mut self, config: &Config) {
        self.0.retain(|name, entry| in_file(config, name) == Some(&entry.file));
    }

    pub fn get(&self, name: &Name) -> Option<&Override> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Override)> {
        self.0.iter()
    }
}

fn in_file<'a>(config: &'a Config, name: &Name) -> Option<&'a Backend> {
    config
        .services
        .get(&name.service)?
        .backends
        .iter()
        .find(|backend| backend.name == name.backend)
}
