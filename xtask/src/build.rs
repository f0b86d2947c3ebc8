//! Builds the workspace; the build scripts bring the BPF programs.

use anyhow::Result;

use crate::{setup, workspace};

pub fn run(release: bool) -> Result<()> {
    setup::ensure()?;
    workspace::succeed(workspace::cargo().arg("build").args(release.then_some("--release")))
}
