//! The pure part: events and the time go in, desired state and deadlines come out.
//!
//! No tokio, aya, file, socket, clock or HashMap order here; `cargo xtask arch` refuses them.

pub mod alarm;
pub mod condition;
pub mod config;
pub mod desired;
pub mod dns;
pub mod endings;
pub mod explain;
pub mod fingerprint;
pub mod health;
pub mod interfaces;
pub mod journal;
pub mod keeping;
pub mod kernel;
pub mod members;
pub mod neighbour_tables;
pub mod network;
pub mod next_hops;
pub mod overrides;
pub mod plan;
pub mod rises;
pub mod selection;
pub mod sent_frames;
pub mod sharing;
pub mod status;
pub mod steering;
pub mod sysctls;
pub mod timestamp;
pub mod vrrp;
pub mod world;
pub mod xdp_mode;
