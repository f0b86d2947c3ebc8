//! The world's part in overrides: whom they may be about, and what is told of those an earlier daemon wrote down.

use std::time::SystemTime;

use thiserror::Error;

use super::World;
use crate::core::config::Config;
use crate::core::journal::What;
use crate::core::members::Name;
use crate::core::overrides::Overrides;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unknown {
    #[error("no service {service:?}; there are: {known}")]
    Service { service: String, known: String },
    #[error("service {service:?} has no backend {backend:?}; it has: {known}")]
    Backend {
        service: String,
        backend: String,
        known: String,
    },
}

impl World {
    /// Whether an override would find its backend.
    pub fn find(&self, name: &Name) -> Result<(), Unknown> {
        let services = self.applied.iter().flat_map(|applied| &applied.file.config.services);
        let list = |names: Vec<&str>| names.join(", ");
        let Some((_, service)) = services.clone().find(|(service, _)| **service == name.service) else {
            let known = list(services.map(|(service, _)| service.as_str()).collect());
            return Err(Unknown::Service {
                service: name.service.clone(),
                known,
            });
        };
        if service.backends.iter().any(|backend| backend.name == name.backend) {
            return Ok(());
        }
        let known = list(service.backends.iter().map(|backend| backend.name.as_str()).collect());
        Err(Unknown::Backend {
            service: name.service.clone(),
            backend: name.backend.clone(),
            known,
        })
    }

    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// The file may have a new word on some; of those of an earlier daemon, the others are in force from now on.
    pub(super) fn confirm_overrides(&mut self, config: &Config, now: SystemTime) {
        for (name, said) in self.overrides.yield_to(config) {
            let said = said.sentences().collect::<Vec<_>>().join(", ");
            let text = format!("{said} has ended: the file says something new");
            self.journal.write(now, What::Override { name, text });
        }
        if self.applied.is_none() {
            for (name, said) in self.overrides.iter() {
                let said = said.sentences().collect::<Vec<_>>().join(", ");
                let text = format!("{said} still holds");
                let name = name.clone();
                self.journal.write(now, What::Override { name, text });
            }
        }
    }
}
