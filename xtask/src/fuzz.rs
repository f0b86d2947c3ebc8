//! Coverage-guided fuzzing on the host: of the data path, against the laws of `tests/src/packets/laws.rs`, of what arrives
//! as VRRP, against those of `tests/src/vrrp/laws.rs`, and of what name servers answer, against `tests/src/answers.rs`.
//!
//! The compiler of the workspace does it: coverage is an LLVM pass, and libFuzzer comes as a crate.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup;
use crate::workspace::{cargo, root, stdout, succeed, target};

/// Marks edges and comparisons, as libFuzzer reads them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// What is fuzzed: each is a binary and a folder of the corpus.
pub const TARGETS: [&str; 3] = ["data-path", "vrrp", "answers"];
/// Longer inputs find nothing that shorter ones do not.
const LONGEST: u32 = 4096;

/// For so many seconds; what is found is kept in the repository's corpus where that is wanted.
pub fn run(what: &str, seconds: u32, keep: bool) -> Result<()> {
    setup::ensure()?;
    let folder = target().join("fuzz");
    let corpus = root().join("tests/fuzz/corpus").join(what);
    let (found, crashes) = (folder.join("found").join(what), folder.join("crashes/"));
    for folder in [&found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    // A named target, so that what runs while building has no coverage.
    let host = host()?;
    let mut build = cargo();
    build.args(["build", "--release", "-p", "lb-fuzz", "--target", &host]);
    succeed(build.arg("--target-dir").arg(&folder).env("RUSTFLAGS", FLAGS))?;

    let program = folder.join(host).join("release").join(what);
    let fuzz = || {
        let mut fuzz = Command::new(&program);
        fuzz.arg(format!("-max_len={LONGEST}"));
        fuzz.arg(format!("-artifact_prefix={}", crashes.display()));
        fuzz
    };
    let limit = format!("-max_total_time={seconds}");
    succeed(fuzz().args([&limit, "-print_final_stats=1"]).args([&found, &corpus])).with_context(|| {
        format!(
            "the input is in {}, and `{} FILE` replays them",
            crashes.display(),
            program.display()
        )
    })?;
    if keep {
        succeed(fuzz().arg("-merge=1").args([&corpus, &found]))?;
    }
    Ok(())
}

fn host() -> Result<String> {
    let told = stdout(Command::new("rustc").arg("-vV"))?;
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc does not say what it compiles for")?.to_owned())
}
