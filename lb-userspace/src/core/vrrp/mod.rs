//! VRRP: who of several nodes has the addresses they share. All instances of this node, and their groups.
//!
//! What is known goes in by `hear`, `link`, `weigh` and the like, and `turn` lets time pass: it returns everything that is to
//! be done, in order, and has to be called after any of them and at `deadline`. Never acts itself. docs/vrrp.md has the
//! rules; `machine` has one instance, `packet` the bytes, `sealed` and `sessions` what a key adds, `timing` the arithmetic.
//! Tested in `tests.rs`, and by the
//! stories and laws in `tests/it/vrrp`.

pub mod announcement;
pub mod command;
pub mod document;
pub mod fitness;
mod group;
pub mod holdings;
pub mod leases;
pub mod machine;
pub mod multicast;
pub mod packet;
pub mod random;
pub mod refusal;
pub mod sealed;
mod sessions;
pub mod settings;
pub mod timing;
pub mod track;
pub mod virtual_link;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use self::command::{Command, Transition, What};
use self::machine::{Link, Machine};
use self::packet::Envelope;
use self::random::{Random, Seed};
use self::refusal::{Refusal, Refused};
use self::settings::{Key, Settings};
use self::track::Tracked;
use super::dns::Family;
use super::world::Moment;

const REMEMBERED: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Master,
    Backup,
    Fault,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
            Self::Fault => "fault",
        })
    }
}

/// What a socket of VRRP has received: what is behind the IP header, and what that says.
#[derive(Clone, Debug)]
pub struct Heard<'p> {
    pub interface: Arc<str>,
    pub envelope: Envelope,
    pub payload: &'p [u8],
}

#[derive(Debug)]
pub struct Vrrp {
    random: Random,
    instances: BTreeMap<Key, Machine>,
    units: Vec<Vec<Key>>,
    links: BTreeMap<Arc<str>, Link>,
    /// What was refused before it was known for whom it is.
    refused: Refused,
    transitions: VecDeque<Transition>,
    queue: Vec<Command>,
    /// What is due until then has been done; what waits for others is not due again.
    turned: Option<Instant>,
    /// Something has changed since.
    stirred: Option<Instant>,
}

/// Why an operator's wish is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("there is no [vrrp.{0}]")]
    Unknown(String),
    #[error("{0} is not master here")]
    NotMaster(String),
    #[error("{0} stays as it is: {1}")]
    Obstacle(String, String),
}

impl Vrrp {
    /// No two may ever have the same seed.
    pub const fn new(seed: Seed) -> Self {
        Self {
            random: Random::new(seed),
            instances: BTreeMap::new(),
            units: Vec::new(),
            links: BTreeMap::new(),
            refused: Refused::new(),
            transitions: VecDeque::new(),
            queue: Vec::new(),
            turned: None,
            stirred: None,
        }
    }

    /// Wants these instances from now on. What is new begins, what is gone leaves, and what is only wanted otherwise keeps
    /// its role where it can.
    pub fn reconfigure(&mut self, settings: Vec<Settings>, now: Moment) {
        self.stir(now);
        let first = self.queue.len();
        let mut before = std::mem::take(&mut self.instances);
        for settings in settings {
            let key = settings.key();
            let same = |machine: &Machine| machine.settings().format.version == settings.format.version;
            let machine = if before.get(&key).is_some_and(same)
                && let Some(mut machine) = before.remove(&key)
            {
                machine.reconfigure(settings, now, &mut self.queue);
                machine
            } else {
                if let Some(mut other) = before.remove(&key) {
                    other.stop(now, &mut self.queue);
                }
                let mut machine = Machine::new(settings, self.random.seed(), now, &mut self.queue);
                let link = self.links.get(&key.interface).copied().unwrap_or_default();
                machine.link(link, now, &mut self.queue);
                machine
            };
            self.instances.insert(key, machine);
        }
        for mut gone in before.into_values() {
            gone.stop(now, &mut self.queue);
        }
        // An address may go from one instance to another.
        self.queue[first..].sort_by_key(|command| !matches!(command.what, What::Disown(_)));
        self.units = group::units(&self.instances);
    }

    /// Everything that the sockets hold is to be told before `turn`.
    pub fn hear(&mut self, heard: &Heard<'_>, now: Moment) {
        self.stir(now);
        let id = match packet::id(heard.payload) {
            Ok(id) => id,
            Err(refusal) => return self.refused.count(refusal),
        };
        let key = Key {
            interface: heard.interface.clone(),
            family: Family::of(heard.envelope.source),
            id,
        };
        match self.instances.get_mut(&key) {
            Some(machine) => machine.hear(heard.payload, &heard.envelope, now, &mut self.queue),
            None => self.refused.count(Refusal::UnknownId),
        }
    }

