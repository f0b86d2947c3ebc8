//! What an operator reads for a file, as text in, lines out.

mod files;
mod fit;
mod many;
mod mistakes;
mod properties;
mod schema;
mod unavailable;
mod vrrp;

use super::*;

/// Each diagnostic as `line:column message`.
fn found(text: &str) -> Vec<String> {
    let found = match parse("naru.toml", text) {
        Ok(parsed) => parsed.warnings,
        Err(found) => found,
    };
    found
        .iter()
        .map(|found| found.headline().trim_start_matches("naru.toml:").to_owned())
        .collect()
}

fn hints(text: &str) -> Vec<String> {
    let found = parse("naru.toml", text).expect_err("the file has an error");
    found.into_iter().filter_map(|found| found.hint).collect()
}

#[track_caller]
fn check(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(found(text), *expected, "for\n{text}");
    }
}

/// A line in a good service, which begins in line 4.
#[track_caller]
fn check_service(cases: &[(&str, &[&str])]) {
    for (line, expected) in cases {
        assert_eq!(found(&format!("{SMALLEST}{line}\n")), *expected, "for {line}");
    }
}

fn config(text: &str) -> Config {
    parse("naru.toml", text)
        .unwrap_or_else(|found| panic!("{found:#?}"))
        .config
}

const SMALLEST: &str = r#"[service.web]
listen = "198.18.0.100:80"
backends = ["198.18.1.11:8080", "198.18.1.12:8080"]
"#;
