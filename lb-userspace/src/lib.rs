//! Naru's daemon as a library: `core` decides, `io` acts, `daemon` is the loop between them.

// What panics without a thread fails a test, as it should.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod cli;
pub mod core;
pub mod daemon;
pub mod io;
