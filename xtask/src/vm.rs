//! Runs the packet table on other kernels, each in a virtual machine that begins with this very test binary.
//!
//! Needs no root and installs nothing: the emulator and the kernels are Debian's, unpacked below `.tools`. Every
//! instruction is emulated, since machines that build seldom have KVM, so only correctness is judged, never speed.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{progress, setup, workspace};

mod archive;
mod machine;

use archive::Archive;
use machine::Kernel;

/// The kernels of Debian 12 and 13.
pub const SERIES: [&str; 2] = ["6.1", "6.12"];

const MODULE: &str = "packets::";
const LIMIT: Duration = Duration::from_secs(900);
const MEMORY: &str = "2G";
/// Each has a share of the machine's memory and boot.
const MOST_CPUS: usize = 4;
/// Lines of the console shown of a run that failed.
const TAIL: usize = 60;

pub fn run(series: &[String]) -> Result<()> {
    setup::ensure()?;
    let kernels = series
        .iter()
        .map(|series| machine::kernel(series))
        .collect::<Result<Vec<_>>>()?;
    let emulator = machine::emulator()?;
    let archive = machine::folder().join("initramfs");
    fs::write(&archive, first_files()?).context("write the initramfs")?;

    let mut failed = Vec::new();
    for kernel in &kernels {
        let mut boot = emulator.command();
        boot.arg("-initrd").arg(&archive);
        match boot_and_judge(kernel, &mut boot) {
            Ok(lines) => lines.iter().for_each(|line| println!("    {line}")),
            Err(error) => {
                eprintln!("{error:#}");
                failed.push(kernel.release.as_str());
            }
        }
    }
    if !failed.is_empty() {
        bail!("the packet table failed on {}", failed.join(", "));
    }
    Ok(())
}

/// The initramfs: an init and the tests, with their libraries.
fn first_files() -> Result<Vec<u8>> {
    // In place of running the binary it says where it is. The init is built with it.
    let mut find = workspace::cargo();
    find.args(["test", "-p", "lb-tests", "--test", "it", "--config"])
        .arg("target.'cfg(all())'.runner = 'echo'");
    let tests = workspace::stdout(&mut find)?;
    let init = workspace::target().join("debug/naru-init");

    let mut archive = Archive::default();
    archive.program("init", &init)?;
    archive.program("it", tests.trim().as_ref())?;
    for folder in ["proc", "sys"] {
        archive.folder(folder);
    }
    Ok(archive.finish())
}

/// What the run said that is worth reading.
fn boot_and_judge(kernel: &Kernel, boot: &mut Command) -> Result<Vec<String>> {
    let console = machine::folder().join(format!("{}.log", kernel.release));
    let cpus = available_parallelism().map_or(1, usize::from).min(MOST_CPUS);
    boot.args(format!("-m {MEMORY} -smp {cpus} -no-reboot -nodefaults -display none").split(' '));
    boot.arg("-serial").arg(format!("file:{}", console.display()));
    boot.arg("-kernel").arg(&kernel.image);
    // A kernel that panics reboots at once, and that ends the machine. Mitigations only make emulation slower; random
    // and shortened frames take longest of all.
    let words = "console=ttyS0 quiet panic=-1 mitigations=off NARU_FRAMES=10000 NARU_CUT_STEP=40";
    boot.arg("-append").arg(format!("{words} -- {MODULE}"));
    let ran = progress::step(&format!("packet table on {}", kernel.release), LIMIT, boot);

    let said = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).replace('\r', "");
    let judged = ran.and_then(|()| judge(&said));
    judged.with_context(|| {
        let lines: Vec<_> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        format!("{tail}\nall of it: {}\n{}", console.display(), kernel.release)
    })
}

/// A machine can end in many ways; only these words of the test runner mean success.
fn judge(said: &str) -> Result<Vec<String>> {
    let find = |word: &str| {
        let line = said.lines().find_map(|line| line.find(word).map(|at| &line[at..]));
        line.map(str::to_owned)
            .with_context(|| format!("no line says {word:?}"))
    };
    if let Ok(skipped) = find("SKIP ") {
        bail!("{skipped}");
    }
    let result = find("test result: ok. ")?;
    if result.starts_with("test result: ok. 0 passed") {
        bail!("no case ran");
    }
    Ok(vec![find("verifier: ")?, result])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "test a ... verifier: 7 instructions\nok\n\ntest result: ok. 2 passed; 0 failed\ntests: exit 0";

    #[test]
    fn a_good_run_says_how_much_it_did() {
        let lines = judge(GOOD).expect("a good run");
        assert_eq!(
            lines,
            ["verifier: 7 instructions", "test result: ok. 2 passed; 0 failed"]
        );
    }

    #[test]
    fn any_other_run_is_bad() {
        for (from, to) in [
            ("ok. 2 passed", "FAILED. 1 passed"),
            ("ok. 2 passed", "ok. 0 passed"),
            ("verifier: ", ""),
            ("test a", "SKIP b: needs root\ntest a"),
            (GOOD, "Kernel panic - not syncing"),
            (GOOD, ""),
        ] {
            let bad = GOOD.replace(from, to);
            assert!(judge(&bad).is_err(), "{bad}");
        }
    }
}
