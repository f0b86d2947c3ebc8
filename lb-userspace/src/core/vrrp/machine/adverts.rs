//! The adverts of a claimant or master: when the next is due, and until when those sent carry the lease.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::core::vrrp::timing;

#[derive(Clone, Debug)]
pub struct Adverts {
    pub next: Instant,
    /// Until when the lease may be, by what was sent.
    pub lease: Instant,
    /// The same without the last advert, should that turn out not to have been sent.
    before: Instant,
    pub unsent: bool,
    /// Time between them.
    pace: Duration,
    /// So many more at a pace that was before the interval grew, for peers still expect it.
    settling: u8,
    answered: Option<Instant>,
    pub rival: Option<Run>,
}

/// A master of lower priority that goes on, as its adverts show.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub from: IpAddr,
    since: Instant,
    last: Instant,
}

impl Adverts {
    /// For who has not sent any.
    pub const fn new(now: Instant, pace: Duration) -> Self {
        Self {
            next: now,
            lease: now,
            before: now,
            unsent: false,
            pace,
            settling: 0,
            answered: None,
            rival: None,
        }
    }

    pub fn sent(&mut self, now: Instant) {
        let was_due = self.next <= now;
        let planned = self.next + self.pace;
        // One that is not due begins a new interval; one that was late does not make the next one late.
        self.next = if was_due && planned > now {
            planned
        } else {
            now + self.pace
        };
        self.before = self.lease;
        self.lease = now + timing::lease(self.pace);
        self.unsent = false;
    }

    /// Counts those that tell of a longer interval at the old pace.
    pub fn settle(&mut self, interval: Duration) {
        self.settling = self.settling.saturating_sub(1);
        if self.settling == 0 {
            self.pace = interval;
        }
    }

    /// The last one was not sent after all: it is tried again soon.
    pub fn not_sent(&mut self, now: Instant) {
        self.lease = self.before;
        self.unsent = true;
        self.next = self.next.min(now + self.pace / 4);
    }

    pub fn change_interval(&mut self, interval: Duration) {
        if interval > self.pace {
            self.settling = timing::SETTLING;
        } else {
            self.settling = 0;
            self.pace = interval;
        }
    }

    /// True: somebody may be answered now. Once in an interval is enough, however many ask.
    pub fn may_answer(&mut self, now: Instant) -> bool {
        let may = self.answered.is_none_or(|answered| now >= answered + self.pace);
        if may {
            self.answered = Some(now);
        }
        may
    }

    /// A rival was heard, who means to advertise every so often. True: it does not hear us.
    pub fn rival_heard(&mut self, from: IpAddr, interval: Duration, now: Instant) -> bool {
        let goes_on = |run: &&mut Run| run.from == from && now < run.last + interval * 3;
        match self.rival.as_mut().filter(goes_on) {
            Some(run) => {
                run.last = now;
                now >= run.since + timing::deaf(interval)
            }
            None => {
                self.rival = Some(Run {
                    from,
                    since: now,
                    last: now,
                });
                false
            }
        }
    }
}
