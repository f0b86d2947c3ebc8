//! Every check that needs no run: formatting, clippy, dependencies, architecture.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::workspace::{cargo, succeed};
use crate::{arch, deny, setup};

type Check = fn() -> Result<()>;

/// Goes through all of them, whatever fails.
pub fn run() -> Result<()> {
    setup::ensure()?;
    for component in ["fmt", "clippy"] {
        ensure_component(component)?;
    }
    let checks: [(&str, Check); 4] = [
        ("fmt", fmt),
        ("clippy", clippy),
        ("deny", deny::run),
        ("arch", arch::run),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        match check() {
            Ok(()) => println!("{name}: ok"),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    Ok(())
}

fn fmt() -> Result<()> {
    succeed(cargo().args(["fmt", "--all", "--check"]))
}

/// The BPF crates are seen with the host's eyes: clippy has no toolchain of their own to run on.
fn clippy() -> Result<()> {
    succeed(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn ensure_component(name: &str) -> Result<()> {
    let works = |command: &mut Command| {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if works(cargo().args([name, "--version"])) {
        return Ok(());
    }
    let component = if name == "fmt" { "rustfmt" } else { name };
    if works(Command::new("rustup").args(["component", "add", component])) {
        return Ok(());
    }
    bail!("cargo {name} is missing: run `rustup component add {component}`")
}
