//! What the adverts of others mean to an instance, by what it is.

use std::net::IpAddr;
use std::time::Instant;

use super::super::command::{Command, What};
use super::super::packet::{Advert, Envelope, RESIGNS, parse};
use super::super::refusal::Refusal;
use super::super::settings::is_unfit;
use super::super::timing;
use super::{Aftermath, Farewell, Listening, MOST_OTHERS, Machine, Patience, Peer, State, Wait};
use crate::core::world::Moment;

/// Heard all the same: two masters would be worse.
const OTHER_ADDRESSES: &str = "advertises other addresses with this id: its section is not as ours, or it is of other nodes, \
     which need an id of their own";

impl Machine {
    /// What came for its id on its interface. Whatever it is not meant to hear is counted, and changes nothing.
    pub fn hear(&mut self, payload: &[u8], envelope: &Envelope, now: Moment, out: &mut Vec<Command>) {
        // Who was away for too long has nothing to answer for.
        self.check_late(now, out);
        match self.admit(payload, envelope, now.monotonic, out) {
            Ok(Some(advert)) => self.heard(&advert, envelope.source, now, out),
            Ok(None) => {}
            Err(refusal) => self.refuse(refusal, envelope.source, now.monotonic, out),
        }
    }

    /// None: it was a greeting.
    fn admit(
        &mut self,
        payload: &[u8],
        envelope: &Envelope,
        now: Instant,
        out: &mut Vec<Command>,
    ) -> Result<Option<Advert>, Refusal> {
        self.settings.admits(envelope, self.own_address())?;
        let advert = match self.settings.secrets.clone() {
            None => parse(payload, envelope, &self.settings.format)?,
            Some(secrets) => match self.unseal(payload, envelope, &secrets, now, out)? {
                Some(advert) => advert,
                None => return Ok(None),
            },
        };
        self.settings.agrees(&advert)?;
        let from_master = self.peer.is_some_and(|peer| peer.address == envelope.source);
        // Anybody could end a master's time with it otherwise.
        if advert.priority == RESIGNS && matches!(self.state, State::Backup(_)) && !from_master {
            return Err(Refusal::NotTheMaster);
        }
        Ok(Some(advert))
    }

    fn heard(&mut self, advert: &Advert, from: IpAddr, now: Moment, out: &mut Vec<Command>) {
        self.counters.heard += 1;
        if advert.priority != RESIGNS {
            self.note(advert, from, now.monotonic, out);
        }
        match self.state {
            State::Fault(_) => {}
            State::Backup(_) => self.respect(advert, now.monotonic),
            State::Claim(_) | State::Master(_) => self.contend(advert, from, now, out),
        }
    }

    /// Counts it.
    fn refuse(&mut self, refusal: Refusal, from: IpAddr, now: Instant, out: &mut Vec<Command>) {
        self.counters.refused.count(refusal);
        // Anybody far away can send such; only a peer is to be told of.
        if refusal == Refusal::Ttl && !self.settings.peers.contains(&from) {
            return;
        }
        if let Some(advice) = refusal.advice() {
            self.complain(from, advice, out);
            if self.unheard.len() < MOST_OTHERS || self.unheard.contains_key(&from) {
                self.unheard.insert(from, (advice, now));
            }
        }
    }

    /// Once of each sender.
    fn complain(&mut self, of: IpAddr, words: &'static str, out: &mut Vec<Command>) {
        if self.complaints.len() < MOST_OTHERS && self.complaints.insert((of, words)) {
            out.push(self.command(What::Complain(format!("{of} {words}"))));
        }
    }

    fn note(&mut self, advert: &Advert, from: IpAddr, now: Instant, out: &mut Vec<Command>) {
        if !self.settings.has_addresses_of(advert) {
            self.counters.other_addresses += 1;
            self.complain(from, OTHER_ADDRESSES, out);
        }
        if self.aftermath == Aftermath::Open && matches!(self.state, State::Backup(_) | State::Fault(_)) {
            self.aftermath = Aftermath::Lost {
                sever_at: now + timing::TAKEOVER,
            };
        }
        self.peer = Some(Peer {
            address: from,
            priority: advert.priority,
            interval: timing::adopted(self.settings.interval, advert.interval),
            heard: now,
        });
        if self.others.len() < MOST_OTHERS || self.others.contains_key(&from) {
            self.others.insert(from, advert.priority);
        }
    }

