//! Where the workspace is, and how its commands run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};

static ROOT: LazyLock<PathBuf> =
    LazyLock::new(|| bpf_builder::workspace().expect("cargo runs this from within the workspace"));

pub fn root() -> &'static Path {
    &ROOT
}

/// Tools built for the project, never for the whole machine.
pub fn tools() -> PathBuf {
    root().join(".tools")
}

/// Where cargo leaves what it builds.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The cargo that runs this, at the workspace's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env("PATH", search_path());
    // What cargo told this program about itself: some build scripts look at it, and would run again each time that
    // cargo is called with it after being called without.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        cargo.env_remove(name);
    }
    cargo
}

pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {}", name(command)))?;
    check(command, status)
}

/// What a command printed that succeeded.
pub fn stdout(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", name(command)))?;
    check(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("read what {} printed", name(command)))
}

pub fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{}: {status}", name(command));
    }
    Ok(())
}

/// The program and its first argument: enough to know it by.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words: Vec<_> = [program]
        .into_iter()
        .chain(command.get_args().take(1))
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

pub fn has_command(name: &str) -> bool {
    env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

/// `PATH`, and the folders of system commands, which users' shells leave out.
pub fn search_path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::join_paths(env::split_paths(&own).chain(system)).expect("folders out of a PATH hold no colon")
}
