//! Debian's packages: which are missing, and how they get here, installed or merely unpacked into a folder.
//!
//! Never removes a package, and never lets one start or enable a service: the lab starts its own servers.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{privileged, progress, workspace};

const LIMIT: Duration = Duration::from_secs(900);

/// `$1`: what apt-get does; the rest its packages.
const SCRIPT: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then
    made=$policy
    trap 'rm -f $made' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
cluster=/etc/postgresql-common/createcluster.d/naru.conf
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p ${cluster%/*}
    trap 'rm -f $made $cluster' EXIT
    echo 'create_main_cluster = false' >$cluster
fi
apt-get -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
[ "$1" = install ] && [ -d /run/systemd/system ] || exit 0
for pair in nginx haproxy mariadb postgresql knot keepalived unbound bind9=named; do
    case " $* " in *" ${pair%=*}"*) systemctl disable "${pair#*=}" ;; esac
done
"#;

/// `$1`: the folder to unpack into, which is there afterwards only if all went well; the rest packages.
const UNPACK: &str = r#"
set -eu
folder=$1
shift
rm -rf "$folder.part"
mkdir -p "$folder.part"
cd "$folder.part"
apt-get download "$@"
for package in *.deb; do
    dpkg -x "$package" .
    rm "$package"
done
mv "$folder.part" "$folder"
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
    let as_root = root_prefix(&format!("installing {names} {why} needs root"))?;
    update(&as_root);
    let words = [&["install", "--no-install-recommends", "--no-remove"], packages].concat();
    let mut install = script(&as_root, &words);
    progress::step(&format!("installing {names} {why}"), LIMIT, &mut install)
}

/// Looks something up in apt's lists of packages, and downloads it; where that fails once more with fresh lists, as
/// the old ones may name what is gone.
pub fn with_lists<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    attempt().or_else(|_| {
        update(&root_prefix("apt-get update needs root")?);
        attempt()
    })
}

/// The packages in apt's lists whose name begins with this.
pub fn names(prefix: &str) -> Result<Vec<String>> {
    let listed = workspace::stdout(Command::new("apt-cache").args(["pkgnames", prefix]))?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// The package and all it needs, but for what is installed already.
pub fn with_needs(package: &str) -> Result<Vec<String>> {
    let simulated =
        workspace::stdout(Command::new("apt-get").args(["install", "--simulate", "--no-install-recommends", package]))?;
    Ok(to_install(&simulated).map(str::to_owned).collect())
}

/// Downloads the packages and unpacks them into `folder`, for which nobody needs to be root.
pub fn unpack(packages: &[String], folder: &Path) -> Result<()> {
    let last = packages.last().context("find a package to unpack")?;
    let what = match packages.len() - 1 {
        0 => format!("downloading {last}"),
        needs => format!("downloading {last} and {needs} packages it needs"),
    };
    let mut unpack = Command::new("sh");
    unpack.args(["-c", UNPACK, "unpack"]).arg(folder).args(packages);
    progress::step(&what, LIMIT, &mut unpack)
}

/// Any password is asked for now: afterwards the terminal belongs to the progress line.
fn root_prefix(why: &str) -> Result<Vec<&'static str>> {
    let as_root = privileged::prefix(why)?;
    if let Some(sudo) = as_root.first() {
        workspace::succeed(Command::new(sudo).arg("--validate"))?;
    }
    Ok(as_root)
}

/// Once a run. One unreachable source among many is no reason to stop; what comes after will tell.
fn update(as_root: &[&str]) {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.set(()).is_ok() {
        let _ = progress::step("apt-get update", LIMIT, &mut script(as_root, &["update"]));
    }
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

/// Out of what apt would do: `Inst NAME [the version that is there] (the new one …)`, in the order of needs.
fn to_install(simulated: &str) -> impl Iterator<Item = &str> {
    simulated
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_installed_is_read_from_a_simulation() {
        let simulated = "Reading package lists...\nRemv old [1]\nInst libfdt1 (1.6.1-4+b1 Debian [amd64])\n\
                         Inst seabios [1.15] (1.16.2-1 Debian [all])\nConf libfdt1 (1.6.1-4+b1 Debian [amd64])\n";
        assert!(to_install(simulated).eq(["libfdt1", "seabios"]));
    }
}
