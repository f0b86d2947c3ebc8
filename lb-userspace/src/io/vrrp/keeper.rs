//! The thread's own: one turn after the other, everything heard before anything is decided, everything decided done at once.

mod acts;
mod seats;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use lb_common::lease::{FOR_GOOD, LeaseId, MAX_LEASES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::announcer::Announcer;
use super::socket::Socket;
use super::{News, Order, Pulse, precedence, silence};
use crate::core::dns::Family;
use crate::core::vrrp::document::VrrpDocument;
use crate::core::vrrp::holdings::Holdings;
use crate::core::vrrp::settings::Settings;
use crate::core::vrrp::track::Tracked;
use crate::core::vrrp::{Heard, Vrrp};
use crate::core::world::Moment;
use crate::io::bpf::Leases;
use crate::io::frames::Frames;
use crate::io::netlink::addresses::{Addresses, Interface};

/// How long the event loop may be silent: its longest work takes a part of a second.
const HANGS_AFTER: Duration = Duration::from_secs(3);
/// Of one socket, whatever floods it; then adverts of ours that are due have their turn.
const HEARD_AT_ONCE: usize = 256;
/// While it is: nothing tells when it goes on.
const ATTENTION: Duration = Duration::from_millis(100);
/// How often it is looked at the latest whether it is, and whether all addresses are there.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

pub struct Keeper {
    vrrp: Vrrp,
    holdings: Holdings,
    /// By name: the index, and what is there.
    seats: BTreeMap<Arc<str>, (u32, Interface)>,
    sockets: BTreeMap<(Arc<str>, Family), Socket>,
    /// Those of the settings.
    wanted: BTreeSet<(Arc<str>, Family)>,
    /// Addresses of all instances.
    shared: BTreeSet<IpAddr>,
    lease_ids: BTreeMap<Arc<str>, LeaseId>,
    /// Instances whose addresses could not be taken off, and their interfaces.
    stuck: BTreeMap<Arc<str>, Arc<str>>,
    /// Those that could not have their addresses, in this turn.
    without: BTreeSet<Arc<str>>,
    tracked: BTreeMap<String, Tracked>,
    hangs: bool,
    looked: Instant,
    addresses: Addresses,
    announcer: Announcer,
    leases: Arc<Leases>,
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
    news: UnboundedSender<News>,
    pulse: Arc<Pulse>,
}

impl Keeper {
    pub fn new(
        leases: Arc<Leases>,
        orders: Receiver<Order>,
        bell: Arc<OwnedFd>,
        news: UnboundedSender<News>,
        pulse: Arc<Pulse>,
    ) -> Result<Self> {
        Ok(Self {
            vrrp: Vrrp::default(),
            holdings: Holdings::default(),
            seats: BTreeMap::new(),
            sockets: BTreeMap::new(),
            wanted: BTreeSet::new(),
            shared: BTreeSet::new(),
            lease_ids: BTreeMap::new(),
            stuck: BTreeMap::new(),
            without: BTreeSet::new(),
            tracked: BTreeMap::new(),
            hangs: false,
            looked: Instant::now(),
            addresses: Addresses::open()?,
            announcer: Announcer::new(Frames::open()?),
            leases,
            orders,
            bell,
            news,
            pulse,
        })
    }

    pub fn run(mut self) {
        precedence::take();
        loop {
            let goes_on = self.take_orders();
            self.look_around();
            self.hear();
            self.watch_the_event_loop();
            self.turn();
            if !goes_on {
                return;
            }
            self.announcer.send_due(Instant::now());
            self.wait();
        }
    }

    fn turn(&mut self) {
        self.without.clear();
        for command in self.vrrp.turn(now()) {
            self.carry_out(command);
        }
    }

