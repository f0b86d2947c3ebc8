//! What client and daemon say to each other, and the client's half of saying it.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One JSON object on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    // Braces, for serde refuses unknown fields in such variants only.
    Status {},
    /// Read the configuration file again; the reply comes when it is applied.
    Reload {},
    Flows {
        service: Option<String>,
        backend: Option<String>,
    },
    Disable {
        target: Target,
    },
    Enable {
        target: Target,
    },
    Explain {
        target: Target,
    },
    Events {},
    Dns {},
    Vrrp {},
    /// Of one instance, or of all.
    Failover {
        name: Option<String>,
    },
    Failback {
        name: Option<String>,
    },
    Drain {
        target: Target,
    },
    Undrain {
        target: Target,
    },
    Weight {
        target: Target,
        weight: u16,
    },
}

/// A backend, as `SERVICE/BACKEND` on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub service: String,
    pub backend: String,
}

/// The answer to `Flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub flows: Vec<FlowRow>,
    /// How many there are beside those listed.
    pub more: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    pub service: Option<String>,
    /// None: it has left the configuration, and the flow outlives it.
    pub backend: Option<String>,
    pub protocol: String,
    pub client: SocketAddr,
    pub listen: SocketAddr,
    pub snat: SocketAddr,
    pub backend_address: SocketAddr,
    pub state: String,
    pub idle_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done(serde_json::Value),
    /// Why not, for a person to read.
    Refused(String),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((service, backend)) if !service.is_empty() && !backend.is_empty() => Ok(Self {
                service: service.to_owned(),
                backend: backend.to_owned(),
            }),
            _ => Err("a backend is named SERVICE/BACKEND"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no daemon answers at {}: {error}; start it with `naru run`", path.display())]
    NoDaemon { path: PathBuf, error: io::Error },
    #[error("may not ask the daemon at {}: only the user it runs as (and root) may", path.display())]
    Denied { path: PathBuf },
    #[error("no answer from {} within {} s; the daemon hangs or is stopped", path.display(), patience.as_secs())]
    Silent { path: PathBuf, patience: Duration },
    #[error("the daemon at {} did not finish its answer: {error}", path.display())]
    Broken { path: PathBuf, error: io::Error },
    /// The daemon's own words.
    #[error("{0}")]
    Refused(String),
}

/// A reload of a large configuration is the slowest thing there is to wait for.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn ask(socket: &Path, request: &Request) -> Result<serde_json::Value, AskError> {
    ask_within(PATIENCE, socket, request)
}

pub(super) fn ask_within(patience: Duration, socket: &Path, request: &Request) -> Result<serde_json::Value, AskError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied { path: path() },
        _ => AskError::NoDaemon { path: path(), error },
    })?;
    let reply = exchange(patience, &stream, request).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskError::Silent { path: path(), patience },
        _ => AskError::Broken { path: path(), error },
    })?;
    match reply {
        Reply::Done(value) => Ok(value),
        Reply::Refused(reason) => Err(AskError::Refused(reason)),
    }
}

fn exchange(patience: Duration, mut stream: &UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    if BufReader::new(stream).read_until(b'\n', &mut reply)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&reply)?)
}
