//! The thread that keeps the addresses which this node shares with others: hears and says adverts, has the addresses and the
//! leases for as long as it is master, tells the link.
//!
//! A thread of its own, since adverts are due every few milliseconds whatever the event loop is doing; and one more, its
//! hands, for what waits for the kernel. Decides nothing: `core::vrrp` does. It is the one writer of shared addresses and
//! leases. Tested in the lab.

mod announcer;
mod hands;
mod keeper;
mod post;
mod precedence;
mod socket;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_common::lease::LeaseId;
use tokio::sync::{mpsc as news, oneshot};
use tokio::time::timeout;

use self::keeper::Keeper;
use self::post::{Outbox, post};
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
    /// Another node is master of this instance after this one was.
    Lost(Arc<str>),
    /// For the journal: something that is not as it should be, and what was done.
    Trouble {
        instance: Arc<str>,
        words: String,
    },
}

/// The event loop's end.
pub struct Ownership {
    orders: Outbox<Order>,
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
        let (orders, ordered) = post()?;
        let (told, news) = news::unbounded_channel();
        let pulse = Arc::new(Pulse::new());
        let keeper = Keeper::new(leases, ordered, told, pulse.clone())?;
        let thread = thread("vrrp", move || keeper.run())?;
        Ok(Self {
            orders,
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
        self.orders.send(Order::Configure(settings, leases));
    }

    pub fn weigh(&self, instance: String, tracked: Tracked) {
        self.orders.send(Order::Weigh(instance, tracked));
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
        self.orders.send(order(reply));
        timeout(PATIENCE, answer).await.ok()?.ok()
    }

    /// Gives up every address, tells the others, and ends.
    pub fn stop(&mut self) {
        self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// A bug in there ends the daemon: its leases end with it, and another node takes over, which would otherwise wait for
/// adverts that nobody sends.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let work = move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            abort();
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).context("start a thread")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "NARU_TEST_PANICS";

    #[test]
    fn a_thread_that_panics_ends_the_daemon() {
        if std::env::var_os(CHILD).is_some() {
            let _never = thread("bug", || panic!("a bug")).expect("start a thread").join();
            return;
        }
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", "io::vrrp::tests::a_thread_that_panics_ends_the_daemon"]);
        let ended = child.env(CHILD, "1").output().expect("run this test");
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT));
    }
}