    /// False: it is to end.
    fn take_orders(&mut self) -> bool {
        if let Err(error) = silence(&self.bell) {
            warn!(%error, "cannot hear the event loop");
        }
        loop {
            match self.orders.try_recv() {
                Ok(Order::Clear(reply)) => {
                    self.look();
                    let _no_longer_awaited = reply.send(());
                }
                Ok(Order::Configure(settings, leases)) => self.configure(settings, leases),
                Ok(Order::Weigh(instance, tracked)) => {
                    self.tracked.insert(instance, tracked);
                    self.weigh_all();
                }
                Ok(Order::Failover(instance, reply)) => drop(reply.send(self.vrrp.failover(&instance, now()))),
                Ok(Order::Failback(instance, reply)) => drop(reply.send(self.vrrp.failback(&instance, now()))),
                Ok(Order::Tell(reply)) => {
                    drop(reply.send(VrrpDocument::of(&self.vrrp, Instant::now())));
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => {
                    self.vrrp.stop(now());
                    return false;
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn configure(&mut self, settings: Vec<Settings>, lease_ids: BTreeMap<Arc<str>, LeaseId>) {
        let places = settings.iter().map(|one| (one.interface.clone(), one.family()));
        let places: BTreeSet<_> = places.collect();
        self.wanted.extend(places.clone());
        let shared = settings.iter().flat_map(|one| &one.addresses);
        self.shared = shared.map(|shared| shared.address).collect();
        self.tracked
            .retain(|name, _| settings.iter().any(|one| *one.name == **name));
        // Who leaves does so by the socket and the lease it had.
        self.lease_ids.extend(lease_ids.clone());
        self.look();
        self.vrrp.reconfigure(settings, now());
        self.weigh_all();
        self.hear();
        self.turn();
        self.wanted = places;
        self.open_sockets();
        self.lease_ids = lease_ids;
        let taken: BTreeSet<_> = self.lease_ids.values().copied().collect();
        for id in (1..MAX_LEASES as LeaseId).filter(|id| !taken.contains(id)) {
            // Flows of an address that is shared no longer go on.
            self.leases.set(id, FOR_GOOD);
        }
    }

    fn weigh_all(&mut self) {
        for (instance, tracked) in &self.tracked {
            let mut tracked = tracked.clone();
            if self.hangs {
                tracked.fault = Some(format!("the daemon has done nothing else for {HANGS_AFTER:?}"));
            }
            self.vrrp.weigh(instance, tracked, now());
        }
    }

    fn watch_the_event_loop(&mut self) {
        let hangs = self.pulse.silent_for(Instant::now()) > HANGS_AFTER;
        if hangs != self.hangs {
            self.hangs = hangs;
            self.weigh_all();
        }
    }

    fn hear(&mut self) {
        let now = now();
        for ((interface, _), socket) in &mut self.sockets {
            for _ in 0..HEARD_AT_ONCE {
                match socket.hear() {
                    Ok(Some(Ok((envelope, payload)))) => {
                        let interface = interface.clone();
                        self.vrrp.hear(
                            &Heard {
                                interface,
                                envelope,
                                payload,
                            },
                            now,
                        );
                    }
                    Ok(Some(Err(refusal))) => self.vrrp.refuse(refusal),
                    // On an error the interface is down, or gone: the link says so as well.
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }

    /// Where something may have changed, or it is long ago.
    fn look_around(&mut self) {
        if self.addresses.take_news() || self.looked.elapsed() > LOOKS_EVERY {
            self.look();
        }
    }

    fn trouble(&self, instance: &Arc<str>, words: String) {
        let instance = instance.clone();
        drop(self.news.send(News::Trouble { instance, words }));
    }

    fn wait(&self) {
        let look = if self.hangs {
            Instant::now() + ATTENTION
        } else {
            self.looked + LOOKS_EVERY
        };
        let due = [self.vrrp.deadline(), self.announcer.deadline(), Some(look)];
        let left = due
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(look)
            .saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let sources = self.sockets.values().map(|socket| socket.as_fd());
        let sources = sources.chain([self.bell.as_fd(), self.addresses.news()]);
        let mut sources: Vec<_> = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let _interrupted = poll(&mut sources, Some(&timeout));
    }
}

fn now() -> Moment {
    Moment {
        monotonic: Instant::now(),
        wall: SystemTime::now(),
    }
}
