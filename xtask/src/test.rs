//! Runs the tests: all of them, the packet table, the lab.
//!
//! Builds as the user who asked; only the test binaries that make networks run as root. What is printed is the
//! runner's own. Under CI a skipped test fails the run: it proves nothing.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::workspace::{cargo, check, succeed};
use crate::{packages, privileged, setup, workspace};

const WHY_ROOT: &str = "these tests load XDP programs and make network namespaces, which needs root";
/// Crates with such tests.
const PRIVILEGED: [&str; 2] = ["lb-userspace", "lb-tests"];

pub fn all() -> Result<()> {
    prepare()?;
    if privileged::is_root() {
        return run(cargo().args(["test", "--no-fail-fast"]));
    }
    let mut unprivileged = cargo();
    unprivileged.args(["test", "--no-fail-fast", "--workspace"]);
    for package in ["lb-ebpf", "lb-tests-bpf"].iter().chain(&PRIVILEGED) {
        unprivileged.args(["--exclude", package]);
    }
    let first = run(&mut unprivileged);
    let second = run(as_root()?
        .args(["test", "--no-fail-fast"])
        .args(PRIVILEGED.map(|package| ["-p", package]).concat()));
    first.and(second)
}

/// The table, or so many random frames.
pub fn packet(random: Option<u64>) -> Result<()> {
    prepare()?;
    let Some(frames) = random else {
        return cases("packets::", &list("packets::", None)?, false);
    };
    let mut test = as_root()?;
    test.args(["test", "-p", "lb-tests", "--test", "it", "packets::random::"]);
    run(test.env("NARU_FRAMES", frames.to_string()))
}

/// `long`: in the sizes that a case has for those who have time.
pub fn lab(filter: Option<&str>, repeat: u32, long: bool) -> Result<()> {
    prepare()?;
    let names = list("lab::", filter)?;
    let mut failed = 0;
    for round in 1..=repeat {
        if repeat > 1 {
            println!("round {round} of {repeat}");
        }
        failed += u32::from(cases("lab::", &names, long).is_err());
    }
    if failed > 0 {
        bail!("lab: {failed} of {repeat} rounds failed");
    }
    Ok(())
}

/// The cases start the daemon, so that is built as well.
fn prepare() -> Result<()> {
    setup::ensure()?;
    packages::ensure(packages::LAB, "for the lab")?;
    succeed(cargo().arg("build"))
}

/// Names of the cases of a module of `it` that contain `filter`.
fn list(module: &str, filter: Option<&str>) -> Result<Vec<String>> {
    let mut list = cargo();
    list.args([
        "test", "--quiet", "-p", "lb-tests", "--test", "it", "--", "--list", module,
    ]);
    let names = select(&workspace::stdout(&mut list)?, module, filter.unwrap_or_default());
    if names.is_empty() {
        match filter {
            Some(filter) => bail!("no case in {module} has {filter:?} in its name"),
            None => bail!("there is no case in {module}"),
        }
    }
    Ok(names)
}

fn select(listed: &str, module: &str, filter: &str) -> Vec<String> {
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let chosen = names.filter(|name| name.strip_prefix(module).is_some_and(|case| case.contains(filter)));
    chosen.map(str::to_owned).collect()
}

fn cases(module: &str, names: &[String], long: bool) -> Result<()> {
    let mut test = as_root()?;
    if long {
        test.env("NARU_LONG", "1");
    }
    test.args(["test", "-p", "lb-tests", "--test", "it", "--", "--exact"])
        .args(names);
    run(&mut test).with_context(|| format!("run {module}"))
}

/// A cargo whose test binaries run as root.
fn as_root() -> Result<Command> {
    let mut cargo = cargo();
    let prefix = privileged::prefix(WHY_ROOT)?;
    if !prefix.is_empty() {
        cargo.args(["--config", &format!("target.'cfg(all())'.runner = {prefix:?}")]);
    }
    Ok(cargo)
}

fn run(test: &mut Command) -> Result<()> {
    if env::var_os("CI").is_none_or(|value| value != "true") {
        return succeed(test);
    }
    let mut child = test
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run cargo test")?;
    let out = child.stdout.take().expect("stdout is piped");
    let err = child.stderr.take().expect("stderr is piped");
    let mut skipped = thread::scope(|scope| {
        let errors = scope.spawn(|| pass_on(err, io::stderr()));
        let mut skipped = pass_on(out, io::stdout());
        skipped.extend(errors.join().expect("the copying thread does not panic"));
        skipped
    });
    check(test, child.wait().context("wait for cargo test")?)?;
    skipped.sort();
    if !skipped.is_empty() {
        bail!("{} tests were skipped:\n{}", skipped.len(), skipped.join("\n"));
    }
    Ok(())
}

/// Copies every line, and keeps those that tell of a skipped test.
fn pass_on(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut skipped = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let _ = to.write_all(&[&line[..], b"\n"].concat());
        let line = String::from_utf8_lossy(&line);
        if let Some(at) = line.find("SKIP ") {
            skipped.push(line[at..].trim_end().to_owned());
        }
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_by_module_and_part_of_the_name() {
        let listed =
            "lab::reload::keeps_flows: test\nlab::pins: test\npackets::reload: test\n\n3 tests, 0 benchmarks\n";
        assert_eq!(select(listed, "lab::", "reload"), ["lab::reload::keeps_flows"]);
        assert_eq!(select(listed, "lab::", ""), ["lab::reload::keeps_flows", "lab::pins"]);
        assert_eq!(select(listed, "lab::", "lab"), [""; 0]);
    }

    #[test]
    fn skipped_tests_are_noticed_wherever_they_stand_in_a_line() {
        let mut copy = Vec::new();
        let skipped = pass_on(
            &b"test a ... ok\ntest b ... SKIP lab::b: needs root\nSKIP c: no nft"[..],
            &mut copy,
        );
        assert_eq!(skipped, ["SKIP lab::b: needs root", "SKIP c: no nft"]);
        assert_eq!(copy.iter().filter(|byte| **byte == b'\n').count(), 3);
    }
}
