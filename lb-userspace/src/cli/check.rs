//! `naru check [FILE]`: is the file good? Exit 0 good, 1 errors, 2 unreadable.

use std::path::PathBuf;

use clap::Args;

use super::{DEFAULT_CONFIG, Exit, complain, diagnostics, say};
use crate::core::config::{Config, Diagnostic, Severity, parse};
use crate::io::{config_file, regular_file, secret_files};

/// Tell whether a configuration file is good, without a daemon.
///
/// Exit status: 0 good; 1 errors; 2 unreadable.
#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG)]
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
        Ok(parsed) => {
            let mut found = parsed.warnings;
            found.extend(exposed_secrets(&name, &text, &parsed.config));
            (found, Some(parsed.config))
        }
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

/// Warns of keys and passwords on this machine that others can read, where the file names them.
fn exposed_secrets(file: &str, text: &str, config: &Config) -> Vec<Diagnostic> {
    let files = config.secret_files().into_iter();
    let warnings = files.filter_map(|(path, named_by)| {
        let message = secret_files::warning(&path, &named_by, regular_file::exposure(&path))?;
        let path = path.display().to_string();
        let start = text.find(&path).unwrap_or_default();
        let line_start = text[..start].rfind('\n').map_or(0, |end| end + 1);
        Some(Diagnostic {
            file: file.to_owned(),
            line: 1 + text[..start].matches('\n').count(),
            column: 1 + text[line_start..start].chars().count(),
            severity: Severity::Warning,
            message,
            hint: None,
            count: 1,
            span: start..start + path.len(),
        })
    });
    warnings.collect()
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
    let errors = found.iter().filter(|found| found.severity == Severity::Error);
    count(errors.map(|found| found.count).sum(), "error")
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
        count: 1,
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
            run(&Arguments { file, json: false })
        };
        assert_eq!(exit("naru.toml"), Exit::Done);
        assert_eq!(exit("naru.example.toml"), Exit::Done);
        assert_eq!(exit("../rustfmt.toml"), Exit::Refused);
        assert_eq!(exit("missing.toml"), Exit::Unreadable);
        assert_eq!(exit(""), Exit::Unreadable);
    }

    #[test]
    fn a_secret_that_others_can_read_is_told_where_the_file_names_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let key = std::env::temp_dir().join(format!("naru-check-key-{}", std::process::id()));
        std::fs::write(&key, "a key").unwrap();
        let text = format!(
            "[vrrp.main]\nid = 1\ninterface = \"eth0\"\naddresses = [\"198.18.0.100/24\"]\nkey_file = {key:?}\n\
             [service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\"]\n"
        );
        let config = parse("naru.toml", &text).unwrap().config;
        let told_at = |mode| {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            exposed_secrets("naru.toml", &text, &config)
        };
        assert_eq!(told_at(0o600), []);
        let told = told_at(0o644);
        std::fs::remove_file(&key).unwrap();
        let headline = told[0].headline();
        let expected = format!(
            "naru.toml:5:13 warning: vrrp \"main\": key_file {}: everybody can read it",
            key.display()
        );
        assert!(headline.starts_with(&expected), "{headline}");
        assert_eq!(exposed_secrets("naru.toml", &text, &config), [], "one that is not here");
    }

    #[test]
    fn the_last_line_counts() {
        let text = std::fs::read_to_string(shipped("demo.toml")).unwrap();
        let config = parse("demo.toml", &text).unwrap().config;
        assert_eq!(good(&config), "good: 1 service, 3 backends");
        assert_eq!(errors(&parse("naru.toml", "[node]\na = 1\n").unwrap_err()), "1 error");
    }
}
