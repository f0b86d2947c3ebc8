//! What the kernel's side and the daemon share; `no_std`, no allocation, no clock, no log.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod verdict;
pub mod wire;
