//! A client that asks by HTTP every few milliseconds, whatever became of those asked before.
//!
//! Each call is a connection of its own and is remembered: when it began, and who answered. From that it tells when
//! the last call was lost after a fault, and when a server was first heard again, as clients see it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::{interval, timeout};

use super::{Namespace, until};

/// Between calls: as exact as the figures can be.
const EVERY: Duration = Duration::from_millis(4);
/// A SYN that is lost is sent again after a second; by then a user has been kept waiting.
const PATIENCE: Duration = Duration::from_millis(900);
/// So long without a lost call, and the fault is over.
const QUIET: Duration = Duration::from_millis(700);

/// So many calls are remembered: of some minutes.
const REMEMBERED: usize = 100_000;

pub struct Caller {
    calls: Arc<Mutex<VecDeque<Call>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Call {
    began: Instant,
    /// None: nobody, in time.
    by: Option<String>,
}

impl Caller {
    pub fn start(namespace: &Namespace, target: SocketAddr) -> Result<Self> {
        let calls = Arc::new(Mutex::new(VecDeque::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (told, stopped) = (Arc::clone(&calls), Arc::clone(&stop));
        let work = move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime can be made")
                .block_on(call_on(target, &told, &stopped));
        };
        let thread = Some(namespace.inside(|| thread::spawn(work))?);
        Ok(Self { calls, stop, thread })
    }

    /// How long after `fault` a call began that was lost; waits until there are no more of them.
    pub fn lost_for(&self, fault: Instant, within: Duration) -> Result<Duration> {
        until(within, || {
            let known = Instant::now() - PATIENCE;
            let calls = self.calls();
            let lost = calls.iter().filter(|call| call.by.is_none() && call.began >= fault);
            let last = lost.map(|call| call.began).max().unwrap_or(fault);
            ensure!(known > last + QUIET, "calls are lost");
            let recent = calls.iter().any(|call| call.began > last && call.by.is_some());
            ensure!(recent, "nobody calls");
            Ok(last - fault)
        })
    }

    /// How long after `since` a call began that this server answered.
    pub fn heard(&self, server: &str, since: Instant, within: Duration) -> Result<Duration> {
        until(within, || {
            let calls = self.calls();
            let by_it = calls
                .iter()
                .filter(|call| call.began >= since && call.by.as_deref() == Some(server));
            let first = by_it.map(|call| call.began).min();
            Ok(first.with_context(|| format!("{server} does not answer"))? - since)
        })
    }

    /// What became of the calls of that time: how many each server answered, and the longest time in which all were lost.
    pub fn since(&self, then: Instant) -> (BTreeMap<String, u64>, Duration) {
        let mut calls: Vec<_> = self.calls().iter().filter(|call| call.began >= then).cloned().collect();
        calls.sort_by_key(|call| call.began);
        let (mut answered, mut longest, mut last) = (BTreeMap::new(), Duration::ZERO, None);
        for Call { began, by } in calls {
            match by {
                Some(by) => {
                    *answered.entry(by).or_default() += 1;
                    last = None;
                }
                None => longest = longest.max(began - *last.get_or_insert(began) + EVERY),
            }
        }
        (answered, longest)
    }

    fn calls(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn call_on(target: SocketAddr, calls: &Arc<Mutex<VecDeque<Call>>>, stop: &AtomicBool) {
    let mut turn = interval(EVERY);
    while !stop.load(Ordering::Relaxed) {
        turn.tick().await;
        let calls = Arc::clone(calls);
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = timeout(PATIENCE, who(target)).await;
            let by = answer.ok().and_then(Result::ok);
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push_back(Call { began, by });
            if calls.len() > REMEMBERED {
                calls.pop_front();
            }
        });
    }
}

async fn who(target: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(target).await?;
    // The server closes first, and the client's port is free again.
    stream.write_all(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, name) = answer.split_once("\r\n\r\n").context("an answer has a body")?;
    ensure!(!name.is_empty(), "an empty answer");
    Ok(name.trim_end().to_owned())
}
