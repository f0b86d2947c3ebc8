//! The thread's own: one turn after the other, everything heard before anything is decided, everything decided done at once.

mod acts;
mod seats;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use lb_common::lease::{FOR_GOOD, LeaseId, MAX_LEASES};
use tokio::sync::mpsc::UnboundedSender;

use super::announcer::Announcer;
use super::hands::{Answer, Hands, Place, Seats, Unmade};
use super::post::{Inbox, wait_for};
use super::socket::Socket;
use super::{News, Order, Pulse, precedence};
use crate::core::vrrp::document::VrrpDocument;
use crate::core::vrrp::holdings::Holdings;
use crate::core::vrrp::machine::Machine;
use crate::core::vrrp::settings::{Key, Settings};
use crate::core::vrrp::track::Tracked;
use crate::core::vrrp::{Heard, Vrrp};
use crate::core::world::Moment;
use crate::io::bpf::Leases;
use crate::io::frames::Frames;
use crate::io::random;

/// How long the event loop may be silent: its longest work takes a part of a second.
const HANGS_AFTER: Duration = Duration::from_secs(3);
/// Of one socket, whatever floods it; then adverts of ours that are due have their turn.
const HEARD_AT_ONCE: usize = 256;
/// How often it is looked whether it is, and while it is: nothing tells when it goes on.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
const ATTENTION: Duration = Duration::from_millis(100);
/// What is to begin with what is there now begins with what was known if the kernel does not tell.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct Keeper {
    vrrp: Vrrp,
    holdings: Holdings,
    seats: Seats,
    sockets: BTreeMap<Place, Socket>,
    /// Those of the settings.
    wanted: BTreeSet<Place>,
    unmade: Unmade,
    /// Addresses of all instances.
    shared: BTreeSet<IpAddr>,
    lease_ids: BTreeMap<Arc<str>, LeaseId>,
    /// Instances whose addresses could not be taken off, and their interfaces.
    stuck: BTreeMap<Arc<str>, Arc<str>>,
    /// Those that could not have their addresses, in this turn.
    without: BTreeSet<Arc<str>>,
    tracked: BTreeMap<String, Tracked>,
    hangs: bool,
    /// It begins with the next picture, and others wait for it.
    held: Option<(Order, Instant)>,
    hands: Hands,
    announcer: Announcer,
    /// For adverts to the group.
    frames: Frames,
    leases: Arc<Leases>,
    orders: Inbox<Order>,
    news: UnboundedSender<News>,
    pulse: Arc<Pulse>,
}

impl Keeper {
    pub fn new(
        leases: Arc<Leases>,
        orders: Inbox<Order>,
        news: UnboundedSender<News>,
        pulse: Arc<Pulse>,
    ) -> Result<Self> {
        Ok(Self {
            vrrp: Vrrp::new(random::seed()?),
            holdings: Holdings::default(),
            seats: BTreeMap::new(),
            sockets: BTreeMap::new(),
            wanted: BTreeSet::new(),
            unmade: BTreeMap::new(),
            shared: BTreeSet::new(),
            lease_ids: BTreeMap::new(),
            stuck: BTreeMap::new(),
            without: BTreeSet::new(),
            tracked: BTreeMap::new(),
            hangs: false,
            held: None,
            hands: Hands::start()?,
            announcer: Announcer::new(Frames::open()?),
            frames: Frames::open_for_control()?,
            leases,
            orders,
            news,
            pulse,
        })
    }

