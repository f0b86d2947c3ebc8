//! Sends announcements one after the other, each several times: switches drop bursts, and adverts must not wait.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::core::vrrp::settings::Address;
use crate::io::frames::Frames;

/// From the first.
const REPEATED_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];
/// So many frames, and then whoever waits has its turn.
const AT_ONCE: usize = 64;

pub struct Announcer {
    frames: Frames,
    /// In the order in which they are due.
    due: VecDeque<Due>,
}

struct Due {
    at: Instant,
    ifindex: u32,
    address: IpAddr,
    frame: Vec<u8>,
}

impl Announcer {
    pub const fn new(frames: Frames) -> Self {
        Self {
            frames,
            due: VecDeque::new(),
        }
    }

    pub fn announce(&mut self, ifindex: u32, frames: &[(IpAddr, Vec<u8>)], now: Instant) {
        for after in REPEATED_AFTER {
            let at = now + after;
            let place = self.due.partition_point(|due| due.at <= at);
            for (offset, (address, frame)) in frames.iter().enumerate() {
                let due = Due {
                    at,
                    ifindex,
                    address: *address,
                    frame: frame.clone(),
                };
                self.due.insert(place + offset, due);
            }
        }
    }

    /// They are gone from here.
    pub fn forget(&mut self, addresses: &[Address]) {
        self.due
            .retain(|due| !addresses.iter().any(|gone| gone.address == due.address));
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.due.front().map(|due| due.at)
    }

    pub fn send_due(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            if self.deadline().is_none_or(|due| due > now) {
                return;
            }
            let Some(Due { ifindex, frame, .. }) = self.due.pop_front() else {
                return;
            };
            if let Err(error) = self.frames.send(ifindex, &frame) {
                debug!(ifindex, %error, "cannot announce an address; it is announced again");
            }
        }
    }
}
