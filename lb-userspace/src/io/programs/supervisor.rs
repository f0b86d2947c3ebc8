//! The process above a program of the operator's. It adopts whatever the program leaves behind, and kills all of it.
//!
//! A program may start children in sessions of their own: no process group holds them. Linux gives a process without a
//! parent to the nearest ancestor that asked for such, and that is all a supervisor is: an ancestor for one program. It
//! needs no privilege. It ends everything when the program ends, and when the daemon closes its line or dies.
//!
//! Started as this very binary under another name, it never returns to `main`. It runs beside no other thread.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::Duration;
use std::{env, fs};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, wait,
};

/// What it is called, by its first argument; its others are the program's.
pub const NAME: &str = "naru-supervisor";

/// How soon those are looked for again that were killed and are still there, at first and at last.
const LOOK_INTERVAL: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// What the daemon is told.
#[derive(Debug)]
pub enum Report {
    Started,
    CannotRun(io::Error),
    Ended(ExitStatus),
}

impl Report {
    pub const LENGTH: usize = 5;

    fn write(&self) -> [u8; Self::LENGTH] {
        let (kind, number) = match self {
            Self::Started => (0, 0),
            Self::CannotRun(error) => (1, error.raw_os_error().unwrap_or(libc::EINVAL)),
            Self::Ended(status) => (2, status.into_raw()),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    pub fn read([kind, number @ ..]: [u8; Self::LENGTH]) -> io::Result<Self> {
        let number = i32::from_le_bytes(number);
        match kind {
            0 => Ok(Self::Started),
            1 => Ok(Self::CannotRun(io::Error::from_raw_os_error(number))),
            2 => Ok(Self::Ended(ExitStatus::from_raw(number))),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Called before anything else: returns unless this process was started as a supervisor.
pub fn run_if_meant() {
    let mut arguments = env::args_os();
    if arguments.next().is_some_and(|name| name == NAME) {
        let command: Vec<OsString> = arguments.collect();
        let outcome = supervise(&command);
        process::exit(i32::from(outcome.is_err()));
    }
}

/// Standard input and output are the program's; in the place of standard error is the line to the daemon.
fn supervise(command: &[OsString]) -> io::Result<()> {
    let line = io::stderr().as_fd().try_clone_to_owned()?;
    set_child_subreaper(Some(getpid()))?;
    let child = match start(command) {
        Ok(child) => child,
        Err(error) => return tell(&line, &Report::CannotRun(error)),
    };
    // Who does not listen has closed the line: everything is ended below.
    let _ = tell(&line, &Report::Started);
    let ended = watch(child, &line);
    if let Ok(status) = &ended {
        let _ = tell(&line, &Report::Ended(*status));
    }
    end_children();
    ended.map(drop)
}

fn tell(line: &OwnedFd, report: &Report) -> io::Result<()> {
    send(line, &report.write(), SendFlags::NOSIGNAL)?;
    Ok(())
}

fn start(command: &[OsString]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(program);
    command.args(arguments).stderr(output).process_group(0);
    // SAFETY: one system call, which allocates nothing. It is for the case that somebody kills the supervisor.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
    command.spawn()
}

/// Until the program has ended, or nobody wants to know any more. Its group is gone then.
fn watch(mut child: Child, line: &OwnedFd) -> io::Result<ExitStatus> {
    let group = Pid::from_child(&child);
    let end = pidfd_open(group, PidfdFlags::empty())?;
    loop {
        let mut events = [PollFd::new(&end, PollFlags::IN), PollFd::new(line, PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // As long as nobody has asked for its status, the number of its group is not given to another.
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()
}

/// All that are left. Each that dies leaves its own children to us, so this is over when we have none.
fn end_children() {
    let [mut interval, longest] = LOOK_INTERVAL;
    loop {
        let may_die = kill_children();
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => [interval, _] = LOOK_INTERVAL,
            Ok(None) if may_die => {
                sleep(interval);
                interval = (interval * 2).min(longest);
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// False: there are some, and all of them are somebody's whom we may not kill; or the kernel does not tell.
fn kill_children() -> bool {
    let Ok(children) = fs::read_to_string("/proc/thread-self/children") else {
        return false;
    };
    let children = children
        .split_whitespace()
        .filter_map(|id| Pid::from_raw(id.parse().ok()?));
    let killed: Vec<bool> = children.map(|id| kill_process(id, Signal::KILL).is_ok()).collect();
    // One may be missing in the list while others end.
    killed.is_empty() || killed.contains(&true)
}

/// Unit tests start programs too: their own binary becomes the supervisor, before the test harness does.
#[cfg(test)]
#[used]
// SAFETY: the C library calls each function of this section before `main`, and the arguments are known to std by then.
#[unsafe(link_section = ".init_array")]
static BEFORE_TESTS: extern "C" fn() = {
    extern "C" fn before_tests() {
        run_if_meant();
    }
    before_tests
};
