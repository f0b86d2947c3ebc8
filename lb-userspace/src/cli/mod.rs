//! The command line: arguments in, text and exit codes out.
//!
//! Decides nothing: all but `run` and `check` ask the daemon. Each command family has its file.

mod ask;
pub mod check;
pub mod diagnostics;
mod dns;
mod events;
mod explain;
mod flows;
mod overrides;
mod reload;
mod run;
mod status;
mod table;
mod vrrp;

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::io::programs::supervisor;

/// The file that is served, and looked at, when none is named.
const DEFAULT_CONFIG: &str = "/etc/naru/naru.toml";

/// How a command ends. `naru run` explains the same codes to its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    /// By the daemon; or there are errors in what was looked at.
    Refused = 1,
    /// Nothing could be looked at, or shown: an unreadable file, no daemon, wrong usage, a full disk.
    Unreadable = 2,
    /// `run` only: the configuration is good, but this host does not let it be served.
    CannotServe = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A load balancer in the kernel's fast path, and the daemon that keeps it true.
#[derive(Debug, Parser)]
#[command(
    name = "naru",
    version,
    after_help = "Exit status: 0 done; 1 refused, or errors found; 2 unreadable, no daemon, or wrong usage."
)]
pub struct Cli {
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        env = "NARU_SOCKET",
        value_name = "PATH",
        default_value = "/run/naru/naru.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Reload(reload::Arguments),
    Status(status::Arguments),
    Explain(explain::Arguments),
    Events(events::Arguments),
    Dns(dns::Arguments),
    Vrrp(vrrp::Arguments),
    Failover(vrrp::Failover),
    Failback(vrrp::Failback),
    Flows(flows::Arguments),
    Disable(overrides::Disable),
    Enable(overrides::Enable),
    Drain(overrides::Drain),
    Undrain(overrides::Undrain),
    Weight(overrides::Weight),
}

pub fn main() -> ExitCode {
    supervisor::run_if_meant();
    let Cli { socket, command } = Cli::parse();
    let exit = match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Reload(arguments) => reload::run(&socket, &arguments),
        Command::Status(arguments) => status::run(&socket, &arguments),
        Command::Explain(arguments) => explain::run(&socket, arguments),
        Command::Events(arguments) => events::run(&socket, &arguments),
        Command::Dns(arguments) => dns::run(&socket, &arguments),
        Command::Vrrp(arguments) => vrrp::run(&socket, &arguments),
        Command::Failover(arguments) => vrrp::failover(&socket, arguments),
        Command::Failback(arguments) => vrrp::failback(&socket, arguments),
        Command::Flows(arguments) => flows::run(&socket, arguments),
        Command::Disable(arguments) => overrides::disable(&socket, arguments),
        Command::Enable(arguments) => overrides::enable(&socket, arguments),
        Command::Drain(arguments) => overrides::drain(&socket, arguments),
        Command::Undrain(arguments) => overrides::undrain(&socket, arguments),
        Command::Weight(arguments) => overrides::weight(&socket, arguments),
    };
    exit.into()
}

/// To standard output, where a reader who has left has seen enough.
fn say(text: &str) -> Exit {
    said(writeln!(io::stdout(), "{text}"))
}

fn said(written: io::Result<()>) -> Exit {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("naru: cannot write the answer: {error}"));
            Exit::Unreadable
        }
        _ => Exit::Done,
    }
}

/// To standard error. When nobody can hear that, the exit code has to do.
fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// For programs: a document on a line, its fields in the order of their definition.
fn one_line(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("what came as JSON goes as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_answer_that_does_not_arrive_is_no_success_unless_the_reader_left() {
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(said(writeln!(full, "answer")), Exit::Unreadable);
        let (reader, mut left) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(said(writeln!(left, "answer")), Exit::Done);
        assert_eq!(said(Ok(())), Exit::Done);
    }

    #[test]
    fn the_socket_may_be_given_before_and_after_the_command() {
        for line in ["naru --socket /tmp/s status", "naru status --socket /tmp/s"] {
            assert_eq!(parse(line).unwrap().socket, PathBuf::from("/tmp/s"));
        }
    }

    #[test]
    fn check_looks_at_the_file_that_run_would_serve() {
        let file = |line: &str| match parse(line).unwrap().command {
            Command::Check(arguments) => arguments.file,
            Command::Run(arguments) => arguments.config,
            _ => panic!("{line}"),
        };
        assert_eq!(file("naru check"), file("naru run"));
        assert_eq!(file("naru check"), PathBuf::from("/etc/naru/naru.toml"));
        assert_eq!(file("naru check a.toml"), PathBuf::from("a.toml"));
    }

    #[test]
    fn targets_are_split_at_the_first_slash() {
        let Command::Weight(arguments) = parse("naru weight web/198.18.1.11:80 0").unwrap().command else {
            panic!()
        };
        assert_eq!(arguments.target.service, "web");
        assert_eq!(arguments.target.backend, "198.18.1.11:80");
        assert_eq!(arguments.weight, 0);
    }

    #[test]
    fn wrong_usage_exits_with_2_and_names_the_mistake() {
        for (line, mistake) in [
            ("naru drain web", "SERVICE/BACKEND"),
            ("naru drain /x", "SERVICE/BACKEND"),
            ("naru drain", "<SERVICE/BACKEND>"),
            ("naru weight web/a 1001", "1001 is not in 0..=1000"),
            ("naru weight web/a -1", "-1"),
            ("naru statis", "status"),
            ("naru run --config", "--config <FILE>"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), Exit::Unreadable as i32, "{line}");
            assert!(error.to_string().contains(mistake), "{line}: {error}");
        }
    }
}
