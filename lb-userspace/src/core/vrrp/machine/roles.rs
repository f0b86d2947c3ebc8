//! Into another role and out of it: faults, elections, and what is said and done on leaving.

use std::net::IpAddr;
use std::time::Instant;

use super::super::Role;
use super::super::command::{Command, Transition, What};
use super::super::packet::{RESIGNS, write};
use super::super::sessions::GREETS_EVERY;
use super::super::settings::OWNER;
use super::{Aftermath, Farewell, Link, Listening, Machine, State, Wait};
use crate::core::dns::Family;
use crate::core::world::Moment;

impl Machine {
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        let Link::Up { ipv4, ipv6 } = self.link else {
            return None;
        };
        match self.settings.family() {
            Family::Ipv4 => ipv4.map(IpAddr::V4),
            Family::Ipv6 => ipv6.map(IpAddr::V6),
        }
    }

    /// What it is at fault for, of itself: without what its group says.
    pub fn own_fault(&self) -> Option<String> {
        let interface = &self.settings.interface;
        let link = match (self.link, self.own_address(), self.settings.family()) {
            (Link::Missing, ..) => Some(format!("{interface} is missing")),
            (Link::Down, ..) => Some(format!("{interface} is down")),
            (Link::Up { .. }, Some(_), _) => None,
            (Link::Up { .. }, None, Family::Ipv4) => Some(format!("{interface} has no IPv4 address of its own")),
            (Link::Up { .. }, None, Family::Ipv6) => Some(format!("{interface} has no link-local address")),
        };
        let disabled = self.disabled.as_ref();
        let disabled = disabled.filter(|disabled| self.turned < disabled.from + disabled.time);
        let disabled = disabled.map(|disabled| disabled.why.clone());
        link.or_else(|| self.tracked.fault.clone()).or(disabled)
    }

    /// Into fault and out of it.
    pub(super) fn reassess(&mut self, now: Moment, out: &mut Vec<Command>) {
        let fault = self.own_fault().or_else(|| self.held.clone());
        match (fault, &mut self.state) {
            (Some(why), State::Fault(before)) => *before = why,
            (Some(why), _) => self.leave(State::Fault(why.clone()), why, Farewell::Everybody, now, out),
            (None, State::Fault(_)) => {
                let wait = if self.priority() == OWNER {
                    Wait::Owner
                } else {
                    Wait::Silence
                };
                let listening = Listening {
                    since: now.monotonic,
                    wait,
                    interval: self.settings.interval,
                };
                let why = "nothing is at fault".to_owned();
                self.leave(State::Backup(listening), why, Farewell::Nobody, now, out);
            }
            (None, _) => {}
        }
    }

    /// A master of less priority than before asks who is the best, unless it knows that nobody is better.
    pub(super) fn lowered(&mut self, before: u8, why: String, now: Moment, out: &mut Vec<Command>) {
        let own = self.priority();
        let is_known_best = !self.others.is_empty() && self.others.values().all(|other| *other < own);
        if let State::Master(_) = self.state
            && own < before
            && !is_known_best
        {
            let election = Listening {
                since: now.monotonic,
                wait: Wait::Election,
                interval: self.settings.interval,
            };
            self.leave(State::Backup(election), why, Farewell::Everybody, now, out);
        }
    }

    /// Out of what it is, and into `state`. The addresses go first, then the lease, and only then others hear of it.
    pub(super) fn leave(&mut self, state: State, why: String, farewell: Farewell, now: Moment, out: &mut Vec<Command>) {
        let from = self.role();
        let before = std::mem::replace(&mut self.state, state);
        let to = self.role();
        if to == Role::Master {
            self.aftermath = Aftermath::Over;
        }
        if from == Role::Master && to != Role::Master {
            self.aftermath = Aftermath::Open;
            let addresses = self.settings.addresses.clone();
            out.extend([self.command(What::Disown(addresses)), self.command(What::Lease(None))]);
        }
        if matches!(before, State::Claim(_) | State::Master(_)) && to != Role::Master {
            match farewell {
                Farewell::Nobody => {}
                Farewell::Everybody => self.send(RESIGNS, &self.settings.destinations(), None, out),
                Farewell::One(one) => self.send(RESIGNS, &[one], None, out),
            }
            self.counters.claims_in_vain += u64::from(from != Role::Master);
            self.fell = Some(why.clone());
        }
        if from != to {
            self.patience = None;
            self.since = now;
            out.push(self.command(What::Moved(Transition {
                at: now,
                instance: self.settings.name.clone(),
                from,
                to,
                why,
            })));
        }
    }

    /// One advert, due or not.
    pub(super) fn advertise(&mut self, now: Instant, out: &mut Vec<Command>) {
        let interval = self.settings.interval;
        let owns = matches!(self.state, State::Master(_));
        let Some(adverts) = self.adverts() else { return };
        adverts.sent(now);
        let lease = owns.then_some(adverts.lease);
        adverts.settle(interval);
        self.greets = now + GREETS_EVERY;
        self.send(self.priority(), &self.settings.destinations(), lease, out);
    }

    pub(super) fn send(&mut self, priority: u8, to: &[IpAddr], lease: Option<Instant>, out: &mut Vec<Command>) {
        let Some(source) = self.own_address() else { return };
        let (advert, format) = (self.settings.advert(priority), self.settings.format.clone());
        let datagrams = self.datagrams(source, to, |destination| write(&advert, &format, source, destination));
        self.counters.sent += 1;
        out.push(self.command(What::Send {
            source,
            datagrams,
            priority,
            lease,
        }));
    }
}
