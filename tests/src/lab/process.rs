//! Processes of the lab: each dies with the thread that started it, by Drop or by the kernel, its children too.
//!
//! Never started through a shell by name lookup of a pid, never killed by anything but the pid of our own child.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getppid, kill_process, kill_process_group, set_parent_process_death_signal};

use super::poll;

/// Marks everything that a lab starts, so that what is left of it can be found: `NARU_LAB=<pid>-<n>`.
pub const MARK: &str = "NARU_LAB";

/// A command marked as of this lab, in a process group of its own, that the kernel kills when the thread that
/// started it is gone: a test that is killed leaves nothing behind.
pub fn command(lab_id: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let parent = Pid::from_raw(std::process::id().cast_signed());
    command.env(MARK, lab_id).process_group(0);
    // SAFETY: prctl and getppid only, both safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Else the parent died before it could be watched.
            if getppid() == parent {
                Ok(())
            } else {
                Err(Errno::SRCH.into())
            }
        })
    };
    command
}

/// What a command that must succeed printed; its own words are the error otherwise.
pub fn stdout(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    ensure!(
        output.status.success(),
        "{command:?}: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {:?}; is it installed?", command.get_program()))
}

/// Gives a command its standard input; it must succeed.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {:?}; is it installed?", command.get_program()))?;
    let sent = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{command:?} with\n{input}\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    sent.context("write its input")
}

/// What it says goes to the end of this file.
pub fn log_to(command: &mut Command, log: &Path) -> Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(())
}

/// A running process; it and its process group are killed on Drop.
pub struct Process {
    child: Child,
    pid: Pid,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        let pid = Pid::from_child(&child);
        Ok(Self { child, pid })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("signal process {}", self.id()))
    }

    /// With all its children.
    pub fn kill_all(&mut self) -> Result<()> {
        kill_process_group(self.pid, Signal::KILL).with_context(|| format!("kill process group {}", self.id()))?;
        self.child.wait().context("wait for its end").map(|_| ())
    }

    /// With all its children.
    pub fn pause_all(&self) -> Result<()> {
        kill_process_group(self.pid, Signal::STOP).with_context(|| format!("stop process group {}", self.id()))
    }

    /// None while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("ask for the exit status")
    }

    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        poll::until(within, || match self.ended()? {
            Some(status) => Ok(status),
            None => bail!("process {} still runs", self.id()),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A group whose leader is gone and reaped may still have members, and its number is not given out again
        // while it has; without members there is nobody to hit, for the pid was ours until the wait below.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
