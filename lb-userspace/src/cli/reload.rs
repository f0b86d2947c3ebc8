//! `naru reload`: has the daemon apply the file now, and waits for the outcome.

use std::path::Path;

use clap::Args;
use serde::Deserialize;

use super::ask::ask;
use super::{Exit, say};
use crate::io::control::Request;

/// Apply the configuration file now, and wait until it is served.
///
/// When the file is refused, says why, exits with 1, and the previous configuration stays.
#[derive(Debug, Args)]
pub struct Arguments {}

#[derive(Deserialize)]
struct Outcome {
    generation: u64,
    path: String,
}

pub fn run(socket: &Path, Arguments {}: &Arguments) -> Exit {
    match ask::<Outcome>("reload", socket, &Request::Reload {}) {
        Ok(Outcome { generation, path }) => say(&format!("{path} is served, as generation {generation}")),
        Err(exit) => exit,
    }
}
