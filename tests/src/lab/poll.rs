//! Waiting for something to become true: asked again and again until a deadline, never slept through.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const EVERY: Duration = Duration::from_millis(20);

/// The first answer of `probe`; at the deadline the error is what the last question met.
pub fn until<T>(within: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match probe() {
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("still so after {within:?}"));
            }
            Err(_) => thread::sleep(EVERY),
            done => return done,
        }
    }
}

/// As `until`, for a plain question; `else_error` says what is wrong as long as the answer is no.
pub fn until_true(within: Duration, else_error: &str, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    until(within, || if probe()? { Ok(()) } else { bail!("{else_error}") })
}
