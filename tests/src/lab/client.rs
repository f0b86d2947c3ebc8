//! HTTP clients, small and strict: whatever is not the answer of a backend of ours counts as an error.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::Namespace;

/// TCP waits twice as long after each loss: what was lost again and again in a flood goes on seconds after that.
const PATIENCE: Duration = Duration::from_secs(15);

/// The head of an answer.
pub struct Head {
    pub backend: String,
    pub length: usize,
}

pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(target: SocketAddr) -> Result<Self> {
        Self::on(TcpStream::connect_timeout(&target, PATIENCE).context("connect")?)
    }

    /// From this address and port, which may have served another connection just before.
    pub fn open_from(from: SocketAddr, target: SocketAddr, patience: Duration) -> Result<Self> {
        let family = if target.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket(family, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // It holds for connecting, too.
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        bind(&socket, &from).with_context(|| format!("bind {from}"))?;
        connect(&socket, &target).context("connect")?;
        Self::on(TcpStream::from(socket))
    }

    pub fn on(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(1024, stream),
        })
    }

    /// Asks and reads the head; the body follows by `read`.
    pub fn ask(&mut self, path: &str, last: bool) -> Result<Head> {
        let connection = if last { "close" } else { "keep-alive" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n");
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .context("send the request")?;

        let status = self.line()?;
        ensure!(status.starts_with("HTTP/1.1 200 "), "answer {status:?}");
        let mut head = Head {
            backend: String::new(),
            length: 0,
        };
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("X-Backend", name)) => head.backend = name.to_owned(),
                Some(("Content-Length", length)) => head.length = length.parse()?,
                Some(_) => {}
                None if line.is_empty() => break,
                None => bail!("header {line:?}"),
            }
        }
        ensure!(!head.backend.is_empty(), "answer without a backend's name");
        Ok(head)
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.stream.read_exact(buffer).context("read the body")
    }

    /// The name of the backend that answered `/`, checked against what it says in the body.
    pub fn who(&mut self, last: bool) -> Result<String> {
        let head = self.ask("/", last)?;
        let mut body = vec![0; head.length];
        self.read(&mut body)?;
        ensure!(
            body == format!("{}\n", head.backend).as_bytes(),
            "body {:?}",
            String::from_utf8_lossy(&body)
        );
        Ok(head.backend)
    }

    /// With a time of zero it ends by a reset.
    pub fn linger(&self, linger: Option<Duration>) -> Result<()> {
        Ok(sockopt::set_socket_linger(self.stream.get_ref(), linger)?)
    }

    /// Waits until the server has closed its side.
    pub fn end(mut self) -> Result<()> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).context("wait for the end")?;
        ensure!(rest.is_empty(), "{} bytes more than announced", rest.len());
        Ok(())
    }

    /// Ends it by a RST.
    pub fn reset(self) -> Result<()> {
        sockopt::set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO)).context("ask for a RST")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("read the head")?;
        ensure!(length > 0, "connection closed before the head");
        Ok(line.trim_end_matches("\r\n").to_owned())
    }
}

/// Asks once, on a connection of its own: who answers?
pub fn get(target: SocketAddr, path: &str) -> Result<String> {
    let mut connection = Connection::open(target)?;
    Ok(connection.ask(path, true)?.backend)
}

/// Who answered, how often, and what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub by_backend: BTreeMap<String, u64>,
    /// By what was wrong.
    pub errors: BTreeMap<String, u64>,
    /// How long the longest connecting took, of those that succeeded.
    pub slowest: Duration,
}

impl Tally {
    pub fn answers(&self) -> u64 {
        self.by_backend.values().sum()
    }

    /// In per cent.
    pub fn share(&self, backend: &str) -> f64 {
        let own = self.by_backend.get(backend).copied().unwrap_or(0);
        100.0 * own as f64 / self.answers().max(1) as f64
    }

    pub fn plus(mut self, other: Self) -> Self {
        for (sum, more) in [
            (&mut self.by_backend, other.by_backend),
            (&mut self.errors, other.errors),
        ] {
            for (name, count) in more {
                *sum.entry(name).or_default() += count;
            }
        }
        self.slowest = self.slowest.max(other.slowest);
        self
    }

    pub fn add(&mut self, answer: Result<String>) {
        let count = match answer {
            Ok(backend) => self.by_backend.entry(backend).or_default(),
            Err(error) => self.errors.entry(format!("{error:#}")).or_default(),
        };
        *count += 1;
    }
}

/// What a crowd of clients does; `start` sets it going.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    clients: u32,
    keep_alive: bool,
    requests: u64,
    pause: Duration,
    sources: &'static [IpAddr],
}

impl Load {
    /// Each client keeps its connection and asks on it again and again; a new one after an error.
    pub fn keep_alive(clients: u32) -> Self {
        Self {
            clients,
            keep_alive: true,
            requests: u64::MAX,
            pause: Duration::ZERO,
            sources: &[],
        }
    }

    /// A connection for each request.
    pub fn one_each(clients: u32) -> Self {
        Self {
            keep_alive: false,
            ..Self::keep_alive(clients)
        }
    }

    /// How many requests in all; without it they go on until stopped.
    pub fn requests(self, requests: u64) -> Self {
        Self { requests, ..self }
    }

    /// What a client waits after each answer.
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The clients' addresses, in turn; without them the kernel chooses.
    pub fn from(self, sources: &'static [IpAddr]) -> Self {
        Self { sources, ..self }
    }

    pub fn start(self, namespace: &Namespace, target: SocketAddr) -> Result<Running> {
        let shared = Arc::new(Shared::default());
        let spawn = |number: u32| {
            let shared = Arc::clone(&shared);
            let source = self.sources.iter().cycle().nth(number as usize);
            thread::spawn(move || self.client(source.copied(), target, &shared))
        };
        let threads = namespace.inside(|| (0..self.clients).map(spawn).collect())?;
        Ok(Running { shared, threads })
    }

    fn client(self, source: Option<IpAddr>, target: SocketAddr, shared: &Shared) {
        let mut kept = None;
        while !shared.stop.load(Ordering::Relaxed) && shared.sent.fetch_add(1, Ordering::Relaxed) < self.requests {
            let mut connecting = Duration::ZERO;
            let answer = self.request(source, target, &mut kept, &mut connecting);
            let mut tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(answer);
            tally.slowest = tally.slowest.max(connecting);
            drop(tally);
            thread::sleep(self.pause);
        }
    }

    fn request(
        self,
        source: Option<IpAddr>,
        target: SocketAddr,
        kept: &mut Option<Connection>,
        connecting: &mut Duration,
    ) -> Result<String> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => {
                let begin = Instant::now();
                let connection = match source {
                    Some(address) => Connection::open_from(SocketAddr::new(address, 0), target, PATIENCE),
                    None => Connection::open(target),
                }?;
                *connecting = begin.elapsed();
                connection
            }
        };
        let answer = connection.who(!self.keep_alive)?;
        *kept = self.keep_alive.then_some(connection);
        Ok(answer)
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    tally: Mutex<Tally>,
}

/// Clients at work; they stop on Drop.
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until all requests are made.
    pub fn finish(mut self) -> Tally {
        self.join();
        self.tally()
    }

    /// No more requests; those under way end.
    pub fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join();
        self.tally()
    }

    fn join(&mut self) {
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().expect("a client does not panic"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
