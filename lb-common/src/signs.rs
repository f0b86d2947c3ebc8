//! What packets tell of a backend: never a judgement, only a reason to ask it at once.
//!
//! Told at most once a tick of each backend, so that nobody who sends packets decides how often it is asked.

use crate::abi::BackendId;
use crate::decide::Tables;

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered a SYN with a RST.
    Refused = 1,
    /// A router or the backend itself says that a packet could not be delivered.
    Unreachable = 2,
    /// A client had to repeat its SYN.
    Unanswered = 3,
}

/// What the program hands to the daemon: `sign:16 | backend:16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub u32);

impl Signal {
    #[inline(always)]
    pub const fn new(backend: BackendId, sign: Sign) -> Self {
        Self((sign as u32) << 16 | backend as u32)
    }

    pub const fn backend(self) -> BackendId {
        self.0 as BackendId
    }

    pub fn sign(self) -> Option<Sign> {
        let all = [Sign::Refused, Sign::Unreachable, Sign::Unanswered];
        all.into_iter().find(|sign| *sign as u32 == self.0 >> 16)
    }
}

#[inline(always)]
pub fn tell<T: Tables>(tables: &T, backend: BackendId, sign: Sign) {
    let now = tables.now();
    if tables.signed_at(backend) != now {
        tables.signal(Signal::new(backend, sign), now);
    }
}
