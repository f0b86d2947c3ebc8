//! How an instance goes on as time passes: what is due, whether it is late, and its way from backup to master.

use std::time::Instant;

use super::super::command::{Command, What};
use super::super::settings::Settings;
use super::super::timing;
use super::adverts::Adverts;
use super::{Aftermath, Claim, Farewell, Listening, Machine, Reign, State, Wait};
use crate::core::world::Moment;

impl Machine {
    /// Time passes. What was heard until `now` has been told before.
    pub fn turn(&mut self, now: Moment, out: &mut Vec<Command>) {
        let at = now.monotonic;
        self.check_late(now, out);
        self.turned = at;
        self.reassess(now, out);
        if self.adverts().is_some_and(|adverts| adverts.next <= at) {
            self.advertise(at, out);
        }
        self.greet_if_due(at, out);
        if self.severs_at().is_some_and(|sever_at| sever_at <= at) {
            self.aftermath = Aftermath::Over;
            out.push(self.command(What::Sever));
        }
        if let State::Master(reign) = &mut self.state
            && reign.announce.is_some_and(|announce| announce <= at)
        {
            reign.announce = self.settings.announce_every.map(|every| at + every);
            reign.announced = at;
            out.push(self.command(What::Announce(self.settings.addresses.clone())));
        }
    }

    /// Each of them may have passed, and wait for others.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let of_role = match &self.state {
            State::Fault(_) => self.disabled.as_ref().map(|disabled| disabled.from + disabled.time),
            State::Backup(listening) => Some(self.wake(listening)),
            State::Claim(claim) => Some(claim.until.min(claim.adverts.next)),
            State::Master(reign) => reign.announce.into_iter().chain([reign.adverts.next]).min(),
        };
        of_role.into_iter().chain(self.greets()).chain(self.severs_at())
    }

    /// Who claims may be master again in a moment.
    const fn severs_at(&self) -> Option<Instant> {
        match (self.aftermath, &self.state) {
            (Aftermath::Lost { sever_at }, State::Backup(_) | State::Fault(_)) => Some(sever_at),
            _ => None,
        }
    }

    /// Nobody is master, as far as it hears, or nobody that it has to respect.
    pub fn wants(&self, now: Instant) -> bool {
        match &self.state {
            State::Fault(_) => false,
            State::Backup(listening) => self.wake(listening) <= now,
            State::Claim(_) | State::Master(_) => true,
        }
    }

    pub const fn is_backup(&self) -> bool {
        matches!(self.state, State::Backup(_))
    }

    /// Nobody contradicted its claim.
    pub fn may_own(&self, now: Instant) -> bool {
        match &self.state {
            State::Fault(_) | State::Backup(_) => false,
            State::Claim(claim) => claim.until <= now,
            State::Master(_) => true,
        }
    }

    /// From backup.
    pub fn claim(&mut self, now: Instant, out: &mut Vec<Command>) {
        let State::Backup(listening) = &self.state else { return };
        let interval = self.settings.interval;
        let rival = self.live_peer(now).filter(|peer| peer.priority < self.priority());
        let silent = now.saturating_duration_since(listening.since).as_millis();
        let asked = "an operator asked for it";
        let (why, wait) = match (rival, listening.wait) {
            (Some(rival), wait) => {
                let asked = if wait == Wait::Asked {
                    format!("{asked}: ")
                } else {
                    String::new()
                };
                let why = format!(
                    "{asked}preempts {}, whose priority is {}",
                    rival.address, rival.priority
                );
                let gone = rival.heard + timing::preemption_claim(rival.interval);
                (
                    why,
                    gone.saturating_duration_since(now).max(timing::silence_claim(interval)),
                )
            }
            (None, Wait::HandedOver) => ("the master handed over".to_owned(), timing::handover_claim(interval)),
            (None, Wait::Election) => ("nobody better took over".to_owned(), timing::silence_claim(interval)),
            (None, Wait::Owner) => ("owner of the addresses".to_owned(), timing::preemption_claim(interval)),
            (None, Wait::Asked) => (asked.to_owned(), timing::silence_claim(interval)),
            (None, Wait::Silence) => {
                let who = self
                    .peer
                    .map_or("any master".to_owned(), |peer| peer.address.to_string());
                (
                    format!("no advert of {who} for {silent}ms"),
                    timing::silence_claim(interval),
                )
            }
        };
        let (half, until) = (wait / 2, now + wait);
        let waits_for_rival = rival.is_some() || listening.wait == Wait::Owner;
        let alone = if waits_for_rival { now } else { until };
        self.state = State::Claim(Claim {
            why,
            in_flight: now + half,
            until,
            alone,
            adverts: Adverts::new(now, interval),
        });
        self.advertise(now, out);
        if let Some(adverts) = self.adverts() {
            // Once more, should the first be lost.
            adverts.next = adverts.next.min(now + half);
        }
    }

    /// From a claim.
    pub fn own(&mut self, now: Moment, out: &mut Vec<Command>) {
        let State::Claim(claim) = &self.state else { return };
        let (why, mut adverts) = (claim.why.clone(), claim.adverts.clone());
        adverts.rival = None;
        let addresses = &self.settings.addresses;
        out.extend([
            self.command(What::Lease(Some(adverts.lease))),
            self.command(What::Own(addresses.clone())),
            self.command(What::Announce(addresses.clone())),
        ]);
        let reign = Reign {
            adverts,
            announced: now.monotonic,
            announce: Some(now.monotonic + timing::ANNOUNCE_AGAIN),
        };
        self.aside = false;
        self.leave(State::Master(reign), why, Farewell::Nobody, now, out);
    }

    fn wake(&self, listening: &Listening) -> Instant {
        let version = self.settings.format.version;
        let priority = if self.aside { 1 } else { self.priority() };
        let down = timing::down(version, priority, listening.interval);
        let due = match listening.wait {
            Wait::Silence => listening.since + down,
            Wait::HandedOver | Wait::Election => listening.since + timing::skew(version, priority, listening.interval),
            Wait::Owner => listening.since,
            // Who has just begun may not have heard the master yet.
            Wait::Asked => listening.since.max(self.since.monotonic + down),
        };
        due.max(self.not_before)
    }

    /// Who has not been looked at for so long that others may have taken its place listens first.
    pub fn check_late(&mut self, now: Moment, out: &mut Vec<Command>) {
        let at = now.monotonic;
        match &mut self.state {
            State::Fault(_) => {}
            State::Backup(listening) => {
                let listening = listening.clone();
                let wake = self.wake(&listening);
                if wake > self.turned && at > wake + timing::lease(listening.interval) {
                    self.state = self.listening(now);
                    self.count_late(at);
                }
            }
            State::Claim(Claim { adverts, .. }) | State::Master(Reign { adverts, .. }) => {
                if at <= adverts.lease {
                    return;
                }
                if adverts.unsent {
                    return self.disable("no advert could be sent".to_owned(), now, out);
                }
                let late = at.saturating_duration_since(adverts.next).as_millis();
                let why = format!("late by {late}ms, so somebody else may be master");
                self.leave(self.listening(now), why, Farewell::Everybody, now, out);
                self.count_late(at);
            }
        }
    }

    /// What it is told now may be old: whatever that is, it listens for as long as a master may be silent.
    fn count_late(&mut self, now: Instant) {
        self.counters.late += 1;
        let Settings { format, interval, .. } = &self.settings;
        let down = timing::down(format.version, self.priority(), *interval);
        self.not_before = self.not_before.max(now + down);
    }
}
