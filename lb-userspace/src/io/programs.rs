//! Programs of the operator's: run, watched, and killed with all they started.
//!
//! What they are for, and what their exit code means, is for those who run them. Tested by `probes::exec`.

use std::io::{self, PipeReader, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, LazyLock};
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub const AT_ONCE: usize = 16;
/// Of what one prints; the rest is read and forgotten, so that it does not wait for a reader.
pub const KEPT: usize = 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));

/// Waits until there are not too many.
pub async fn place() -> OwnedSemaphorePermit {
    let place = Arc::clone(&PLACES).acquire_owned().await;
    place.expect("INVARIANT: the semaphore is never closed")
}

/// A running program. Dropped, it and its group are killed; its place is free when it is gone.
pub struct Run {
    leader: Option<(Child, OwnedSemaphorePermit)>,
    group: Pid,
    /// Readable when the leader has ended.
    end: Option<AsyncFd<OwnedFd>>,
    output: Option<Receiver>,
}

impl Run {
    /// No shell, an own environment but for a PATH; `input` is short enough for a pipe to hold it.
    pub fn start(
        command: &[String],
        environment: &[(&'static str, String)],
        input: &[u8],
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let (stdin, mut told) = pipe()?;
        told.write_all(input)?;
        drop(told);
        let (reader, writer) = pipe()?;
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(stdin)
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        Self::new(child, reader, place)
    }

    fn new(child: Child, output: PipeReader, place: OwnedSemaphorePermit) -> io::Result<Self> {
        let mut run = Self {
            group: Pid::from_child(&child),
            leader: Some((child, place)),
            end: None,
            output: None,
        };
        // Whatever fails from here on, it is killed by the drop.
        let end = pidfd_open(run.group, PidfdFlags::empty())?;
        // SAFETY: an OwnedFd is open for as long as it lives, and the AsyncFd never gives it away.
        run.end = Some(unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }?);
        run.output = Some(Receiver::from_owned_fd(output.into())?);
        Ok(run)
    }

    /// How it ended, and the beginning of what it printed.
    pub async fn finish(&mut self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (Some(end), Some(output)) = (&self.end, &mut self.output) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (mut said, mut part, mut is_open) = (Vec::new(), [0; 4096], true);
        loop {
            tokio::select! {
                biased;
                read = output.read(&mut part), if is_open => match read? {
                    0 => is_open = false,
                    count => {
                        let room = KEPT.saturating_sub(said.len()).min(count);
                        said.extend_from_slice(&part[..room]);
                    }
                },
                ended = end.readable() => {
                    ended?.retain_ready();
                    break;
                }
            }
        }
        // As long as nobody has asked for its status, the number of its group is not given to another.
        let _ = kill_process_group(self.group, Signal::KILL);
        let Some((mut child, _place)) = self.leader.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        Ok((child.wait()?, said))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some((mut child, place)) = self.leader.take() {
            let _ = kill_process_group(self.group, Signal::KILL);
            // One that hangs in the kernel dies later, and nobody should wait for that.
            thread::spawn(move || {
                let _ = child.wait();
                drop(place);
            });
        }
    }
}
