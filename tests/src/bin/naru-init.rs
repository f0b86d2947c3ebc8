//! The first process of a virtual machine: runs `/it` with its own arguments, then turns the machine off.
//!
//! What the tests print on the console is the outcome; nothing else tells of it. Started by `cargo xtask vm`.

use std::env;
use std::process::{self, Command};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

fn main() -> Result<()> {
    ensure!(
        process::id() == 1,
        "this turns the machine off: it is for `cargo xtask vm` only"
    );
    for (kind, folder) in [("proc", "/proc"), ("sysfs", "/sys"), ("bpf", "/sys/fs/bpf")] {
        mount(kind, folder, kind, MountFlags::empty(), None).with_context(|| format!("mount {folder}"))?;
    }
    let tests = Command::new("/it").args(env::args_os().skip(1)).status();
    println!("tests: {}", tests.context("run /it")?);
    reboot(RebootCommand::PowerOff).context("turn the machine off")
}
