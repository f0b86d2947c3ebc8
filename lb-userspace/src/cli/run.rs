//! `naru run`: the daemon in the foreground.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{DEFAULT_CONFIG, Exit, complain, diagnostics};
use crate::daemon::{self, StartError};

/// Serve a configuration, until SIGTERM or SIGINT.
///
/// A change of the file is applied as it is saved; SIGHUP and `naru reload` apply it at once. When naru ends, the
/// kernel goes on forwarding by the last configuration; `rm -r` of the pin directory ends that too.
///
/// Exit status: 0 ended by a signal; 1 errors in the configuration; 2 unreadable; 3 the configuration is good but
/// cannot be served here (privileges, interfaces, attaching, another naru), and nothing is changed.
///
/// NARU_LOG sets what is logged, such as `debug` or `naru=debug,warn`. At debug each refused flow is told: why, from
/// where, to where.
#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

pub fn run(Arguments { config }: Arguments) -> Exit {
    let filter = EnvFilter::try_from_env("NARU_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would tell them to the very place that cannot be written, and panic: no log is no reason to end.
        .log_internal_errors(false)
        .init();
    let Err(error) = daemon::run(config) else {
        return Exit::Done;
    };
    if let StartError::Config { text, found, .. } = &error {
        diagnostics::print(found, text);
    }
    complain(format_args!("naru run: {error}"));
    match error {
        StartError::Config { .. } => Exit::Refused,
        StartError::Unreadable { .. } => Exit::Unreadable,
        StartError::Host(_) => Exit::CannotServe,
    }
}
