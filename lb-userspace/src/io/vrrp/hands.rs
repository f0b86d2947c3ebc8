//! The keeper's hands: a thread that waits for the kernel in its place. Puts addresses on interfaces and takes them off, sees
//! what is there, opens sockets and closes them: the kernel does all that in turn with whatever else changes the network,
//! and may take as long as a card takes to be reset.
//!
//! Makes the interfaces of virtual MACs, too. Decides nothing. What it sees after an errand is told after it; what it saw
//! before is never told. Tested in the lab.

mod virtual_links;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::warn;

pub use self::virtual_links::Unmade;
use self::virtual_links::VirtualLinks;
use super::post::{Inbox, Outbox, post, wait_for};
use super::socket::Socket;
use super::{precedence, thread};
use crate::core::dns::Family;
use crate::core::vrrp::settings::Key;
use crate::io::netlink::addresses::{Addresses, Interface, STEPS_AT_ONCE, Step};

/// The kernel takes a part of a millisecond when nobody is in the way; adverts are due every few.
const PATIENCE: Duration = Duration::from_millis(5);
/// From one look to the next, while much changes.
const CALM: Duration = Duration::from_millis(5);
const TRIES_AGAIN: Duration = Duration::from_millis(100);
/// The kernel takes ten milliseconds and more to set an interface down, and makes all others wait.
const RESTS_AFTER: Duration = Duration::from_millis(100);
/// At the latest.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// Where adverts are heard.
pub type Place = (Arc<str>, Family);
/// Interfaces by name: the index, and what is there.
pub type Seats = BTreeMap<Arc<str>, (u32, Interface)>;
/// Steps that were not taken, and why.
pub type Failures = Vec<(Step, String)>;

pub struct Hands {
    errands: Outbox<(u64, Errand)>,
    answers: Inbox<Answer>,
    /// Of the last errand.
    number: u64,
    /// Answers that came while another was waited for.
    early: VecDeque<Answer>,
    thread: Option<JoinHandle<()>>,
}

enum Errand {
    Take {
        ifindex: u32,
        steps: Vec<Step>,
        instance: Option<Arc<str>>,
    },
    Listen(BTreeSet<Place>, BTreeSet<Key>),
    Rest(u32),
    Close(Socket),
    Stop,
}

pub enum Answer {
    /// What was not waited for, on behalf of an instance.
    Taken {
        number: u64,
        instance: Option<Arc<str>>,
        failures: Failures,
    },
    Opened(Place, Socket),
    /// After the errand of this number.
    Seen(u64, Seats, Unmade),
}

impl Hands {
    /// In the network namespace of the calling thread.
    pub fn start() -> Result<Self> {
        let (errands, ordered) = post()?;
        let (told, answers) = post()?;
        let worker = Worker {
            addresses: Addresses::open()?,
            errands: ordered,
            answers: told,
            places: BTreeSet::new(),
            virtual_links: VirtualLinks::default(),
            open: BTreeMap::new(),
            resting: BTreeSet::new(),
            rest_after: Instant::now(),
            done: 0,
            is_news: false,
            look_after: Instant::now(),
            look_before: Instant::now() + LOOKS_EVERY,
        };
        let thread = thread("vrrp-hands", move || worker.run())?;
        Ok(Self {
            errands,
            answers,
            number: 0,
            early: VecDeque::new(),
            thread: Some(thread),
        })
    }

    /// All of these steps, in order; what failed. None: they are being taken, and an answer says what failed.
    pub fn take(&mut self, ifindex: u32, steps: Vec<Step>, instance: Option<Arc<str>>) -> Option<Failures> {
        if steps.is_empty() {
            return Some(Failures::new());
        }
        let deadline = Instant::now() + PATIENCE;
        self.order(Errand::Take {
            ifindex,
            steps,
            instance,
        });
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.wait(left) {
                Ok(Answer::Taken { number, failures, .. }) if number == self.number => return Some(failures),
                Ok(early) => self.early.push_back(early),
                Err(_) => return None,
            }
        }
    }

    /// Sets the interface down, unless it is set up again before there is time for that.
    pub fn rest(&mut self, ifindex: u32) {
        self.order(Errand::Rest(ifindex));
    }

    /// Hears adverts in all these places from now on, as far as they are there, and has interfaces for the virtual MACs of
    /// these instances.
    pub fn listen(&mut self, places: BTreeSet<Place>, with_virtual_mac: BTreeSet<Key>) {
        self.order(Errand::Listen(places, with_virtual_mac));
    }

    pub fn close(&mut self, socket: Socket) {
        self.order(Errand::Close(socket));
    }

    pub fn answer(&mut self) -> Option<Answer> {
        loop {
            match self.early.pop_front().or_else(|| self.answers.take().ok())? {
                // It shows what has changed since, and another comes.
                Answer::Seen(after, ..) if after < self.number => {}
                answer => return Some(answer),
            }
        }
    }

    /// Readable when there may be answers, but for those that came early.
    pub const fn answers(&self) -> &Inbox<Answer> {
        &self.answers
    }

    pub fn has_early_answers(&self) -> bool {
        !self.early.is_empty()
    }

    fn order(&mut self, errand: Errand) {
        self.number += 1;
        self.errands.send((self.number, errand));
    }
}

