//! Of an instance with a key: which of the sealed messages it believes, and what it says so that others believe its own.
//!
//! What is known of others is in `sessions`, the bytes in `sealed`.

use std::net::IpAddr;
use std::num::NonZeroU128;
use std::time::Instant;

use super::super::command::{Command, Datagram, What};
use super::super::packet::{Advert, Envelope};
use super::super::refusal::Refusal;
use super::super::sealed::{Greeting, Message, Secrets, open, seal, write_greeting};
use super::super::sessions::GREETS_EVERY;
use super::{Machine, State};

impl Machine {
    /// None: it was a greeting, and is done with.
    pub(super) fn unseal(
        &mut self,
        payload: &[u8],
        envelope: &Envelope,
        secrets: &Secrets,
        now: Instant,
        out: &mut Vec<Command>,
    ) -> Result<Option<Advert>, Refusal> {
        let (message, stamp) = open(payload, envelope, &self.settings.format, secrets)?;
        let from = envelope.source;
        let Greeting { question, answer } = match &message {
            Message::Advert(_) => Greeting::default(),
            Message::Greeting(greeting) => *greeting,
        };
        let admitted = self.sessions.admit(from, stamp, answer, now);
        if admitted == Err(Refusal::Replayed) {
            return Err(Refusal::Replayed);
        }
        // Who begins is answered before it is known: it has to know us first, or we would wait for each other.
        self.greet_back(from, question, admitted.is_err(), now, out);
        match message {
            Message::Advert(advert) => admitted.map(|()| Some(advert)),
            Message::Greeting(_) => Ok(None),
        }
    }

    /// Lets those know it who have heard nothing for a while, or never did.
    pub(super) fn greet_if_due(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.greets().is_some_and(|due| due <= now) {
            self.greets = now + GREETS_EVERY;
            self.greet(&self.settings.destinations(), &Greeting::default(), out);
        }
    }

    pub(super) fn greets(&self) -> Option<Instant> {
        let speaks = self.settings.secrets.is_some() && !matches!(self.state, State::Fault(_));
        speaks.then_some(self.greets)
    }

    fn greet_back(
        &mut self,
        from: IpAddr,
        answer: Option<NonZeroU128>,
        asks: bool,
        now: Instant,
        out: &mut Vec<Command>,
    ) {
        let question = if asks { self.sessions.question(from, now) } else { None };
        if question.is_some() || answer.is_some() {
            self.greet(&[from], &Greeting { question, answer }, out);
        }
    }

    fn greet(&mut self, to: &[IpAddr], greeting: &Greeting, out: &mut Vec<Command>) {
        let Some(source) = self.own_address() else { return };
        let id = self.settings.id;
        let datagrams = self.datagrams(source, to, |_| write_greeting(id, greeting));
        out.push(self.command(What::Greet { source, datagrams }));
    }

    /// The same message for each, sealed where there is a key.
    pub(super) fn datagrams(
        &mut self,
        source: IpAddr,
        to: &[IpAddr],
        message: impl Fn(IpAddr) -> Vec<u8>,
    ) -> Vec<Datagram> {
        let (settings, sessions) = (&self.settings, &mut self.sessions);
        let datagram = |&destination: &IpAddr| {
            let payload = match &settings.secrets {
                None => message(destination),
                Some(secrets) => {
                    let stamp = sessions.stamp();
                    seal(
                        message(destination),
                        stamp,
                        secrets,
                        &settings.format,
                        source,
                        destination,
                    )
                }
            };
            Datagram { destination, payload }
        };
        to.iter().map(datagram).collect()
    }
}
