//! Programs of the operator's: run, watched, and killed with all they started.
//!
//! Each has a process of ours above it, the supervisor (see `programs/supervisor.rs`), which does the killing: also when the
//! daemon itself is killed. What programs are for, and what their exit code means, is for those who run them. Tested by
//! `probes::exec`, and in the lab.

pub mod supervisor;

use std::io::{self, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use self::supervisor::Report;

pub const AT_ONCE: usize = 16;
/// Of what one prints; the rest is read and forgotten, so that it does not wait for a reader.
pub const KEPT: usize = 1024;
/// One that prints without end is read at intervals, a whole pipe each time.
const READ_INTERVAL: Duration = Duration::from_millis(5);
const PIPE: usize = 64 * 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));

/// Waits until there are not too many.
pub async fn place() -> OwnedSemaphorePermit {
    let place = Arc::clone(&PLACES).acquire_owned().await;
    place.expect("INVARIANT: the semaphore is never closed")
}

/// A running program. Dropped, it is killed with all it started; its place is free when all of that is gone.
pub struct Run {
    supervisor: Option<Supervisor>,
    output: Receiver,
}

struct Supervisor {
    child: Child,
    /// Readable when it has ended.
    end: AsyncFd<OwnedFd>,
    /// Brings its reports. Closed, by us or by our death, it tells the supervisor to end everything.
    line: UnixStream,
    place: OwnedSemaphorePermit,
}

impl Run {
    /// No shell, an own environment but for a PATH; `input` is short enough for a pipe to hold it.
    pub async fn start(
        command: &[String],
        environment: &[(&'static str, String)],
        input: &[u8],
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let (stdin, mut told) = pipe()?;
        told.write_all(input)?;
        drop(told);
        let (output, writer) = pipe()?;
        let (line, far_end) = StdUnixStream::pair()?;
        line.set_nonblocking(true)?;
        let (line, output) = (UnixStream::from_std(line)?, Receiver::from_owned_fd(output.into())?);
        // The file itself, also when another version has taken its name.
        let child = Command::new("/proc/self/exe")
            .arg0(supervisor::NAME)
            .args(command)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(stdin)
            .stdout(writer)
            .stderr(OwnedFd::from(far_end))
            .process_group(0)
            .spawn()?;
        let supervisor = Supervisor::new(child, line, place)?;
        let started = supervisor.report().await;
        let run = Self {
            supervisor: Some(supervisor),
            output,
        };
        match started? {
            Report::Started => Ok(run),
            Report::CannotRun(error) => Err(error),
            Report::Ended(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// How it ended, and the beginning of what it printed.
    pub async fn finish(&mut self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let supervisor = self.supervisor.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let (mut said, mut part, mut is_open) = (Vec::new(), vec![0; PIPE], true);
        let mut next_read = Instant::now();
        let report = loop {
            let read = async {
                sleep_until(next_read).await;
                self.output.read(&mut part).await
            };
            tokio::select! {
                biased;
                report = supervisor.report() => break report?,
                read = read, if is_open => {
                    let count = read?;
                    is_open = count > 0;
                    keep(&mut said, &part[..count]);
                    if said.len() == KEPT {
                        next_read = Instant::now() + READ_INTERVAL;
                    }
                }
            }
        };
        // Its last words came before its end.
        while said.len() < KEPT
            && let Ok(count @ 1..) = self.output.try_read(&mut part)
        {
            keep(&mut said, &part[..count]);
        }
        match report {
            Report::Ended(status) => Ok((status, said)),
            Report::CannotRun(error) => Err(error),
            Report::Started => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Supervisor {
    fn new(mut child: Child, line: UnixStream, place: OwnedSemaphorePermit) -> io::Result<Self> {
        match watch(&child) {
            Ok(end) => Ok(Self {
                child,
                end,
                line,
                place,
            }),
            Err(error) => {
                // Its program dies with it.
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    /// The next one. Cancel safe.
    async fn report(&self) -> io::Result<Report> {
        let mut bytes = [0; Report::LENGTH];
        loop {
            self.line.readable().await?;
            match self.line.try_read(&mut bytes) {
                Ok(Report::LENGTH) => return Report::read(bytes),
                Ok(_) => return Err(io::Error::other("its supervisor was killed")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn watch(child: &Child) -> io::Result<AsyncFd<OwnedFd>> {
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    // SAFETY: an OwnedFd is open for as long as it lives, and the AsyncFd never gives it away.
    Ok(unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }?)
}

fn keep(said: &mut Vec<u8>, part: &[u8]) {
    let room = (KEPT - said.len()).min(part.len());
    said.extend_from_slice(&part[..room]);
}

impl Drop for Run {
    fn drop(&mut self) {
        let (Some(supervisor), Ok(runtime)) = (self.supervisor.take(), Handle::try_current()) else {
            return;
        };
        let Supervisor {
            mut child,
            end,
            line,
            place,
        } = supervisor;
        drop(line);
        // What hangs in the kernel dies later, and nobody should wait for that.
        runtime.spawn(async move {
            let _ = end.readable().await;
            let _ = child.wait();
            drop(place);
        });
    }
}
