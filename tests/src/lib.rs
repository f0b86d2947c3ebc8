//! Harnesses for the cases that need a network, a kernel or a stopwatch; the cases themselves are in `it/`.

pub mod answers;
pub mod bench;
pub mod lab;
pub mod packets;
pub mod scenario;
pub mod vrrp;
