//! Naru's daemon as a library: `core` decides, `io` acts, `daemon` is the loop between them.

pub mod cli;
pub mod core;
pub mod daemon;
pub mod io;
