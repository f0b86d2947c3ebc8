//! Frames through the XDP program: built by name, run by BPF_PROG_TEST_RUN, compared byte for byte with what was
//! expected and with what the same code decides on the host.

mod builder;
mod cut;
mod generator;
pub mod laws;
mod model;
mod notes;
mod runner;
mod tables;
pub mod world;

pub use builder::{Builder, Extension, Protocol, packet};
pub use cut::{cut, shorten};
pub use generator::{Generator, Random};
pub use model::Model;
pub use runner::{Action, Outcome, Runner, now_ns};
