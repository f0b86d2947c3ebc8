//! Shows Naru at work: the demo in a lab of its own, or the daemon on this host.
//!
//! Builds as the user who asked; only what is built runs as root.

use std::os::unix::process::CommandExt;
use std::path::{self, Path};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{packages, privileged, setup, workspace};

pub fn run(config: Option<&Path>) -> Result<()> {
    setup::ensure()?;
    let mut command = match config {
        Some(config) => daemon(config)?,
        None => demo()?,
    };
    Err(command.exec()).context("start it")
}

fn demo() -> Result<Command> {
    packages::ensure(packages::LAB, "for the demo")?;
    workspace::succeed(workspace::cargo().args(["build", "-p", "lb-userspace", "-p", "lb-tests", "--bins"]))?;
    as_root(
        "naru-demo",
        "the demo makes network namespaces and loads an XDP program into them, which needs root",
    )
}

fn daemon(config: &Path) -> Result<Command> {
    let config = path::absolute(config).context("find the configuration file")?;
    workspace::succeed(workspace::cargo().args(["build", "-p", "lb-userspace", "--bins"]))?;
    let mut command = as_root(
        "naru",
        "the daemon loads an XDP program on this host's interfaces, which needs root",
    )?;
    command.arg("run").arg("--config").arg(config);
    Ok(command)
}

fn as_root(bin: &str, why: &str) -> Result<Command> {
    let path = workspace::target().join("debug").join(bin);
    privileged::command(path.to_str().context("find the target folder by a name in UTF-8")?, why)
}
