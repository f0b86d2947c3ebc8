//! Writes `config/naru.schema.json`, by which editors check and complete the configuration file.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::{setup, workspace};

pub fn run() -> Result<()> {
    setup::ensure()?;
    let mut print = workspace::cargo();
    print
        .args(["run", "--quiet", "-p", "lb-userspace", "--example", "schema"])
        .stderr(Stdio::inherit());
    let output = print.output().context("run the example schema")?;
    workspace::check(&print, output.status)?;
    fs::write(workspace::root().join("config/naru.schema.json"), output.stdout).context("write the schema")
}
