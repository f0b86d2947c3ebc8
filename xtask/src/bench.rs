//! Runs the measurements of `naru-bench`, optimised.

use anyhow::{Context, Result};

use crate::{packages, privileged, setup, workspace};

pub fn run(name: Option<&str>, runs: Option<u32>) -> Result<()> {
    setup::ensure()?;
    packages::ensure(packages::BENCH, "for the measurements")?;
    let mut build = workspace::cargo();
    workspace::succeed(build.args(["build", "--release", "-p", "lb-userspace", "-p", "lb-tests", "--bins"]))?;
    let bench = workspace::target().join("release/naru-bench");
    let bench = bench.to_str().context("find the target folder by a name in UTF-8")?;
    let why = "measuring takes network namespaces and an XDP program, which needs root";
    let runs = runs.map(|runs| format!("--runs={runs}"));
    workspace::succeed(privileged::command(bench, why)?.args(name).args(runs))
}
