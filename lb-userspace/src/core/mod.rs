//! The pure part: events and the time go in, desired state and deadlines come out.
//!
//! No tokio, aya, file, socket, clock or HashMap order here; `cargo xtask arch` refuses them.

pub mod config;
pub mod kernel;
pub mod network;
