//! VRRP without a network: several nodes of pure core on wires made of plain values.
//!
//! `net` moves time and adverts and sees who serves what, `stage` plays stories on it, `laws` is what the fuzzer looks for.

pub mod laws;
pub mod net;
pub mod stage;
pub mod words;
