//! A client that says one statement again and again, and remembers when it was done: an application without a pool.
//!
//! Each time on a new connection; a failure is followed by the next attempt. Tested by the cases that use it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Namespace, Session, Speech, until};

/// Long for a handshake in the lab, and short beside the second after which a lost SYN is sent again.
const CONNECTING: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);

pub struct Repeater {
    done: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Repeater {
    pub fn start(namespace: &Namespace, speech: Speech, target: SocketAddr, statement: &'static str) -> Result<Self> {
        let done = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (told, stopped) = (Arc::clone(&done), Arc::clone(&stop));
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                let say = || Session::open(speech, target, CONNECTING, PATIENCE)?.run(statement);
                if say().is_ok() {
                    let now = Instant::now();
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(now);
                }
                thread::sleep(PAUSE);
            }
        };
        let thread = Some(namespace.inside(|| thread::spawn(work))?);
        Ok(Self { done, stop, thread })
    }

    /// When it was done for the first time after `since`.
    pub fn first_after(&self, since: Instant, within: Duration) -> Result<Instant> {
        until(within, || {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            let first = done.iter().find(|at| **at > since).copied();
            first.context("it was not done again")
        })
    }
}

impl Drop for Repeater {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
