//! One instance of VRRP: whether it is master, and what it does to become it, to stay it and to leave.
//!
//! Never acts and never asks the time: every input comes with `now`, every effect is a `Command`. Inputs only change what
//! is known; time passes in `turn`. What adverts of others mean is in `contest`, what time brings in `course`, how roles
//! change in `roles`, what goes with a key in `greetings`. Groups are for `group`. Tested by the stories and laws in `tests/it/vrrp`.

mod adverts;
mod contest;
mod course;
mod greetings;
mod roles;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use self::adverts::Adverts;
use self::state::{Aftermath, Claim, Disabled, Farewell, Listening, Patience, Reign, State, Wait};
use super::Role;
use super::command::{Command, What};
use super::random::Seed;
use super::refusal::Refused;
use super::sessions::Sessions;
use super::settings::{Address, OWNER, Settings, unfit};
use super::timing;
use super::track::Tracked;
use crate::core::world::Moment;

/// What is known of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Missing,
    Down,
    /// The addresses that adverts are sent from: an own one, none of those that are shared; in IPv6 the link-local one.
    Up {
        ipv4: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
    },
}

/// A master other than we, as last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    pub priority: u8,
    /// As far as it is believed.
    pub interval: Duration,
    pub heard: Instant,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub sent: u64,
    /// Adverts that could be sent to nobody.
    pub unsent: u64,
    pub heard: u64,
    pub refused: Refused,
    /// Adverts whose addresses were not ours: heard all the same, but the nodes are not configured alike.
    pub other_addresses: u64,
    /// How often somebody spoke up in time when a master seemed to be silent, so that nothing moved.
    pub claims_in_vain: u64,
    /// How often it found itself late.
    pub late: u64,
}