/// Everything that was ordered is done.
impl Drop for Hands {
    fn drop(&mut self) {
        self.order(Errand::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

struct Worker {
    addresses: Addresses,
    errands: Inbox<(u64, Errand)>,
    answers: Outbox<Answer>,
    places: BTreeSet<Place>,
    virtual_links: VirtualLinks,
    /// Those whose socket the keeper has, and the interface's index then.
    open: BTreeMap<Place, u32>,
    /// Interfaces that are to be set down.
    resting: BTreeSet<u32>,
    rest_after: Instant,
    done: u64,
    /// There may be something to see.
    is_news: bool,
    look_after: Instant,
    look_before: Instant,
}

impl Worker {
    fn run(mut self) {
        precedence::before_others();
        while self.run_errands() {
            let now = Instant::now();
            self.is_news |= self.addresses.take_news() || now >= self.look_before;
            if self.is_news && now >= self.look_after {
                self.look(now);
            }
            if now >= self.rest_after {
                self.set_down();
            }
            self.wait();
        }
        VirtualLinks::remove_all(&mut self.addresses);
    }

    /// False: that is all.
    fn run_errands(&mut self) -> bool {
        loop {
            let (number, errand) = match self.errands.take() {
                Ok(numbered) => numbered,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            match errand {
                Errand::Take {
                    ifindex,
                    steps,
                    instance,
                } => {
                    if steps.contains(&Step::SetUp) {
                        self.resting.remove(&ifindex);
                    }
                    let failures = self.take(ifindex, &steps);
                    self.answers.send(Answer::Taken {
                        number,
                        instance,
                        failures,
                    });
                }
                Errand::Listen(places, with_virtual_mac) => {
                    self.places = places;
                    self.virtual_links.want(with_virtual_mac);
                }
                Errand::Rest(ifindex) => drop(self.resting.insert(ifindex)),
                Errand::Close(socket) => drop(socket),
                Errand::Stop => return false,
            }
            self.done = number;
            self.is_news = true;
            self.rest_after = Instant::now() + RESTS_AFTER;
        }
    }

    fn take(&mut self, ifindex: u32, steps: &[Step]) -> Failures {
        let mut failures = Failures::new();
        for steps in steps.chunks(STEPS_AT_ONCE) {
            match self.addresses.take(ifindex, steps) {
                Ok(failed) => failures.extend(failed.iter().map(|(step, error)| (*step, step.why(error)))),
                Err(error) => failures.extend(steps.iter().map(|step| (*step, format!("{error:#}")))),
            }
        }
        failures
    }

    fn look(&mut self, now: Instant) {
        self.look_before = now + LOOKS_EVERY;
        let seats = match self.see(now) {
            Ok(seats) => seats,
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "cannot see addresses and links; going on with what was known, and trying again"
                );
                self.look_after = now + TRIES_AGAIN;
                return;
            }
        };
        (self.is_news, self.look_after) = (false, now + CALM);
        self.open_sockets(&seats);
        let unmade = self.virtual_links.unmade();
        self.answers.send(Answer::Seen(self.done, seats, unmade));
    }

    /// With the interfaces of virtual MACs as they are wanted.
    fn see(&mut self, now: Instant) -> Result<Seats> {
        let seats = by_name(self.addresses.look()?);
        if self.virtual_links.tidy(&mut self.addresses, &seats, now) {
            return Ok(by_name(self.addresses.look()?));
        }
        Ok(seats)
    }

    fn open_sockets(&mut self, seats: &Seats) {
        let there = |place: &Place| seats.get(&place.0).map(|(ifindex, _)| *ifindex);
        self.open
            .retain(|place, ifindex| self.places.contains(place) && there(place) == Some(*ifindex));
        for place in &self.places {
            let Some(ifindex) = there(place).filter(|_| !self.open.contains_key(place)) else {
                continue;
            };
            match Socket::open(&place.0, ifindex, place.1) {
                Ok(socket) => {
                    self.open.insert(place.clone(), ifindex);
                    self.answers.send(Answer::Opened(place.clone(), socket));
                }
                Err(error) => warn!(error = format!("{error:#}"), "cannot hear or say adverts; trying again"),
            }
        }
    }

    fn set_down(&mut self) {
        for ifindex in std::mem::take(&mut self.resting) {
            for (step, why) in self.take(ifindex, &[Step::SetDown]) {
                warn!(
                    ifindex,
                    why, "cannot {step}: it is silent only as long as nobody speaks on it"
                );
            }
        }
    }

    fn wait(&self) {
        let look = if self.is_news {
            self.look_after
        } else {
            self.look_before
        };
        let rest = (!self.resting.is_empty()).then_some(self.rest_after);
        let due = rest.map_or(look, |rest| rest.min(look));
        wait_for([self.errands.as_fd(), self.addresses.news()], due);
    }
}

fn by_name(seen: BTreeMap<u32, Interface>) -> Seats {
    let named = seen.into_iter().map(|(ifindex, interface)| {
        let name: Arc<str> = interface.link.name.as_str().into();
        (name, (ifindex, interface))
    });
    named.collect()
}
