//! The daemon's Unix socket: one request line in, one reply line out, for the socket's owner only.
//!
//! Never answers by itself: each request is a `Call` the daemon's loop takes when it has time. A client that
//! stalls, floods or talks nonsense loses its own connection and nothing else. Tested in `control/tests.rs`.

mod protocol;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

pub use protocol::{AskError, FlowRow, Flows, Reply, Request, Target, ask};

pub const SOCKET: &str = "naru.sock";
const LOCK: &str = "naru.lock";

const LINE_LIMIT: u64 = 64 * 1024;
/// To send the whole request, and to take the next part of the reply.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;

/// A request that waits for its reply.
#[derive(Debug)]
pub struct Call {
    pub request: Request,
    /// Who asks: a user name, or `uid N`.
    pub caller: String,
    reply: oneshot::Sender<Reply>,
}

impl Call {
    /// A caller who has hung up meanwhile misses it.
    pub fn reply(self, reply: Reply) {
        let _ = self.reply.send(reply);
    }
}

/// The bound socket; dropping it removes the file.
pub struct Control {
    path: PathBuf,
    calls: mpsc::Receiver<Call>,
    task: JoinHandle<()>,
    /// Held for as long as this daemon lives, so that a socket without a holder is known to be stale.
    _lock: File,
}

impl Control {
    /// Binds `run_dir/naru.sock`, in place of what a dead daemon left, never of what a live one uses.
    pub fn bind(run_dir: &Path) -> anyhow::Result<Self> {
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o755);
        folder
            .create(run_dir)
            .with_context(|| format!("create run_dir {}", run_dir.display()))?;
        let lock = lock(run_dir)?;
        let path = run_dir.join(SOCKET);
        let listener = bind_owner_only(&path).with_context(|| format!("bind control socket {}", path.display()))?;
        let (sender, calls) = mpsc::channel(CONNECTIONS);
        let task = tokio::spawn(accept(listener, sender));
        Ok(Self {
            path,
            calls,
            task,
            _lock: lock,
        })
    }

    /// The next request. Cancel safe.
    pub async fn call(&mut self) -> Call {
        match self.calls.recv().await {
            Some(call) => call,
            // The accepting task holds a sender and never ends by itself.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(run_dir: &Path) -> anyhow::Result<File> {
    let path = run_dir.join(LOCK);
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "another naru (process {}) already runs with run_dir {}; stop it, or give this one its own [node] run_dir",
                holder.trim(),
                run_dir.display()
            );
        }
    }
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .with_context(|| format!("write process id to {}", path.display()))?;
    Ok(lock)
}

/// Under its own name the socket never exists with wider permissions.
fn bind_owner_only(path: &Path) -> std::io::Result<UnixListener> {
    let unready = path.with_extension("sock.new");
    match fs::remove_file(&unready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unready)?;
    fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
    fs::rename(&unready, path)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, calls).await {
                        debug!(error = format!("{error:#}"), "control client dropped");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept control clients; trying again");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, calls: mpsc::Sender<Call>) -> anyhow::Result<()> {
    let caller = user_name(stream.peer_cred().context("read peer credentials")?.uid());
    let reply = match timeout(PATIENCE, read_request(&mut stream))
        .await
        .context("no whole request in time")??
    {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            calls
                .send(Call { request, caller, reply })
                .await
                .context("hand over request")?;
            answer.await.context("the daemon stops")?
        }
        Err(refusal) => Reply::Refused(refusal),
    };
    let mut line = serde_json::to_vec(&reply).context("encode reply")?;
    line.push(b'\n');
    let mut left = line.as_slice();
    while !left.is_empty() {
        let taken = timeout(PATIENCE, stream.write(left))
            .await
            .context("the reply is not taken")?;
        left = &left[taken.context("send reply")?..];
    }
    Ok(())
}

/// The outer error is the connection's, the inner one the client's.
async fn read_request(stream: &mut UnixStream) -> anyhow::Result<Result<Request, String>> {
    let mut line = Vec::new();
    let read = BufReader::new(stream.take(LINE_LIMIT))
        .read_until(b'\n', &mut line)
        .await
        .context("read request")?;
    if read == 0 {
        bail!("hung up without a request");
    }
    if line.last() != Some(&b'\n') {
        return Ok(Err(if line.len() as u64 == LINE_LIMIT {
            format!("the request is longer than {LINE_LIMIT} bytes")
        } else {
            "the request does not end its line".to_owned()
        }));
    }
    Ok(serde_json::from_slice(&line).map_err(|error| format!("not a request: {error}")))
}

fn user_name(uid: u32) -> String {
    let name_in = |users: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
    };
    fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|users| name_in(&users))
        .unwrap_or_else(|| format!("uid {uid}"))
}
