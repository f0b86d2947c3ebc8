//! Becomes root where that is needed, and says why; nothing else runs as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace;

/// What a command run as root needs of the user's environment.
const KEPT: &str = "--preserve-env=CI,NARU_CUT_STEP,NARU_FRAMES,NARU_LONG,NARU_SEED,RUST_BACKTRACE,RUST_LOG,PATH";

pub fn is_root() -> bool {
    // The owner of one's own /proc entry is the effective user.
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// What to put before a command so that root runs it: nothing for root.
pub fn prefix(why: &str) -> Result<Vec<&'static str>> {
    if is_root() {
        return Ok(Vec::new());
    }
    if !workspace::has_command("sudo") {
        bail!("{why}, and there is no sudo here: run this command as root");
    }
    eprintln!("xtask: {why}: continuing with sudo");
    Ok(vec!["sudo", KEPT, "--"])
}

/// A command that root runs.
pub fn command(program: &str, why: &str) -> Result<Command> {
    let words: Vec<_> = prefix(why)?.into_iter().chain([program]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("PATH", workspace::search_path());
    Ok(command)
}