    /// Received, but not even an IP packet of VRRP.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused.count(refusal);
    }

    pub fn link(&mut self, interface: &Arc<str>, link: Link, now: Moment) {
        self.stir(now);
        self.links.insert(interface.clone(), link);
        let of_it = self.instances.iter_mut().filter(|(key, _)| key.interface == *interface);
        for (_, machine) in of_it {
            machine.link(link, now, &mut self.queue);
        }
    }

    /// What an instance watches has changed.
    pub fn weigh(&mut self, instance: &str, tracked: Tracked, now: Moment) {
        self.stir(now);
        if let Some(machine) = find(&mut self.instances, instance) {
            machine.weigh(tracked, now, &mut self.queue);
        }
    }

    /// `What::Own` failed.
    pub fn not_owned(&mut self, instance: &str, why: String, now: Moment) {
        self.stir(now);
        if let Some(machine) = find(&mut self.instances, instance) {
            machine.disable(why, now, &mut self.queue);
        }
    }

    /// Somebody else took an address of an instance off.
    pub fn address_lost(&mut self, instance: &str, now: Moment) {
        self.stir(now);
        if let Some(machine) = find(&mut self.instances, instance) {
            machine.address_lost(now, &mut self.queue);
        }
    }

    /// None of the datagrams of `What::Send` could be sent.
    pub fn unsent(&mut self, instance: &str, now: Moment) {
        self.stir(now);
        if let Some(machine) = find(&mut self.instances, instance) {
            machine.unsent(now.monotonic);
        }
    }

    /// An operator wants another node to be master of this instance and its group.
    pub fn failover(&mut self, instance: &str, now: Moment) -> Result<(), Denied> {
        self.stir(now);
        let unit = self.unit(instance)?;
        let is_master = |key: &Key| {
            self.instances
                .get(key)
                .is_some_and(|machine| machine.role() == Role::Master)
        };
        if !unit.iter().any(is_master) {
            return Err(Denied::NotMaster(instance.to_owned()));
        }
        for machine in members(&mut self.instances, &unit) {
            machine.step_aside(now, &mut self.queue);
        }
        Ok(())
    }

    /// An operator wants it to be master here again.
    pub fn failback(&mut self, instance: &str, now: Moment) -> Result<(), Denied> {
        self.stir(now);
        let unit = self.unit(instance)?;
        let mut obstacle = None;
        for machine in members(&mut self.instances, &unit) {
            obstacle = obstacle.or_else(|| machine.obstacle(now.monotonic));
            machine.come_back(now);
        }
        match obstacle {
            Some(why) => Err(Denied::Obstacle(instance.to_owned(), why)),
            None => Ok(()),
        }
    }

    /// The daemon ends: every instance leaves.
    pub fn stop(&mut self, now: Moment) {
        self.reconfigure(Vec::new(), now);
    }

    /// Lets time pass; what is to be done, in order.
    pub fn turn(&mut self, now: Moment) -> Vec<Command> {
        for machine in self.instances.values_mut() {
            machine.turn(now, &mut self.queue);
        }
        for unit in &self.units {
            group::unite(&mut members(&mut self.instances, unit), now, &mut self.queue);
        }
        (self.turned, self.stirred) = (Some(now.monotonic), None);
        let commands = std::mem::take(&mut self.queue);
        for command in &commands {
            if let What::Moved(transition) = &command.what {
                self.transitions.truncate(REMEMBERED - 1);
                self.transitions.push_front(transition.clone());
            }
        }
        commands
    }

    /// When `turn` is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines = self.instances.values().flat_map(Machine::deadlines);
        let to_come = deadlines.filter(|deadline| self.turned.is_none_or(|turned| *deadline > turned));
        to_come.chain(self.stirred).min()
    }

    pub fn instances(&self) -> impl Iterator<Item = &Machine> {
        self.instances.values()
    }

    /// The last hundred, the newest first.
    pub fn transitions(&self) -> impl Iterator<Item = &Transition> {
        self.transitions.iter()
    }

    /// Adverts that were for no instance.
    pub const fn refused(&self) -> &Refused {
        &self.refused
    }

    const fn stir(&mut self, now: Moment) {
        self.stirred = Some(now.monotonic);
    }

    fn unit(&self, instance: &str) -> Result<Vec<Key>, Denied> {
        let mut named = self.instances.iter();
        let named = named.find(|(_, machine)| *machine.settings().name == *instance);
        let unit = named.and_then(|(key, _)| self.units.iter().find(|unit| unit.contains(key)));
        unit.cloned().ok_or_else(|| Denied::Unknown(instance.to_owned()))
    }
}

fn find<'m>(instances: &'m mut BTreeMap<Key, Machine>, name: &str) -> Option<&'m mut Machine> {
    instances.values_mut().find(|machine| *machine.settings().name == *name)
}

fn members<'m>(instances: &'m mut BTreeMap<Key, Machine>, unit: &[Key]) -> Vec<&'m mut Machine> {
    if let [alone] = unit {
        return instances.get_mut(alone).into_iter().collect();
    }
    let members = instances.iter_mut().filter(|(key, _)| unit.contains(key));
    members.map(|(_, machine)| machine).collect()
}