    /// As a backup: a master is heard, or resigns.
    fn respect(&mut self, advert: &Advert, now: Instant) {
        let lower = advert.priority < self.priority();
        let wait = if advert.priority == RESIGNS {
            self.peer = None;
            Wait::HandedOver
        } else if lower && self.preempts(advert.priority, now) {
            // The time goes on as if nothing had been heard.
            return;
        } else {
            if !lower {
                self.patience = None;
            }
            Wait::Silence
        };
        self.state = State::Backup(Listening {
            since: now,
            wait,
            interval: timing::adopted(self.settings.interval, advert.interval),
        });
    }

    /// Whether a master of lower priority, just heard, is not to be respected.
    fn preempts(&mut self, priority: u8, now: Instant) -> bool {
        let patience = *self.patience.get_or_insert(Patience {
            until: now + self.settings.preempt_delay,
            is_deaf: false,
        });
        let waits = now < patience.until;
        if self.aside || waits && patience.is_deaf {
            return false;
        }
        let serves_nobody = is_unfit(priority) && !is_unfit(self.priority());
        serves_nobody || self.settings.preempt && !waits
    }

    /// As a claimant or master: there is another one.
    fn contend(&mut self, advert: &Advert, from: IpAddr, now: Moment, out: &mut Vec<Command>) {
        if advert.priority == RESIGNS {
            self.rival_left(from, now.monotonic, out);
        } else if self.loses_to(advert.priority, from) {
            self.yield_to(advert, from, now, out);
        } else {
            self.stand(advert, from, now, out);
        }
    }

    fn loses_to(&self, priority: u8, from: IpAddr) -> bool {
        let ours = self.priority();
        priority > ours || (priority == ours && Some(from) > self.own_address())
    }

    fn yield_to(&mut self, advert: &Advert, from: IpAddr, now: Moment, out: &mut Vec<Command>) {
        let why = match (advert.priority, self.priority()) {
            (theirs, ours) if theirs == ours => format!("{from} has the same priority {ours} and the higher address"),
            (theirs, ours) => format!("{from} has priority {theirs}, and ours is {ours}"),
        };
        let interval = timing::adopted(self.settings.interval, advert.interval);
        let listening = Listening {
            since: now.monotonic,
            wait: Wait::Silence,
            interval,
        };
        self.leave(State::Backup(listening), why, Farewell::One(from), now, out);
    }

    /// It has left, and says so.
    fn rival_left(&mut self, from: IpAddr, now: Instant, out: &mut Vec<Command>) {
        let was_master = self.peer.is_none_or(|peer| peer.address == from);
        let rival_left = match &mut self.state {
            State::Claim(claim) if was_master => {
                claim.until = claim.alone;
                false
            }
            State::Master(reign) => reign.adverts.rival.take_if(|rival| rival.from == from).is_some(),
            State::Claim(_) | State::Backup(_) | State::Fault(_) => false,
        };
        if rival_left {
            self.announce_soon(now);
        }
        self.answer(now, out);
    }

    /// A rival of lower priority is told who is master, and so is everybody else once it has left.
    fn stand(&mut self, advert: &Advert, from: IpAddr, now: Moment, out: &mut Vec<Command>) {
        let at = now.monotonic;
        let interval = timing::adopted(self.settings.interval, advert.interval);
        let is_twin = self.settings.has_addresses_of(advert);
        let Some(adverts) = self.adverts() else { return };
        if adverts.rival_heard(from, interval, at) && is_twin {
            let why = format!("{from} goes on with priority {}: it does not hear us", advert.priority);
            self.leave(self.listening(now), why, Farewell::Everybody, now, out);
            self.patience = Some(Patience {
                until: at + timing::DEAF_REST,
                is_deaf: true,
            });
            return;
        }
        match &mut self.state {
            State::Claim(claim) => {
                let may_leave = at <= claim.in_flight;
                let patience = if may_leave {
                    timing::preemption_claim(interval)
                } else {
                    timing::lease(interval)
                };
                claim.until = claim.until.max(at + patience);
            }
            State::Backup(_) | State::Fault(_) => {}
            State::Master(_) => self.announce_soon(at + self.settings.interval),
        }
        self.answer(at, out);
    }

    fn answer(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.adverts().is_some_and(|adverts| adverts.may_answer(now)) {
            self.advertise(now, out);
        }
    }

    /// No earlier than that, and than a while after the last time.
    pub(super) fn announce_soon(&mut self, at: Instant) {
        if let State::Master(reign) = &mut self.state {
            let at = at.max(reign.announced + timing::ANNOUNCEMENTS_APART);
            reign.announce = reign.announce.into_iter().chain([at]).min();
        }
    }
}
