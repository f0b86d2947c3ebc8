//! What the kernel's side and the daemon share; `no_std`, no allocation, no clock, no log.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod answer;
pub mod checksum;
pub mod decide;
pub mod family;
pub mod flow_table;
pub mod forward;
pub mod frame;
pub mod icmp;
pub mod lease;
pub mod lifetime;
pub mod neighbours;
pub mod open;
pub mod parse;
pub mod port_rest;
pub mod ports;
pub mod rewrite;
#[cfg(not(test))]
pub mod shared;
pub mod signs;
pub mod stage;
pub mod steer;
pub mod timestamps;
pub mod unusual;
pub mod verdict;
pub mod wire;

#[cfg(test)]
use flow_table::schedules::shared;
