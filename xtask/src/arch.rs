//! The rules of the house that no compiler checks: what the core may name, which crate may know which, how files
//! are named, headed and how long they get.
//!
//! Each broken rule is one line, `file:line: what, and why that is refused`. The rules are tested with small texts.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace;

mod dependencies;
mod files;
mod names;
mod purity;

pub fn run() -> Result<()> {
    let mut files = Vec::new();
    collect(workspace::root(), &mut files)?;
    let mut broken: Vec<String> = files.iter().flat_map(|(path, text)| check(path, text)).collect();
    broken.sort();
    for line in &broken {
        eprintln!("{line}");
    }
    match broken.len() {
        0 => Ok(()),
        count => bail!("{count} broken rules"),
    }
}

/// One line for each rule that `text`, found at `path` of the workspace, breaks.
fn check(path: &str, text: &str) -> Vec<String> {
    let broken = match path.strip_suffix("Cargo.toml") {
        Some(_) => dependencies::check(text),
        None => files::check(path, text)
            .into_iter()
            .chain(purity::check(path, text))
            .collect(),
    };
    broken
        .into_iter()
        .map(|Broken { line, what }| format!("{path}:{line}: {what}"))
        .collect()
}

struct Broken {
    line: usize,
    what: String,
}

/// Every manifest and Rust file below `folder`, with its path from the workspace's root.
fn collect(folder: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry.context("read a folder")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let path = path
                .strip_prefix(workspace::root())
                .expect("the walk began at the root");
            files.push((path.to_string_lossy().into_owned(), text));
        }
    }
    Ok(())
}
