//! Watches the host's network over rtnetlink and hands out whole pictures of it; has the kernel keep neighbours known.
//!
//! Adds no route, and no link or address but in `virtual_links` and `addresses`; never decides what a change means. Tested
//! in `netlink/tests.rs` inside network namespaces of its own.

pub mod addresses;
mod picture;
#[cfg(test)]
mod tests;
mod virtual_links;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::core::network::Network;
use picture::{Picture, take};

/// One change in the kernel is a burst of messages: a picture waits for the burst's end.
const SETTLE: Duration = Duration::from_millis(20);
/// Churn of neighbours and routes costs at most this many pictures in the long run: five a second.
const APART: Duration = Duration::from_millis(200);
/// But after a quiet second the first few wait for nothing: a new backend serves when its neighbour is seen.
const IN_ADVANCE: Duration = Duration::from_millis(800);
/// Attaching a program over a BPF link is announced to nobody, so look from time to time.
const AT_LEAST: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);
/// How many retries apart the kernel is told that a known neighbour is in use, lest it forget it.
const KEEP_KNOWN: u32 = 5;

/// Asked for now, and kept whatever else is in the table: such entries neither count against its limit nor give way to others.
const KEPT: NeighbourFlags = NeighbourFlags::Use.union(NeighbourFlags::ExtLearned);

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];

/// Interface index and address.
pub type Neighbours = BTreeSet<(u32, IpAddr)>;

type Messages = Pin<Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send>>;

/// The watch on the network namespace of the thread that opened it.
pub struct Watch {
    pictures: watch::Receiver<Picture>,
    refresh: Arc<Notify>,
    wanted: watch::Sender<Neighbours>,
    tasks: [JoinHandle<()>; 3],
}

impl Watch {
    /// Takes the first picture before it returns.
    pub async fn open() -> anyhow::Result<Self> {
        // Announcements first, so that no change falls between the first picture and them.
        let announcements = announcements().context("subscribe to network changes (rtnetlink)")?;
        let (connection, requests, _) =
            rtnetlink::new_connection_with_strict_check().context("open an rtnetlink socket")?;
        let requests_task = tokio::spawn(connection);
        let first = take(&requests)
            .await
            .context("read links, routes and neighbours (rtnetlink)")?;
        let (sender, pictures) = watch::channel(first);
        let (wanted, wanted_seen) = watch::channel(Neighbours::new());
        let refresh = Arc::new(Notify::new());
        let keep_task = tokio::spawn(keep(requests.clone(), wanted_seen, pictures.clone()));
        let follow_task = tokio::spawn(follow(announcements, requests, refresh.clone(), sender));
        Ok(Self {
            pictures,
            refresh,
            wanted,
            tasks: [requests_task, keep_task, follow_task],
        })
    }

    /// The newest picture.
    pub fn network(&mut self) -> Network {
        self.pictures.borrow_and_update().network.clone()
    }

    /// Returns when there is a picture that `network` has not handed out yet. Cancel safe.
    pub async fn changed(&mut self) {
        if self.pictures.changed().await.is_err() {
            // The task holds the sender for as long as this Watch lives; waiting is right if it ever should not.
            std::future::pending::<()>().await;
        }
    }

