//! Checks the crates this is built from: licences, sources, and one version of each.
//!
//! Reads `deny.toml`, of which it knows the part below; `cargo deny` reads the same file and needs minutes to
//! install. Neither known vulnerabilities nor anything else is fetched from the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace;

pub fn run() -> Result<()> {
    let text = fs::read_to_string(workspace::root().join("deny.toml")).context("read deny.toml")?;
    let rules = Rules::parse(&text).context("read deny.toml")?;
    let mut tree = workspace::cargo();
    tree.args(["tree", "--workspace", "--edges", "normal,build,dev"]);
    let output = tree
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .output()
        .context("run cargo tree")?;
    workspace::check(&tree, output.status)?;
    let wrong = violations(&String::from_utf8_lossy(&output.stdout), &rules);
    for line in &wrong {
        eprintln!("{line}");
    }
    match wrong.len() {
        0 => Ok(()),
        count => bail!("{count} violations of deny.toml"),
    }
}

struct Rules {
    licences: BTreeSet<String>,
    /// Crates of which several versions are accepted.
    duplicates: BTreeSet<String>,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let list = |section: &str, key: &str| -> Result<BTreeSet<String>> {
            let entries = table
                .get(section)
                .and_then(|section| section.get(key))
                .and_then(toml::Value::as_array);
            let entries = entries.with_context(|| format!("find the list [{section}] {key}"))?;
            // An entry is a name, or a table that says why as well.
            let name = |entry: &toml::Value| entry.get("crate").unwrap_or(entry).as_str().map(str::to_owned);
            Ok(entries.iter().filter_map(name).collect())
        };
        Ok(Self {
            licences: list("licenses", "allow")?,
            duplicates: list("bans", "skip")?,
        })
    }
}

/// `tree` has lines like `serde v1.0.229|MIT OR Apache-2.0`, those of the workspace and of git with a place.
fn violations(tree: &str, rules: &Rules) -> Vec<String> {
    let crates: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let mut wrong = Vec::new();
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (package, licence) in crates.iter().filter_map(|line| line.split_once('|')) {
        let words: Vec<_> = package.split(' ').collect();
        let [name, version, ..] = words[..] else { continue };
        versions.entry(name).or_default().insert(version);
        if package.contains("(http") || package.contains("(git") {
            wrong.push(format!("{package}: comes from elsewhere than the registry"));
        }
        if !allowed(licence, &rules.licences) {
            wrong.push(format!(
                "{name} {version}: licence {licence:?} is not among those allowed"
            ));
        }
    }
    for (name, versions) in versions.iter().filter(|(name, _)| !rules.duplicates.contains(**name)) {
        if versions.len() > 1 {
            let versions: Vec<_> = versions.iter().copied().collect();
            wrong.push(format!("{name}: several versions: {}", versions.join(", ")));
        }
    }
    wrong
}

/// Evaluates an SPDX expression; `/` is an older way to write OR.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    either(&mut rest, licences) && rest.is_empty()
}

fn either(words: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    let mut good = both(words, licences);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        // Not short-circuited: the words must be used up.
        good |= both(words, licences);
    }
    good
}

fn both(words: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    let mut good = one(words, licences);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        good &= one(words, licences);
    }
    good
}

fn one(words: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    match words {
        ["(", rest @ ..] => {
            *words = rest;
            let good = either(words, licences);
            let closed = words.strip_prefix(&[")"]);
            *words = closed.unwrap_or_default();
            good && closed.is_some()
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            licences.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            licences.contains(*licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::parse(
            "[licenses]\nallow = ['MIT', 'Zlib', 'Apache-2.0 WITH LLVM-exception']\n\
             [bans]\nskip = [{ crate = 'syn', reason = 'moving' }, 'old']\n",
        )
        .unwrap()
    }

    #[test]
    fn licence_expressions_hold_when_one_choice_is_allowed() {
        let licences = rules().licences;
        for good in [
            "MIT",
            "GPL-2.0 OR MIT",
            "MIT/GPL-2.0",
            "(GPL-2.0 OR MIT) AND Zlib",
            "MIT AND (Zlib OR GPL-2.0)",
        ] {
            assert!(allowed(good, &licences), "{good}");
        }
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0", &licences));
        for bad in [
            "",
            "GPL-2.0",
            "MIT AND GPL-2.0",
            "(GPL-2.0 OR MIT) AND GPL-2.0",
            "Apache-2.0",
            "MIT Zlib",
            "(MIT",
        ] {
            assert!(!allowed(bad, &licences), "{bad}");
        }
    }

    #[test]
    fn each_rule_is_told_with_the_crate() {
        let tree = "a v1.0.0|MIT\nb v1.0.0|GPL-3.0\nsyn v2.0.0|MIT\nsyn v3.0.0|MIT (*)\nc v1.0.0|MIT\nc v2.0.0|MIT\n\
                    d v1.0.0 (https://example.org/d#1)|MIT\n";
        assert_eq!(
            violations(tree, &rules()),
            [
                r#"b v1.0.0: licence "GPL-3.0" is not among those allowed"#,
                "d v1.0.0 (https://example.org/d#1): comes from elsewhere than the registry",
                "c: several versions: v1.0.0, v2.0.0",
            ]
        );
    }
}
