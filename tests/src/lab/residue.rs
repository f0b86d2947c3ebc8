//! What labs leave behind: found by the lab's mark (`<pid>-<n>`) in names and environments, and removed.
//!
//! Never touches anything without that mark, nor a lab whose process lives.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

use super::process::{self, MARK};
use super::{namespace, note};

const PIN_ROOT: &str = "/sys/fs/bpf";
const PREFIX: &str = "naru-lab-";

/// Folder for a lab's files.
pub fn folder(lab_id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{lab_id}"))
}

/// Folder for the pins of one node of a lab.
pub fn pin_folder(lab_id: &str, role: &str) -> PathBuf {
    Path::new(PIN_ROOT).join(format!("{PREFIX}{lab_id}-{role}"))
}

pub enum Left {
    Process(Pid, String),
    Namespace(String),
    Pins(PathBuf),
    Files(PathBuf),
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid, name) => write!(out, "process {pid} ({})", name.trim_end()),
            Self::Namespace(name) => write!(out, "namespace {name}"),
            Self::Pins(path) => write!(out, "pins {}", path.display()),
            Self::Files(path) => write!(out, "files {}", path.display()),
        }
    }
}

impl Left {
    fn remove(&self) {
        match self {
            Self::Process(pid, _) => drop(kill_process(*pid, Signal::KILL)),
            Self::Namespace(name) => namespace::remove(name),
            Self::Pins(path) | Self::Files(path) => drop(fs::remove_dir_all(path)),
        }
    }
}

/// Removes what dead tests left; a lab's mark begins with the pid of its test, and ours has made none yet.
pub fn remove_leftovers() {
    let own = std::process::id();
    let dead = |lab_id: &str| {
        let pid = lab_id.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        pid.is_some_and(|pid| pid == own || !runs(pid))
    };
    for left in find(dead) {
        note(&format!("removing what a dead lab left: {left}"));
        left.remove();
    }
}

/// A zombie does not.
fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// What is left of one lab. It is removed, too: one careless case must not fail the next.
pub fn remove_of(lab_id: &str) -> Vec<Left> {
    let left = find(|found| found == lab_id || found.strip_prefix(lab_id).is_some_and(|rest| rest.starts_with('-')));
    left.iter().for_each(Left::remove);
    left
}

/// `of` is asked with a lab's mark, which the role may follow (`<pid>-<n>[-<role>]`).
fn find(of: impl Fn(&str) -> bool) -> Vec<Left> {
    let mut left = processes(&of);
    let namespaces = namespace::all().into_iter();
    left.extend(
        namespaces
            .filter(|name| name.strip_prefix("naru-").is_some_and(&of))
            .map(Left::Namespace),
    );
    left.extend(folders(Path::new(PIN_ROOT), &of).map(Left::Pins));
    left.extend(folders(&std::env::temp_dir(), &of).map(Left::Files));
    left
}

fn processes(of: impl Fn(&str) -> bool) -> Vec<Left> {
    let mark = format!("{MARK}=");
    let ours = |pid: Pid| {
        // Gone meanwhile, or a zombie: nothing to read, nothing to kill.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let variables = environment
            .split(|byte| *byte == 0)
            .filter_map(|variable| str::from_utf8(variable).ok());
        let lab_id = variables
            .filter_map(|variable| variable.strip_prefix(&mark))
            .next()?
            .to_owned();
        of(&lab_id).then(|| Left::Process(pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter_map(ours)
        .collect()
}

fn folders(parent: &Path, of: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries.filter(move |path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix(PREFIX)).is_some_and(&of)
    })
}

/// What a lab must not change: the network of the namespace the test itself runs in.
pub fn host_picture() -> Result<String> {
    let commands: [&[&str]; 4] = [
        &["ip", "-br", "link"],
        &["ip", "-br", "addr"],
        &["ip", "route", "show", "table", "all"],
        &["bpftool", "net"],
    ];
    let pictures = commands
        .iter()
        .map(|command| process::stdout(Command::new(command[0]).args(&command[1..])));
    pictures.collect()
}
