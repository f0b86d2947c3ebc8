//! What the program tells of backends while it serves: read from its ring, by whoever waits for it.

use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result, anyhow};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use lb_common::signs::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub struct Signs(RingBuf<MapData>);

impl Signs {
    /// Only the first who asks gets them.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self> {
        let map = object.take_map("SIGNS").context("find map SIGNS in the object")?;
        Ok(Self(RingBuf::try_from(map)?))
    }
}

impl Iterator for Signs {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        let item = self.0.next()?;
        let bytes = item
            .first_chunk()
            .expect("INVARIANT: the program tells nothing shorter");
        Some(Signal(u32::from_ne_bytes(*bytes)))
    }
}

impl AsRawFd for Signs {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// For the event loop.
pub struct AwaitedSigns(AsyncFd<Signs>);

impl AwaitedSigns {
    pub fn new(signs: Signs) -> Result<Self> {
        // SAFETY: the descriptor is the ring's own, and stays the same for as long as the ring is there.
        let awaited = unsafe { AsyncFd::register_with_interest(signs, Interest::READABLE) };
        awaited.map(Self).map_err(|error| anyhow!("wait for signs: {error}"))
    }

    /// Cancel safe.
    pub async fn seen(&mut self) -> Vec<Signal> {
        match self.0.readable_mut().await {
            Ok(mut ready) => {
                let signals = ready.get_inner_mut().collect();
                ready.clear_ready();
                signals
            }
            // It fails where the runtime ends, and then nobody waits.
            Err(_) => std::future::pending().await,
        }
    }
}
