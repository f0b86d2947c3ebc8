//! Effects: what reads and changes the world outside. They never decide.

pub mod bpf;
pub mod config_file;
pub mod control;
pub mod dns;
pub mod driver_counters;
pub mod flows;
pub mod frames;
pub mod hooks;
pub mod lock_file;
pub mod memory;
pub mod neighbour_tables;
pub mod netlink;
pub mod privileges;
pub mod probes;
pub mod programs;
pub mod random;
pub mod record;
pub mod regular_file;
pub mod secret_files;
pub mod sysctls;
pub mod systemd;
pub mod vrrp;
pub mod watched;