#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    link: Link,
    tracked: Tracked,
    /// It cannot do what a master has to do.
    disabled: Option<Disabled>,
    /// Another of its group is at fault.
    held: Option<String>,
    state: State,
    since: Moment,
    turned: Instant,
    /// It takes nothing over before.
    not_before: Instant,
    /// An operator sent it aside: it takes over only if nobody else does.
    aside: bool,
    patience: Option<Patience>,
    peer: Option<Peer>,
    /// Last priority of those ever heard, to know whether anybody could take over.
    others: BTreeMap<IpAddr, u8>,
    counters: Counters,
    aftermath: Aftermath,
    /// It left by itself, and its group has to follow.
    fell: Option<String>,
    sessions: Sessions,
    /// When others are to hear something again, be it no advert.
    greets: Instant,
    /// Whom an operator has heard of, and what.
    complaints: BTreeSet<(IpAddr, &'static str)>,
    /// Those whose adverts are refused for something an operator has to put right: what, and when the last one came.
    unheard: BTreeMap<IpAddr, (&'static str, Instant)>,
}

const MOST_OTHERS: usize = 16;
/// Longer than the longest interval.
const UNHEARD_LATELY: Duration = Duration::from_secs(60);

impl Machine {
    /// Its interface is not known yet. What an earlier daemon has left behind goes.
    pub fn new(settings: Settings, seed: Seed, now: Moment, out: &mut Vec<Command>) -> Self {
        let machine = Self {
            link: Link::Missing,
            tracked: Tracked::default(),
            disabled: None,
            held: None,
            state: State::Fault(format!("{} is missing", settings.interface)),
            since: now,
            turned: now.monotonic,
            not_before: now.monotonic + settings.startup_delay,
            aside: false,
            patience: None,
            peer: None,
            others: BTreeMap::new(),
            counters: Counters::default(),
            aftermath: Aftermath::Over,
            fell: None,
            sessions: Sessions::new(seed),
            greets: now.monotonic,
            complaints: BTreeSet::new(),
            unheard: BTreeMap::new(),
            settings,
        };
        out.extend([
            machine.command(What::Disown(machine.settings.addresses.clone())),
            machine.command(What::Lease(None)),
        ]);
        machine
    }

    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Since when it has its role.
    pub const fn since(&self) -> Moment {
        self.since
    }

    /// The master, as far as it is another.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Others that have proven to have our key, and when they were last heard.
    pub fn acquaintances(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Instant)> {
        self.sessions.known(now)
    }

    /// Nodes that are there and not heard, and why.
    pub fn unheard(&self, now: Instant) -> impl Iterator<Item = (IpAddr, &'static str)> {
        let lately = self
            .unheard
            .iter()
            .filter(move |(_, (_, at))| now < *at + UNHEARD_LATELY);
        lately.map(|(address, (why, _))| (*address, *why))
    }

    pub fn fault(&self) -> Option<&str> {
        match &self.state {
            State::Fault(why) => Some(why),
            _ => None,
        }
    }

    pub const fn is_aside(&self) -> bool {
        self.aside
    }

    /// Who claims is no master yet.
    pub const fn role(&self) -> Role {
        match self.state {
            State::Fault(_) => Role::Fault,
            State::Backup(_) | State::Claim(_) => Role::Backup,
            State::Master(_) => Role::Master,
        }
    }

    /// With what is tracked. An owner's does not change, and no other becomes one or resigns by it.
    pub fn priority(&self) -> u8 {
        if self.settings.priority == OWNER {
            return OWNER;
        }
        let sum = (i32::from(self.settings.priority) + self.tracked.sum).clamp(1, 254);
        let priority = u8::try_from(sum).unwrap_or(1);
        if self.tracked.is_unfit {
            return unfit(priority);
        }
        priority
    }

    /// Why its priority is not that of the file; empty: it is.
    pub fn lowered_by(&self) -> &str {
        &self.tracked.why
    }

    pub fn link(&mut self, link: Link, now: Moment, out: &mut Vec<Command>) {
        self.link = link;
        self.reassess(now, out);
    }

    pub fn weigh(&mut self, tracked: Tracked, now: Moment, out: &mut Vec<Command>) {
        let before = self.priority();
        self.tracked = tracked;
        self.reassess(now, out);
        if self.tracked.is_unfit {
            // A node that serves takes over when it hears this; where none does, the addresses stay.
            if self.priority() < before && self.role() == Role::Master {
                self.advertise(now.monotonic, out);
            }
            return;
        }
        let why = format!("priority lowered to {}: {}", self.priority(), self.tracked.why);
        self.lowered(before, why, now, out);
    }

    /// Something that a master has to do failed: it leaves, and tries again later.
    pub fn disable(&mut self, why: String, now: Moment, out: &mut Vec<Command>) {
        let (at, before) = (now.monotonic, self.disabled.as_ref());
        let recent = before.filter(|before| at < before.from + before.time + timing::DISABLED_LONGEST);
        let time = recent.map_or(timing::DISABLED, |before| before.time * 2);
        self.disabled = Some(Disabled {
            why,
            from: at,
            time: time.min(timing::DISABLED_LONGEST),
        });
        self.turned = at;
        self.reassess(now, out);
    }

    /// Somebody else took one of its addresses off the interface.
    pub fn address_lost(&mut self, now: Moment, out: &mut Vec<Command>) {
        if let State::Master(_) = self.state {
            out.push(self.command(What::Own(self.settings.addresses.clone())));
            self.announce_soon(now.monotonic);
        }
    }

    /// The last advert could be sent to nobody.
    pub fn unsent(&mut self, now: Instant) {
        self.counters.unsent += 1;
        if let Some(adverts) = self.adverts() {
            adverts.not_sent(now);
        }
    }

    /// Somebody else shall be master; this one takes over again only if nobody does, until `come_back`.
    pub fn step_aside(&mut self, now: Moment, out: &mut Vec<Command>) {
        self.aside = true;
        if matches!(self.state, State::Master(_) | State::Claim(_)) {
            let why = "an operator asked for it".to_owned();
            self.leave(self.listening(now), why, Farewell::Everybody, now, out);
        }
    }

    /// It becomes master at once if nobody is in its way.
    pub fn come_back(&mut self, now: Moment) {
        self.aside = false;
        self.patience = None;
        let is_free = self.obstacle(now.monotonic).is_none();
        if let State::Backup(listening) = &mut self.state
            && is_free
        {
            listening.since = now.monotonic;
            listening.wait = Wait::Asked;
        }
    }

    /// Why it would not become master although it was asked to, if so.
    pub fn obstacle(&self, now: Instant) -> Option<String> {
        match &self.state {
            State::Fault(why) => Some(why.clone()),
            State::Backup(_) => {
                let peer = self.live_peer(now).filter(|peer| peer.priority >= self.priority())?;
                let (address, theirs, ours) = (peer.address, peer.priority, self.priority());
                Some(format!(
                    "{address} is master with priority {theirs}, and ours is {ours}"
                ))
            }
            State::Claim(_) | State::Master(_) => None,
        }
    }

    /// Another of its group has left.
    pub fn follow(&mut self, why: &str, now: Moment, out: &mut Vec<Command>) {
        if matches!(self.state, State::Master(_) | State::Claim(_)) {
            self.leave(self.listening(now), why.to_owned(), Farewell::Everybody, now, out);
            self.fell = None;
        }
    }

    pub const fn take_fall(&mut self) -> Option<String> {
        self.fell.take()
    }

    /// Another of its group is at fault, or is no more.
    pub fn hold(&mut self, held: Option<String>, now: Moment, out: &mut Vec<Command>) {
        self.held = held;
        self.reassess(now, out);
    }

    pub fn stop(&mut self, now: Moment, out: &mut Vec<Command>) {
        let why = "stopped".to_owned();
        self.leave(State::Fault(why.clone()), why, Farewell::Everybody, now, out);
    }

    /// The same instance, wanted otherwise: interface, family, id and version are what they were.
    pub fn reconfigure(&mut self, settings: Settings, now: Moment, out: &mut Vec<Command>) {
        if self.settings == settings {
            return;
        }
        let before = self.priority();
        let old = std::mem::replace(&mut self.settings, settings);
        self.complaints.clear();
        self.unheard.clear();
        if self.settings.secrets.is_some() != old.secrets.is_some() {
            // What was heard before may be anybody's.
            self.peer = None;
            self.others.clear();
        }
        let interval = self.settings.interval;
        match &mut self.state {
            State::Backup(listening) => listening.interval = timing::adopted(interval, listening.interval),
            State::Claim(Claim { adverts, .. }) | State::Master(Reign { adverts, .. }) => {
                adverts.change_interval(interval);
            }
            State::Fault(_) => {}
        }
        // With another MAC they are on another interface.
        let all_move = old.virtual_mac != self.settings.virtual_mac;
        let without = |all: &[Address], others: &[Address]| -> Vec<Address> {
            let kept = all.iter().filter(|address| all_move || !others.contains(address));
            kept.copied().collect()
        };
        let gone = without(&old.addresses, &self.settings.addresses);
        if self.role() == Role::Master && !gone.is_empty() {
            out.push(self.command(What::Disown(gone)));
        }
        self.reassess(now, out);
        let why = format!("priority lowered to {}", self.priority());
        self.lowered(before, why, now, out);
        if self.role() != Role::Master {
            return;
        }
        let new = without(&self.settings.addresses, &old.addresses);
        if !new.is_empty() {
            out.extend([What::Own(new.clone()), What::Announce(new)].map(|what| self.command(what)));
            self.announce_soon(now.monotonic + timing::ANNOUNCE_AGAIN);
        }
        self.advertise(now.monotonic, out);
    }

    fn command(&self, what: What) -> Command {
        Command {
            instance: self.settings.name.clone(),
            key: self.settings.key(),
            what,
        }
    }

    const fn adverts(&mut self) -> Option<&mut Adverts> {
        match &mut self.state {
            State::Fault(_) | State::Backup(_) => None,
            State::Claim(claim) => Some(&mut claim.adverts),
            State::Master(reign) => Some(&mut reign.adverts),
        }
    }

    fn listening(&self, now: Moment) -> State {
        State::Backup(Listening {
            since: now.monotonic,
            wait: Wait::Silence,
            interval: self.settings.interval,
        })
    }

    fn live_peer(&self, now: Instant) -> Option<&Peer> {
        self.peer.as_ref().filter(|peer| now <= peer.heard + peer.interval * 3)
    }
}