    /// Has the next picture taken soon, for changes the kernel announces to nobody (XDP programs).
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// Has the kernel find these neighbours now, and keep them; what it finds is in a later picture.
    pub fn keep_known(&self, neighbours: Neighbours) {
        self.wanted.send_if_modified(|wanted| {
            let differs = *wanted != neighbours;
            *wanted = neighbours;
            differs
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn announcements() -> std::io::Result<Messages> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
    // It ends when the stream is dropped.
    tokio::spawn(connection);
    Ok(Box::pin(messages))
}

async fn follow(mut messages: Messages, requests: Handle, refresh: Arc<Notify>, pictures: watch::Sender<Picture>) {
    let mut paid_until = Instant::now();
    loop {
        let mut news = tokio::select! {
            news = next(&mut messages) => news,
            () = refresh.notified() => News::MayWait,
            () = sleep(AT_LEAST) => News::MayWait,
        };
        if news == News::MayWait {
            let wait = paid_until.saturating_duration_since(Instant::now() + IN_ADVANCE);
            news = timeout(wait, urgent(&mut messages)).await.unwrap_or(news);
        }
        if news == News::Lost {
            messages = resubscribe().await;
        }
        sleep(SETTLE).await;
        // What came meanwhile is in the picture about to be taken.
        while let Ok(Some(_)) = timeout(Duration::ZERO, messages.next()).await {}
        paid_until = paid_until.max(Instant::now()) + APART;
        match take(&requests).await {
            Ok(picture) => {
                pictures.send_if_modified(|known| {
                    let differs = known.network != picture.network;
                    *known = picture;
                    differs
                });
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "cannot read the network; keeping the last picture"
                );
                sleep(RETRY).await;
                refresh.notify_one();
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    MayWait,
    /// Of an interface or an address: until it is known, what follows from it looks like the fault of backends.
    Urgent,
    /// The socket broke.
    Lost,
}

/// Waits for a message that may change the picture.
async fn next(messages: &mut Messages) -> News {
    use RouteNetlinkMessage::{DelAddress, DelLink, DelNeighbour, NewAddress, NewLink, NewNeighbour};
    while let Some((message, _)) = messages.next().await {
        match message.payload {
            NetlinkPayload::InnerMessage(NewNeighbour(neighbour) | DelNeighbour(neighbour))
                if !matches!(neighbour.header.family, AddressFamily::Inet | AddressFamily::Inet6) => {}
            NetlinkPayload::InnerMessage(NewLink(_) | DelLink(_) | NewAddress(_) | DelAddress(_)) => {
                return News::Urgent;
            }
            // Whatever else comes, an overrun (ENOBUFS: messages were lost) too, is reason to look.
            _ => return News::MayWait,
        }
    }
    News::Lost
}

/// Waits for one that may not wait.
async fn urgent(messages: &mut Messages) -> News {
    loop {
        match next(messages).await {
            News::MayWait => {}
            news => return news,
        }
    }
}

async fn resubscribe() -> Messages {
    loop {
        match announcements() {
            Ok(messages) => return messages,
            Err(error) => warn!(%error, "cannot subscribe to network changes; trying again"),
        }
        sleep(RETRY).await;
    }
}

/// Unknown neighbours are asked for until they answer, known ones now and then. Those that are wanted no longer are the
/// kernel's to forget again.
async fn keep(requests: Handle, mut wanted: watch::Receiver<Neighbours>, pictures: watch::Receiver<Picture>) {
    let mut round = 0;
    let mut before = Neighbours::new();
    loop {
        let left: Vec<_> = {
            let picture = pictures.borrow();
            let now = wanted.borrow();
            let left = before.difference(&now).filter(|key| !picture.permanent.contains(key));
            left.copied().collect()
        };
        before.clone_from(&wanted.borrow());
        for (ifindex, address) in left {
            if let Err(error) = resolve(&requests, ifindex, address, NeighbourFlags::Use).await {
                debug!(ifindex, %address, %error, "cannot leave a neighbour to the kernel");
            }
        }
        let asked: Vec<_> = {
            let picture = pictures.borrow();
            let known = |key: &(u32, IpAddr)| picture.network.neighbours.contains_key(key);
            // NTF_USE strips an entry of its permanence (seen on Linux 6.18), and such a one needs no confirming.
            let due = |key: &&_| !known(key) || (round == 0 && !picture.permanent.contains(key));
            wanted.borrow_and_update().iter().filter(due).copied().collect()
        };
        for (ifindex, address) in asked {
            if let Err(error) = resolve(&requests, ifindex, address, KEPT).await {
                debug!(ifindex, %address, %error, "cannot have a neighbour resolved");
            }
        }
        round = match timeout(RETRY, wanted.changed()).await {
            Ok(Ok(())) => 0,
            Ok(Err(_)) => return,
            Err(_) => (round + 1) % KEEP_KNOWN,
        };
    }
}

async fn resolve(
    requests: &Handle,
    ifindex: u32,
    address: IpAddr,
    flags: NeighbourFlags,
) -> Result<(), rtnetlink::Error> {
    let request = requests.neighbours().add(ifindex, address);
    request
        .state(NeighbourState::None)
        .flags(flags)
        .replace()
        .execute()
        .await
}
