//! What a virtual machine is made of: the emulator, and kernels of other series than the one that runs here.
//!
//! Both are unpacked once and kept; remove `.tools/vm` to get newer ones.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::{apt, workspace};

const EMULATOR: &str = "qemu-system-x86_64";
const EMULATOR_PACKAGE: &str = "qemu-system-x86";
/// The smallest kernels that Debian builds.
const KERNEL_PREFIX: &str = "linux-image-";
const KERNEL_SUFFIX: &str = "-cloud-amd64";

pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    pub image: PathBuf,
}

/// None: installed. Else the folder it was unpacked into.
pub struct Emulator(Option<PathBuf>);

pub fn folder() -> PathBuf {
    workspace::tools().join("vm")
}

pub fn emulator() -> Result<Emulator> {
    if workspace::has_command(EMULATOR) {
        return Ok(Emulator(None));
    }
    let unpacked = folder().join("qemu");
    if !unpacked.exists() {
        need_apt(EMULATOR)?;
        apt::with_lists(|| apt::unpack(&apt::with_needs(EMULATOR_PACKAGE)?, &unpacked))?;
    }
    Ok(Emulator(Some(unpacked)))
}

impl Emulator {
    /// One that emulates every instruction, also where there is KVM: it may be there and not work.
    pub fn command(&self) -> Command {
        let mut command = match &self.0 {
            None => Command::new(EMULATOR),
            Some(root) => {
                let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| root.join(folder));
                let libraries = env::join_paths(libraries).expect("the workspace's path holds no colon");
                let mut command = Command::new(root.join("usr/bin").join(EMULATOR));
                command.env("LD_LIBRARY_PATH", libraries);
                command
            }
        };
        command.args(["-accel", "tcg,thread=multi", "-cpu", "qemu64"]);
        command
    }
}

/// The one of this series that was unpacked before, else the newest that apt has.
pub fn kernel(series: &str) -> Result<Kernel> {
    let package = match newest(unpacked_kernels(), series) {
        Some(package) => package,
        None => {
            need_apt(&format!("a kernel {series}"))?;
            apt::with_lists(|| unpack_kernel(series))?
        }
    };
    let release = package[KERNEL_PREFIX.len()..].to_owned();
    let image = folder().join(&package).join("boot").join(format!("vmlinuz-{release}"));
    Ok(Kernel { release, image })
}

fn unpacked_kernels() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn unpack_kernel(series: &str) -> Result<String> {
    let known = apt::names(&format!("{KERNEL_PREFIX}{series}."))?;
    let package = newest(known.into_iter(), series).with_context(|| {
        format!("find {KERNEL_PREFIX}{series}.…{KERNEL_SUFFIX} in apt's lists: Debian 12 has 6.1 and 6.12")
    })?;
    apt::unpack(std::slice::from_ref(&package), &folder().join(&package))?;
    Ok(package)
}

/// By the numbers in their names: 6.1.0-9 is older than 6.1.0-56.
fn newest(packages: impl Iterator<Item = String>, series: &str) -> Option<String> {
    let prefix = format!("{KERNEL_PREFIX}{series}.");
    let numbers = |name: &String| -> Vec<u32> {
        let parts = name.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    };
    packages
        .filter(|name| name.starts_with(&prefix) && name.ends_with(KERNEL_SUFFIX))
        .max_by_key(numbers)
}

fn need_apt(what: &str) -> Result<()> {
    if !apt::is_here() {
        bail!("{what} is missing, and there is no apt-get here to download it with");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_is_chosen() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-60-cloud-amd64-unsigned",
            "linux-image-6.1.0-61-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64.part",
            "qemu",
        ];
        let newest = |series| newest(names.iter().map(|name| (*name).to_owned()), series);
        assert_eq!(newest("6.1").as_deref(), Some(names[1]));
        assert_eq!(newest("6.12").as_deref(), Some(names[4]));
        assert_eq!(newest("6"), newest("6.12"));
        assert_eq!(newest("5.10"), None);
    }
}
