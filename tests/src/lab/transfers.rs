//! Long transfers: many connections that download slowly while the lab changes things, to prove that none breaks.
//!
//! Each byte is compared. Receive buffers are small, so that packets flow as long as the reader reads.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use super::client::Connection;
use super::{BIG_FILE, Namespace, poll};

const CHUNK: usize = 4096;
const PACE: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER: usize = 16 * 1024;
const UNDER_WAY_WITHIN: Duration = Duration::from_secs(10);

pub struct Transfers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<(String, Result<()>)>>,
}

#[derive(Default)]
struct Shared {
    /// Each has got its first bytes.
    begun: AtomicUsize,
    ended: AtomicUsize,
    hurry: AtomicBool,
    stop: AtomicBool,
}

/// How the transfers ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whole and right, by backend.
    pub complete: BTreeMap<String, usize>,
    /// What broke the others.
    pub broken: Vec<String>,
}

impl Transfers {
    /// Returns when all are under way. Left alone, one lasts about 50 seconds.
    pub fn start(namespace: &Namespace, target: SocketAddr, count: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let spawn = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut backend = String::new();
                let outcome = download(target, &shared, &mut backend);
                shared.ended.fetch_add(1, Ordering::Relaxed);
                (backend, outcome)
            })
        };
        let transfers = Self {
            threads: namespace.inside(|| (0..count).map(spawn).collect())?,
            shared,
        };
        poll::until(UNDER_WAY_WITHIN, || {
            let begun = transfers.shared.begun.load(Ordering::Relaxed);
            let ended = transfers.shared.ended.load(Ordering::Relaxed);
            ensure!(begun == count || ended > 0, "{begun} of {count} transfers began");
            Ok(())
        })?;
        Ok(transfers)
    }

    /// How many are still under way.
    pub fn running(&self) -> usize {
        self.threads.len() - self.shared.ended.load(Ordering::Relaxed)
    }

    /// Lets them read at full speed, and waits for the end of all.
    pub fn finish(mut self) -> Outcome {
        self.shared.hurry.store(true, Ordering::Relaxed);
        let mut outcome = Outcome {
            complete: BTreeMap::new(),
            broken: Vec::new(),
        };
        for thread in self.threads.drain(..) {
            let (backend, result) = thread.join().expect("a transfer does not panic");
            match result {
                Ok(()) => *outcome.complete.entry(backend).or_default() += 1,
                Err(error) => outcome.broken.push(format!("{backend}: {error:#}")),
            }
        }
        outcome
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn download(target: SocketAddr, shared: &Shared, backend: &mut String) -> Result<()> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let descriptor = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&descriptor, RECEIVE_BUFFER)?;
    connect(&descriptor, &target).context("connect")?;
    let mut connection = Connection::on(TcpStream::from(descriptor))?;
    let head = connection.ask("/big", true)?;
    *backend = head.backend;
    ensure!(head.length == BIG_FILE.len(), "length {}", head.length);

    let mut chunk = [0; CHUNK];
    for (index, expected) in BIG_FILE.chunks(CHUNK).enumerate() {
        let chunk = &mut chunk[..expected.len()];
        connection
            .read(chunk)
            .with_context(|| format!("at byte {}", index * CHUNK))?;
        ensure!(chunk == expected, "wrong bytes near {}", index * CHUNK);
        if index == 0 {
            shared.begun.fetch_add(1, Ordering::Relaxed);
        }
        ensure!(!shared.stop.load(Ordering::Relaxed), "stopped");
        if !shared.hurry.load(Ordering::Relaxed) {
            thread::sleep(PACE);
        }
    }
    Ok(())
}
