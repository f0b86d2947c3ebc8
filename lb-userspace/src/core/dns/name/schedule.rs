//! When one name is asked about next: when its records end, and sooner while they may have moved.
//!
//! - A backend in trouble: at once, then `HURRY` after each answer, twice as long each time, up to the usual time.
//! - A service with nobody up: within `min_ttl` of the last answer, for as long as that lasts. Further trouble says
//!   nothing new then, so it brings no question forward.
//! - Every wait is up to a tenth shorter, by chance, so that names asked about together do not stay together.
//!
//! One question at a time. Never knows why. Tested in `dns/tests/hurry.rs`, and by the scenarios `dns_nobody_*`.

use std::time::{Duration, Instant};

use crate::core::fingerprint::mix;

/// The first wait after trouble.
const HURRY: Duration = Duration::from_millis(100);
/// Trouble that was not heard of for so long is over.
const CALM: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Schedule {
    /// None: a question is under way.
    next: Option<Next>,
    trouble: Option<Trouble>,
    /// A service has nobody up without this name.
    is_needed: bool,
    /// Mixed on with each answer.
    chance: u64,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    usual: Instant,
    if_needed: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    last: Instant,
    /// How many answers have come since it began.
    answers: u32,
}

impl Schedule {
    /// The first question is due now.
    pub fn new(host: &str, now: Instant) -> Self {
        Self {
            next: Some(Next::at(now)),
            trouble: None,
            is_needed: false,
            chance: host.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte))),
        }
    }

    /// When the next question is due; None: one is under way.
    pub fn next(&self) -> Option<Instant> {
        let next = self.next?;
        Some(if self.is_needed {
            next.usual.min(next.if_needed)
        } else {
            next.usual
        })
    }

    /// True: the question is to be asked now.
    pub fn ask(&mut self, now: Instant) -> bool {
        let is_due = self.next().is_some_and(|next| next <= now);
        if is_due {
            self.next = None;
        }
        is_due
    }

    /// Makes a question due at once, unless one is under way.
    pub fn ask_anew(&mut self, now: Instant) {
        self.next = self.next().map(|next| Next::at(next.min(now)));
    }

    /// A backend of the name may be in trouble; the first word of that makes a question due at once.
    pub fn doubt(&mut self, now: Instant) {
        let answers = match self.troubled(now) {
            Some(trouble) => trouble.answers,
            None if self.is_needed => return,
            None => {
                self.ask_anew(now);
                0
            }
        };
        self.trouble = Some(Trouble { last: now, answers });
    }

    /// Whether a service has nobody up without this name.
    pub fn need(&mut self, is_needed: bool) {
        self.is_needed = is_needed;
    }

    /// An answer has come, which is usually good for `wait`.
    pub fn answered(&mut self, wait: Duration, min_ttl: Duration, now: Instant) {
        self.chance = mix(self.chance);
        let thousandths = u32::try_from(self.chance % 100).unwrap_or_default();
        let somewhat_less = |wait: Duration| wait - wait / 1000 * thousandths;
        let mut usual = somewhat_less(wait);
        self.trouble = self.troubled(now);
        if let Some(trouble) = &mut self.trouble {
            trouble.answers = trouble.answers.saturating_add(1);
            usual = usual.min(HURRY * 2_u32.saturating_pow(trouble.answers.min(16) - 1));
        }
        self.next = Some(Next {
            usual: now + usual,
            if_needed: now + somewhat_less(min_ttl),
        });
    }

    fn troubled(&self, now: Instant) -> Option<Trouble> {
        self.trouble.filter(|trouble| now < trouble.last + CALM)
    }
}

impl Next {
    const fn at(now: Instant) -> Self {
        Self {
            usual: now,
            if_needed: now,
        }
    }
}
