//! The thread that keeps the addresses which this node shares with others: hears and says adverts, has the addresses and the
//! leases for as long as it is master, tells the link.
//!
//! A thread of its own, since adverts are due every few milliseconds whatever the event loop is doing. Decides nothing:
//! `core::vrrp` does. It is the one writer of shared addresses and leases. Tested in the lab.

mod announcer;
mod keeper;
mod precedence;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_common::lease::LeaseId;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc as news, oneshot};
use tokio::time::timeout;

use self::keeper::Keeper;
use super::bpf::Leases;
use crate::core::vrrp::Denied;
use crate::core::vrrp::command::Transition;
use crate::core::vrrp::document::VrrpDocument;
use crate::core::vrrp::settings::Settings;
use crate::core::vrrp::track::Tracked;

/// The kernel may hold it up, and the event loop has other things to do.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the event loop asks of it.
pub(super) enum Order {
    /// These instances, each address hanging on the lease of its instance.
    Configure(Vec<Settings>, BTreeMap<Arc<str>, LeaseId>),
    /// Of what an earlier daemon left.
    Clear(oneshot::Sender<()>),
    Weigh(String, Tracked),
    Failover(String, oneshot::Sender<Result<(), Denied>>),
    Failback(String, oneshot::Sender<Result<(), Denied>>),
    Tell(oneshot::Sender<VrrpDocument>),
    Stop,
}

/// What it tells the event loop.
#[derive(Debug)]
pub enum News {
    Moved(Transition),
    /// For the journal: something that is not as it should be, and what was done.
    Trouble {
        instance: Arc<str>,
        words: String,
    },
}

/// The event loop's end.
pub struct Ownership {
    orders: mpsc::Sender<Order>,
    bell: Arc<OwnedFd>,
    news: news::UnboundedReceiver<News>,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// When the event loop last turned: one that hangs keeps no address.
pub(super) struct Pulse {
    begun: Instant,
    /// In ms.
    beat: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            beat: AtomicU64::new(0),
        }
    }

    fn beat(&self) {
        let since = self.begun.elapsed().as_millis();
        self.beat
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn silent_for(&self, now: Instant) -> Duration {
        let last = self.begun + Duration::from_millis(self.beat.load(Ordering::Relaxed));
        now.saturating_duration_since(last)
    }
}

impl Ownership {
    /// In the network namespace of the calling thread. Has nothing to keep until it is configured.
    pub fn start(leases: Arc<Leases>) -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("make an eventfd")?;
        let bell = Arc::new(bell);
        let (orders, ordered) = mpsc::channel();
        let (told, news) = news::unbounded_channel();
        let pulse = Arc::new(Pulse::new());
        let keeper = Keeper::new(leases, ordered, bell.clone(), told, pulse.clone())?;
        let thread = std::thread::Builder::new().name("vrrp".to_owned());
        let thread = thread.spawn(move || keeper.run()).context("start a thread")?;
        Ok(Self {
            orders,
            bell,
            news,
            pulse,
            thread: Some(thread),
        })
    }

    /// The event loop turns.
    pub fn beat(&self) {
        self.pulse.beat();
    }

    /// Takes away what an earlier daemon left, before anything else changes.
    pub async fn clear(&self) {
        let _ended = self.ask(Order::Clear).await;
    }

    pub fn configure(&self, settings: Vec<Settings>, leases: BTreeMap<Arc<str>, LeaseId>) {
        self.order(Order::Configure(settings, leases));
    }

    pub fn weigh(&self, instance: String, tracked: Tracked) {
        self.order(Order::Weigh(instance, tracked));
    }

    pub async fn failover(&self, instance: String) -> Result<(), Denied> {
        self.ask(|reply| Order::Failover(instance, reply))
            .await
            .unwrap_or(Ok(()))
    }

    pub async fn failback(&self, instance: String) -> Result<(), Denied> {
        self.ask(|reply| Order::Failback(instance, reply))
            .await
            .unwrap_or(Ok(()))
    }

    pub async fn document(&self) -> VrrpDocument {
        self.ask(Order::Tell).await.unwrap_or_default()
    }

    /// Cancel safe.
    pub async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // The thread holds the sender until it is told to stop; waiting is right if it ever should not.
            None => std::future::pending().await,
        }
    }

    /// What it told before it ended.
    pub fn last_news(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.order(order(reply));
        timeout(PATIENCE, answer).await.ok()?.ok()
    }

    fn order(&self, order: Order) {
        let _ended = self.orders.send(order);
        let _full = rustix::io::write(self.bell.as_fd(), &1_u64.to_ne_bytes());
    }

    /// Gives up every address, tells the others, and ends.
    pub fn stop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Takes the rings of the bell away.
fn silence(bell: &OwnedFd) -> io::Result<()> {
    match rustix::io::read(bell.as_fd(), &mut [0; 8]) {
        Ok(_) | Err(rustix::io::Errno::WOULDBLOCK) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
