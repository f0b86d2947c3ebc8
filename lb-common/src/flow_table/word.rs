//! The word of an entry: its lock, its state and whose it is, in 64 bits that change together.

use crate::abi::{BackendId, Mode};
use crate::lease::{LeaseId, MAX_LEASES};

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Free = 0,
    /// Somebody is writing it.
    Claimed = 1,
    /// The backend has not answered, or the client has not confirmed the answer.
    HalfOpen = 2,
    Established = 3,
    /// Ended by FIN from both sides or by RST; kept a little for what is still on its way.
    Closing = 4,
    /// Ended by the daemon, since its backend is lost: whoever still speaks is answered by a RST.
    Severed = 5,
}

/// How a flow's packets travel, from its first to its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    pub mode: Mode,
    /// That of the address its client speaks to.
    pub lease: LeaseId,
}

const MODE_BITS: u32 = 2;
const _: () = assert!(MAX_LEASES << MODE_BITS == 1 << 8);

/// Marks of a live entry.
pub const TO_CLIENT: u8 = 1;
pub const FIN_SEEN: u8 = 2;
pub const ANSWERED: u8 = 4;
/// Closing because of a RST, which anybody could have sent.
pub const RESET: u8 = 8;
/// It was half-open when the RST came.
const EARLY: u8 = 32;
/// A RST came whose number was not to be believed.
pub const DOUBTED: u8 = 16;
/// The client's TCP timestamps are shifted on their way.
pub const SHIFTED: u8 = 64;

/// `serial:16 | backend:16 | lease:6 | mode:2 | marks:8 | protocol:8 | state:8`; while claimed, `serial:16 | tag:32 |
/// protocol:8 | state:8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    #[inline(always)]
    pub(super) const fn claimed(serial: u16, protocol: u8, hash: u64) -> Self {
        Self((serial as u64) << 48 | (hash >> 32) << 16 | (protocol as u64) << 8 | State::Claimed as u64)
    }

    #[inline(always)]
    pub const fn live(serial: u16, backend: BackendId, manner: Manner, marks: u8, protocol: u8, state: State) -> Self {
        Self(
            (serial as u64) << 48
                | (backend as u64) << 32
                | (manner.mode as u64 | (manner.lease as u64) << MODE_BITS) << 24
                | (marks as u64) << 16
                | (protocol as u64) << 8
                | state as u64,
        )
    }

    #[inline(always)]
    pub(super) const fn free(serial: u16) -> Self {
        Self((serial as u64) << 48)
    }

    #[inline(always)]
    pub const fn state_byte(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub const fn is(self, state: State) -> bool {
        self.state_byte() == state as u8
    }

    #[inline(always)]
    pub const fn is_live(self) -> bool {
        self.state_byte() >= State::HalfOpen as u8
    }

    /// Established and beyond doubt: an ordinary packet changes nothing.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        self.0 & (0xff | (DOUBTED as u64) << 16) == State::Established as u64
    }

    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    pub const fn has(self, mark: u8) -> bool {
        (self.0 >> 16) as u8 & mark != 0
    }

    #[inline(always)]
    pub const fn mode(self) -> Mode {
        Mode::of((self.0 >> 24) as u8 & ((1 << MODE_BITS) - 1))
    }

    #[inline(always)]
    pub const fn lease(self) -> LeaseId {
        (self.0 >> (24 + MODE_BITS)) as u8 & (MAX_LEASES - 1) as u8
    }

    /// One of those that a backend has to do with; each flow counts once.
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        let state = self.state_byte();
        (state == State::HalfOpen as u8 || state == State::Established as u8) && !self.has(TO_CLIENT)
    }

    #[inline(always)]
    pub const fn backend(self) -> BackendId {
        (self.0 >> 32) as BackendId
    }

    #[inline(always)]
    pub const fn serial(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline(always)]
    pub const fn with_mark(self, mark: u8) -> Self {
        Self(self.0 | (mark as u64) << 16)
    }

    #[inline(always)]
    pub const fn without_mark(self, mark: u8) -> Self {
        Self(self.0 & !((mark as u64) << 16))
    }

    #[inline(always)]
    const fn with_state(self, state: State) -> Self {
        Self(self.0 & !0xff | state as u64)
    }

    /// Both sides have spoken. As all steps, it is taken by what the word is then: others may have taken theirs.
    #[inline(always)]
    pub const fn confirmed(self) -> Self {
        if self.is(State::HalfOpen) {
            self.with_state(State::Established)
        } else {
            self
        }
    }

    /// A RST; of a flow that is over it says nothing new.
    #[inline(always)]
    pub const fn reset(self) -> Self {
        if self.is(State::Closing) || self.is(State::Severed) {
            self
        } else {
            let early = if self.is(State::HalfOpen) { EARLY } else { 0 };
            self.with_mark(RESET | early).with_state(State::Closing)
        }
    }

    /// The RST was not believed.
    #[inline(always)]
    pub const fn revived(self) -> Self {
        if self.is(State::Closing) && self.has(RESET) {
            self.without_mark(RESET | EARLY).with_state(State::HalfOpen)
        } else {
            self
        }
    }

    /// A RST came before it was established, which has not ended otherwise since.
    #[inline(always)]
    pub const fn was_reset_early(self) -> bool {
        self.is(State::Closing) && self.has(RESET) && self.has(EARLY)
    }

    /// Its client tries again.
    #[inline(always)]
    pub const fn reopened(self) -> Self {
        if self.was_reset_early() {
            self.without_mark(FIN_SEEN | ANSWERED | RESET | EARLY | DOUBTED)
                .with_state(State::HalfOpen)
        } else {
            self
        }
    }

    /// FIN from both sides: for good.
    #[inline(always)]
    pub const fn ended(self) -> Self {
        if self.is(State::Severed) {
            self
        } else {
            self.without_mark(RESET | EARLY).with_state(State::Closing)
        }
    }

    /// Of an entry towards the client: both sides have sent a FIN.
    #[inline(always)]
    pub const fn is_ended_towards_client(self) -> bool {
        let marks = (self.0 >> 16) as u8 & (TO_CLIENT | FIN_SEEN | RESET);
        self.is(State::Closing) && marks == TO_CLIENT | FIN_SEEN
    }

    /// Its backend is lost: whatever its packets say, both sides are to hear it.
    #[inline(always)]
    pub const fn severed(self) -> Self {
        self.with_state(State::Severed)
    }

    /// Still the same flow's, whatever state it went to.
    #[inline(always)]
    pub const fn same_tenant(self, other: Self) -> bool {
        (self.0 ^ other.0) >> 48 == 0 && self.is_live() && other.is_live()
    }
}
