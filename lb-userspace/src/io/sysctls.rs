//! Reads settings of the kernel, of the network namespace of the daemon. Changes none.

use std::fs;

use crate::core::sysctls::Sysctl;

/// None: the kernel has no such setting, or it is no number.
pub fn read(sysctl: &Sysctl<'_>) -> Option<u32> {
    let told = fs::read_to_string(sysctl.path()).ok()?;
    told.trim().parse().ok()
}
