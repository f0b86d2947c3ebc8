//! Debian's packages: which are missing, and how they get here.
//!
//! Never removes a package, and never lets one start or enable a service: the lab starts its own servers.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;

use crate::{privileged, progress, workspace};

const LIMIT: Duration = Duration::from_secs(900);

/// `$1`: what apt-get does; the rest its packages.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
apt-get -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
[ "$1" = install ] && [ -d /run/systemd/system ] || exit 0
for unit in nginx haproxy; do
    case " $* " in *" $unit "*) systemctl disable "$unit" ;; esac
done
"#;

pub fn is_here() -> bool {
    workspace::has_command("apt-get") && workspace::has_command("dpkg-query")
}

pub fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect()
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${db:Status-Status} ", package])
        .stderr(Stdio::null());
    query
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"installed"))
}

/// `why` completes "installing PACKAGES".
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let names = packages.join(" ");
    let as_root = privileged::prefix(&format!("installing {names} {why} needs root"))?;
    if let Some(sudo) = as_root.first() {
        // Any password is asked for now: afterwards the terminal belongs to the progress line.
        workspace::succeed(Command::new(sudo).arg("--validate"))?;
    }
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.set(()).is_ok() {
        // One unreachable source among many is no reason to stop; the installation will tell.
        let _ = progress::step("apt-get update", LIMIT, &mut script(&as_root, &["update"]));
    }
    let words = [&["install", "--no-install-recommends", "--no-remove"], packages].concat();
    let mut install = script(&as_root, &words);
    progress::step(&format!("installing {names} {why}"), LIMIT, &mut install)
}

fn script(as_root: &[&str], words: &[&str]) -> Command {
    let all: Vec<_> = as_root
        .iter()
        .chain(&["sh", "-c", SCRIPT, "apt"])
        .chain(words)
        .collect();
    let mut command = Command::new(all[0]);
    command.args(&all[1..]).env("PATH", workspace::search_path());
    command
}
