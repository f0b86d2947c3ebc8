//! `naru check FILE`: is the file good? Exit 0 good, 1 errors, 2 unreadable.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, complain, diagnostics, say};
use crate::core::config::{Config, Diagnostic, Severity, parse};
use crate::io::config_file;

/// Tell whether a configuration file is good, without a daemon.
///
/// Exit status: 0 good; 1 errors; 2 unreadable.
#[derive(Debug, Args)]
pub struct Arguments {
    pub file: PathBuf,
    /// The diagnostics as JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(Arguments { file, json }: &Arguments) -> Exit {
    let name = file.display().to_string();
    let text = match config_file::read(file) {
        Ok(text) => text,
        Err(error) => {
            if *json {
                say(&as_json(&[unreadable(name, error.to_string())]));
            } else {
                complain(format_args!("cannot read {name}: {error}"));
            }
            return Exit::Unreadable;
        }
    };
    let (found, config) = match parse(&name, &text) {
        Ok(parsed) => (parsed.warnings, Some(parsed.config)),
        Err(found) => (found, None),
    };
    let said = if *json {
        say(&as_json(&found))
    } else {
        diagnostics::print(&found, &text);
        say(&format!(
            "{name}: {}",
            config.as_ref().map_or_else(|| errors(&found), good)
        ))
    };
    match config {
        Some(_) => said,
        None => Exit::Refused,
    }
}

fn good(config: &Config) -> String {
    let backends = config.services.values().map(|service| service.backends.len()).sum();
    format!(
        "good: {}, {}",
        count(config.services.len(), "service"),
        count(backends, "backend")
    )
}

fn errors(found: &[Diagnostic]) -> String {
    count(
        found.iter().filter(|found| found.severity == Severity::Error).count(),
        "error",
    )
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn unreadable(file: String, why: String) -> Diagnostic {
    let message = format!("cannot be read: {why}");
    Diagnostic {
        file,
        line: 1,
        column: 1,
        severity: Severity::Error,
        message,
        hint: None,
        span: 0..0,
    }
}

fn as_json(found: &[Diagnostic]) -> String {
    serde_json::to_string_pretty(found).expect("strings and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> String {
        format!("{}/../config/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_exit_code_says_good_wrong_or_unreadable() {
        let exit = |name: &str| {
            let file = shipped(name).into();
            run(&Arguments { file, json: true })
        };
        assert_eq!(exit("naru.toml"), Exit::Done);
        assert_eq!(exit("naru.example.toml"), Exit::Refused);
        assert_eq!(exit("missing.toml"), Exit::Unreadable);
        assert_eq!(exit(""), Exit::Unreadable);
    }

    #[test]
    fn the_last_line_counts() {
        let text = std::fs::read_to_string(shipped("demo.toml")).unwrap();
        let config = parse("demo.toml", &text).unwrap().config;
        assert_eq!(good(&config), "good: 1 service, 3 backends");
        assert_eq!(errors(&parse("naru.toml", "[node]\na = 1\n").unwrap_err()), "1 error");
    }
}
