//! The programs that the first one calls, and the table by which it finds them.
//!
//! Each start has a table of its own, so that an older program goes on with the stages it was made for. The kernel
//! empties such a table when nobody holds it any more: the pin does while no daemon runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::ProgramArray;
use lb_common::stage::Stage;

use super::pins::Pins;
use super::{PROGRAM, program_named};

pub const MAP: &str = "STAGES";
/// Of a start that has not replaced the older program everywhere yet.
const NEXT: &str = "STAGES-NEXT";

pub fn load(object: &mut Ebpf) -> Result<()> {
    let mut stages = Vec::new();
    for stage in Stage::ALL {
        let program = program_named(object, stage.name());
        program
            .load()
            .with_context(|| format!("load the XDP program {} into the kernel", stage.name()))?;
        stages.push((stage, program.fd()?.try_clone()?));
    }
    let map = object.map_mut(MAP).context("find the table of stages in the object")?;
    let mut table = ProgramArray::try_from(map)?;
    for (stage, program) in &stages {
        table
            .set(*stage as u32, program, 0)
            .with_context(|| format!("put {} into its table", stage.name()))?;
    }
    program_named(object, PROGRAM)
        .load()
        .context("load the XDP program into the kernel")
}

/// Before the program goes anywhere.
pub fn pin_next(object: &Ebpf, pins: &Pins) -> Result<()> {
    let next = next(pins);
    if next.exists() {
        fs::remove_file(&next).with_context(|| format!("remove {}", next.display()))?;
    }
    let table = object.map(MAP).context("find the table of stages in the object")?;
    table.pin(&next).with_context(|| format!("pin {}", next.display()))
}

/// Once no interface has an older program.
pub fn pin(pins: &Pins) -> Result<()> {
    let path = pins.map(MAP);
    fs::rename(next(pins), &path).with_context(|| format!("pin {}", path.display()))
}

fn next(pins: &Pins) -> PathBuf {
    pins.map(NEXT)
}