    pub fn run(mut self) {
        precedence::before_others();
        precedence::stay_in_memory();
        loop {
            let goes_on = self.take_orders();
            self.take_answers();
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
        if self.held.as_ref().is_some_and(|(_, until)| *until < Instant::now()) {
            self.begin_held();
        }
        while self.held.is_none() {
            match self.orders.take() {
                Ok(order @ (Order::Clear(_) | Order::Configure(..))) => self.hold(order),
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
                Err(TryRecvError::Empty) => break,
            }
        }
        true
    }

    /// Until it is known what is there.
    fn hold(&mut self, order: Order) {
        let mut with_a_mac = with_virtual_mac(self.settings());
        if let Order::Configure(settings, lease_ids) = &order {
            self.wanted.extend(places(settings));
            with_a_mac.extend(with_virtual_mac(settings));
            let shared = settings.iter().flat_map(|one| &one.addresses);
            self.shared = shared.map(|shared| shared.address).collect();
            // Who leaves does so by the socket and the lease it had.
            self.lease_ids.extend(lease_ids.clone());
        }
        self.hands.listen(self.wanted.clone(), with_a_mac);
        self.held = Some((order, Instant::now() + PATIENCE));
    }

    fn begin_held(&mut self) {
        match self.held.take() {
            Some((Order::Clear(reply), _)) => {
                let _no_longer_awaited = reply.send(());
            }
            Some((Order::Configure(settings, lease_ids), _)) => self.configure(settings, lease_ids),
            _ => {}
        }
    }

    fn configure(&mut self, settings: Vec<Settings>, lease_ids: BTreeMap<Arc<str>, LeaseId>) {
        let places = places(&settings);
        self.tracked
            .retain(|name, _| settings.iter().any(|one| *one.name == **name));
        self.vrrp.reconfigure(settings, now());
        self.weigh_all();
        self.hear();
        self.turn();
        self.hands.listen(places.clone(), with_virtual_mac(self.settings()));
        self.wanted = places;
        self.close_sockets();
        self.lease_ids = lease_ids;
        let taken: BTreeSet<_> = self.lease_ids.values().copied().collect();
        for id in (1..MAX_LEASES as LeaseId).filter(|id| !taken.contains(id)) {
            // Flows of an address that is shared no longer go on.
            self.leases.set(id, FOR_GOOD);
        }
    }

    fn take_answers(&mut self) {
        while let Some(answer) = self.hands.answer() {
            match answer {
                Answer::Taken { instance, failures, .. } => self.failed(instance.as_ref(), &failures),
                Answer::Opened(place, socket) => {
                    if let Some(old) = self.sockets.insert(place, socket) {
                        self.hands.close(old);
                    }
                }
                Answer::Seen(_, seats, unmade) => self.see(seats, unmade),
            }
        }
    }

    fn weigh_all(&mut self) {
        for (instance, tracked) in &self.tracked {
            let mut tracked = tracked.clone();
            if self.hangs {
                tracked.fault = Some(format!("the daemon has done nothing else for {HANGS_AFTER:?}"));
            } else if let Some(homeless) = self.homeless(instance) {
                tracked.fault = Some(homeless);
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

    fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.vrrp.instances().map(Machine::settings)
    }

    fn trouble(&self, instance: &Arc<str>, words: String) {
        let instance = instance.clone();
        drop(self.news.send(News::Trouble { instance, words }));
    }

    fn wait(&self) {
        if self.hands.has_early_answers() {
            return;
        }
        let look = Instant::now() + if self.hangs { ATTENTION } else { LOOKS_EVERY };
        let held = self.held.as_ref().map(|(_, until)| *until);
        let due = [self.vrrp.deadline(), self.announcer.deadline(), held];
        let due = due.into_iter().flatten().fold(look, Instant::min);
        // Orders that wait would be heard again and again.
        let orders = self.held.is_none().then(|| self.orders.as_fd());
        let sources = self.sockets.values().map(|socket| socket.as_fd());
        wait_for(sources.chain(orders).chain([self.hands.answers().as_fd()]), due);
    }
}

fn places(settings: &[Settings]) -> BTreeSet<Place> {
    settings
        .iter()
        .map(|one| (one.interface.clone(), one.family()))
        .collect()
}

/// Those that want an interface for their MAC.
fn with_virtual_mac<'s>(settings: impl IntoIterator<Item = &'s Settings>) -> BTreeSet<Key> {
    let with_it = settings.into_iter().filter(|one| one.virtual_mac);
    with_it.map(Settings::key).collect()
}

fn now() -> Moment {
    Moment {
        monotonic: Instant::now(),
        wall: SystemTime::now(),
    }
}
