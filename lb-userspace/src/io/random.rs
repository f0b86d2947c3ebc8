//! Numbers that nobody can foretell, from the kernel: what others draw theirs from.

use anyhow::{Context as _, Result, ensure};
use rustix::rand::{GetRandomFlags, getrandom};

pub fn seed<const BYTES: usize>() -> Result<[u8; BYTES]> {
    let mut seed = [0; BYTES];
    let length = getrandom(&mut seed, GetRandomFlags::empty()).context("ask the kernel for random numbers")?;
    ensure!(length == BYTES, "the kernel gave {length} random bytes");
    Ok(seed)
}
