//! A new configuration: all of it or nothing. The last good one stays in force, and the status tells why.

use std::path::PathBuf;

use serde::Serialize;
use tracing::{error, info};

use super::Daemon;
use super::ownership::with_secrets;
use super::start::check_interfaces;
use crate::core::config::{self, Diagnostic, Parsed, Severity};
use crate::core::vrrp::settings::Settings;
use crate::core::world::Event;
use crate::io::{config_file, memory, systemd};

/// Bytes of a file; to read it takes a hundred times as many for a moment.
const LARGE: usize = 64 * 1024;

/// A file that is in force.
#[derive(Serialize)]
pub(super) struct Reloaded {
    generation: u64,
    path: PathBuf,
    /// What it does that its writer may not have meant, each in a sentence.
    warnings: Vec<String>,
}

/// A file that can come into force, and what the files that it names say.
struct Accepted {
    parsed: Parsed,
    instances: Vec<Settings>,
}

impl Daemon {
    /// Reads the file and applies it. Err: all that is wrong.
    pub(super) async fn reload(&mut self) -> Result<Reloaded, String> {
        let text = config_file::read_in_time(&self.path)
            .await
            .map_err(|error| error.to_string());
        self.try_text(text).await
    }

    pub(super) async fn file_changed(&mut self, text: Result<String, String>) {
        if text != self.tried {
            drop(self.try_text(text).await);
        }
    }

    async fn try_text(&mut self, text: Result<String, String>) -> Result<Reloaded, String> {
        systemd::reloading();
        self.tried = text.clone();
        let is_large = text.as_ref().is_ok_and(|text| text.len() > LARGE);
        let path = self.path.display().to_string();
        let config = match text {
            Ok(text) => self.examine(&text).await,
            Err(reason) => Err(format!("cannot read {path}: {reason}")),
        };
        self.apply(config).await;
        if is_large {
            memory::give_back();
        }
        systemd::ready(&self.summary());
        if let Some(reason) = self.world.refused() {
            error!(path, reason, "configuration refused; keeping the previous one");
            return Err(format!("{reason}\nkeeping the previous configuration"));
        }
        let generation = self.world.applied().map_or(0, |applied| applied.generation);
        info!(path, generation, "configuration applied");
        self.tell_all();
        match self.world.failures() {
            [] => Ok(Reloaded {
                generation,
                path: self.path.clone(),
                warnings: self.warnings(),
            }),
            failures => {
                let failures: Vec<&str> = failures.iter().map(|failure| failure.error.as_str()).collect();
                Err(format!(
                    "generation {generation} is in force but for this, tried again every second:\n{}",
                    failures.join("\n")
                ))
            }
        }
    }

    /// Of the file in force, and of what it has left with nobody up.
    fn warnings(&self) -> Vec<String> {
        let applied = self.world.applied().into_iter();
        let of_file = applied.flat_map(|applied| &applied.file.warnings);
        let emptied = self.world.emptied().iter();
        let emptied = emptied.map(|(service, why)| format!("service {service:?}: {why}"));
        of_file.map(Diagnostic::placed).chain(emptied).collect()
    }

    /// Until the neighbours that this file is the first to name are known and their backends judged, what was before goes
    /// on: a new backend alone in its service would have clients refused.
    async fn apply(&mut self, accepted: Result<Accepted, String>) {
        let before = self.world.to_resolve();
        let (config, instances) = match accepted {
            Ok(Accepted { parsed, instances }) => (Ok(parsed), Some(instances)),
            Err(refusal) => (Err(refusal), None),
        };
        if self.learn(Event::Config(config)) {
            self.crew_follows();
            self.settle(|daemon| {
                let resolve = daemon.world.to_resolve();
                !daemon.world.is_undecided() && daemon.are_known(resolve.difference(&before))
            })
            .await;
            self.act();
            // What the world refused is not to be shared either.
            if let Some(instances) = instances.filter(|_| self.world.refused().is_none()) {
                self.keep_shared(instances);
            }
            self.begin_sweep(false);
            self.told.tell(&self.world);
        }
    }

    /// What was asked of backends that are gone is of no interest.
    pub(super) fn crew_follows(&mut self) {
        let world = &self.world;
        self.crew.retain(|id| world.target(id).is_some());
    }

    /// All that can fail before anything changes.
    async fn examine(&mut self, text: &str) -> Result<Accepted, String> {
        let parsed = config::parse(&self.path.display().to_string(), text).map_err(|found| {
            let errors = found.iter().filter(|found| found.severity == Severity::Error);
            errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })?;
        // A picture is handed out as new but once: whoever takes it has the world know it.
        self.network_changed();
        let applied = self.world.applied().map(|applied| &applied.file.config);
        if let Some(network) = self.world.network() {
            check_interfaces(&parsed.config, applied, network)?;
        }
        let instances = with_secrets(&parsed.config)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let begun = self.begin_sharing(&parsed.config).await;
        begun.map_err(|error| format!("{error:#}"))?;
        Ok(Accepted { parsed, instances })
    }
}
