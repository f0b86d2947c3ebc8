//! `naru reload`: has the daemon apply the file now, and waits for the outcome.

use std::path::Path;

use clap::Args;
use serde::Deserialize;

use super::ask::ask;
use super::{Exit, complain, say};
use crate::io::control::Request;

/// Apply the configuration file now, and wait until it is served.
///
/// When the file is refused, says why, exits with 1, and the previous configuration stays. Warns when a service has nobody
/// up by the new file; the file is applied all the same.
#[derive(Debug, Args)]
pub struct Arguments {}

#[derive(Deserialize)]
struct Outcome {
    generation: u64,
    path: String,
    /// A daemon of before these has none.
    #[serde(default)]
    warnings: Vec<String>,
}

pub fn run(socket: &Path, Arguments {}: &Arguments) -> Exit {
    match ask::<Outcome>("reload", socket, &Request::Reload {}) {
        Ok(Outcome {
            generation,
            path,
            warnings,
        }) => {
            for warning in warnings {
                complain(format_args!("naru reload: warning: {warning}"));
            }
            say(&format!("{path} is served, as generation {generation}"))
        }
        Err(exit) => exit,
    }
}
