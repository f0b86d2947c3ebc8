//! The daemon's Unix socket: one request line in, one reply line out, for the socket's owner only.
//!
//! Never answers by itself: each request is a `Call` the daemon's loop takes when it has time. A client that
//! stalls, floods or talks nonsense loses its own connection and nothing else. Tested in `control/tests.rs`.

mod protocol;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::lock_file::{LockError, LockFile};

pub use protocol::{AskError, FlowRow, Flows, Reply, Request, Target, ask};

pub const SOCKET: &str = "naru.sock";
const LOCK: &str = "naru.lock";

const LINE_LIMIT: u64 = 64 * 1024;
/// To send the whole request, and to take the next part of the reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// One more takes the place of the one that keeps us waiting for the longest.
const CONNECTIONS: usize = 64;
/// How long a client may keep us waiting whatever happens: it may not have had the time to ask.
const GRACE: Duration = Duration::from_millis(100);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

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
    _lock: LockFile,
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

fn lock(run_dir: &Path) -> anyhow::Result<LockFile> {
    LockFile::take(&run_dir.join(LOCK)).map_err(|error| match error {
        LockError::Held { by } => anyhow!(
            "another naru (process {by}) already runs with run_dir {}; stop it, or give this one its own [node] run_dir",
            run_dir.display()
        ),
        other => other.into(),
    })
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
    let mut clients = Clients::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                clients.make_room().await;
                clients.serve(stream, calls.clone());
            }
            Err(error) => {
                warn!(%error, "cannot accept control clients; trying again");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Those that are connected, the oldest first.
#[derive(Default)]
struct Clients(VecDeque<Client>);

struct Client {
    task: JoinHandle<()>,
    since: Instant,
    /// It has asked, and the daemon has not answered yet; else we wait for it.
    waits: Arc<AtomicBool>,
}

impl Clients {
    /// Nobody who keeps us waiting keeps another from being served.
    async fn make_room(&mut self) {
        loop {
            self.0.retain(|client| !client.task.is_finished());
            if self.0.len() < CONNECTIONS {
                return;
            }
            let is_idle = |client: &Client| client.since.elapsed() > GRACE && !client.waits.load(Ordering::Relaxed);
            let idle = self.0.iter().position(is_idle);
            match idle.and_then(|place| self.0.remove(place)) {
                Some(client) => client.task.abort(),
                None => sleep(RETRY_INTERVAL).await,
            }
        }
    }

    fn serve(&mut self, stream: UnixStream, calls: mpsc::Sender<Call>) {
        let waits = Arc::new(AtomicBool::new(false));
        let is_waiting = waits.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = serve(stream, calls, &is_waiting).await {
                debug!(error = format!("{error:#}"), "control client dropped");
            }
        });
        let since = Instant::now();
        self.0.push_back(Client { task, since, waits });
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.iter().for_each(|client| client.task.abort());
    }
}

async fn serve(mut stream: UnixStream, calls: mpsc::Sender<Call>, waits: &AtomicBool) -> anyhow::Result<()> {
    let caller = user_name(stream.peer_cred().context("read peer credentials")?.uid());
    let reply = match timeout(PATIENCE, read_request(&mut stream))
        .await
        .context("no whole request in time")??
    {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            waits.store(true, Ordering::Relaxed);
            calls
                .send(Call { request, caller, reply })
                .await
                .context("hand over request")?;
            let answer = answer.await;
            waits.store(false, Ordering::Relaxed);
            answer.context("the daemon stops")?
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
