//! The slot tables: for each service an array of its own in the map of maps `SLOTS`, whole before the program sees it.
//!
//! Decides nothing. A table is never written again; another takes its place. Each has a pin of its own: the kernel
//! lets only CAP_SYS_ADMIN follow the number that the map of maps gives. Tested by `tests/it/packets/slot_tables.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use aya::maps::{Map, MapData};
use lb_common::abi::{BackendId, SLOT_COUNT_CELL, SLOTS_PER_CELL, ServiceId, slot_cell, slot_in};

use super::mapped::{MappedArray, map_data};
use super::syscall::{create_slot_table, inner_map, swap_inner_maps};

const FOLDER: &str = "slot_tables";
/// Tables put at once. Each is an open file until then, of which a process may have 1,024.
const TABLES: usize = 256;
/// Linux 6.1 waits until all running programs have ended, some 20 ms, whenever a table is put in or looked up; 6.12
/// once for each batch put in. Threads wait together.
const THREADS: usize = 32;

pub struct SlotTables {
    outer: Map,
    folder: PathBuf,
    /// Those that were put.
    pinned: BTreeSet<ServiceId>,
}

impl SlotTables {
    pub fn new(outer: Map, pins: &Path) -> Self {
        let folder = pins.join(FOLDER);
        Self {
            outer,
            folder,
            pinned: BTreeSet::new(),
        }
    }

    /// Whether all that were put can be read back, whatever privileges the next daemon has.
    pub fn are_pinned(&self) -> bool {
        self.pinned.iter().all(|id| self.pin(*id).exists())
    }

    /// Services without slots are left out.
    pub fn read(&self, services: &[ServiceId]) -> Result<BTreeMap<ServiceId, Vec<BackendId>>> {
        let of_service = |id: &ServiceId| {
            let slots = self.read_one(*id).transpose()?;
            Some(slots.with_context(|| format!("read the slot table of service {id}")))
        };
        let parts = together(services, |part| {
            part.iter().filter_map(of_service).collect::<Result<Vec<_>>>()
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    fn read_one(&self, id: ServiceId) -> Result<Option<(ServiceId, Vec<BackendId>)>> {
        let Some(number) = inner_map(map_data(&self.outer)?, id.into())? else {
            return Ok(None);
        };
        let slots = slots(&self.open(id, number)?)?;
        Ok((!slots.is_empty()).then_some((id, slots)))
    }

    /// A start that was interrupted may have swapped a table in and not renamed its pin.
    fn open(&self, id: ServiceId, number: u32) -> Result<MapData> {
        for pin in [self.pin(id), self.next_pin(id)] {
            if pin.exists() {
                let table = MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
                if table.info()?.id() == number {
                    return Ok(table);
                }
            }
        }
        MapData::from_id(number).context("it has no pin, and without one only CAP_SYS_ADMIN finds it")
    }

    pub fn put<'a>(&mut self, tables: impl Iterator<Item = (ServiceId, &'a [BackendId])>) -> Result<()> {
        let mut folder = DirBuilder::new();
        let made = folder.recursive(true).mode(0o700).create(&self.folder);
        made.with_context(|| format!("create {}", self.folder.display()))?;
        let outer = map_data(&self.outer)?;
        let mut tables = tables.peekable();
        while tables.peek().is_some() {
            let some = tables.by_ref().take(TABLES);
            let some: Vec<_> = some
                .map(|(id, slots)| Ok((u32::from(id), self.make(id, slots)?)))
                .collect::<Result<_>>()?;
            together(&some, |part| swap_inner_maps(outer, part).context("put slots"))?;
            for (id, _) in &some {
                let (next, pin) = (self.next_pin(*id as ServiceId), self.pin(*id as ServiceId));
                fs::rename(next, &pin).with_context(|| format!("pin {}", pin.display()))?;
                self.pinned.insert(*id as ServiceId);
            }
        }
        Ok(())
    }

    /// Pinned before it is swapped in: what the program sees can always be read back.
    fn make(&self, id: ServiceId, slots: &[BackendId]) -> Result<MapData> {
        let (table, pin) = (table(slots)?, self.next_pin(id));
        if pin.exists() {
            fs::remove_file(&pin).with_context(|| format!("remove {}", pin.display()))?;
        }
        table.pin(&pin).with_context(|| format!("pin {}", pin.display()))?;
        Ok(table)
    }

    fn pin(&self, id: ServiceId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn next_pin(&self, id: ServiceId) -> PathBuf {
        self.folder.join(format!("{id}-next"))
    }
}

/// Works on parts of `items` at the same time, as far as there are threads to be had.
fn together<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> Result<R> + Sync) -> Result<Vec<R>> {
    let (work, size) = (&work, items.len().div_ceil(THREADS).max(1));
    let mut parts = items.chunks(size);
    let own = parts.next();
    thread::scope(|scope| {
        let others: Vec<_> = parts
            .map(|part| {
                let worker = thread::Builder::new().spawn_scoped(scope, move || work(part));
                worker.map_err(|_no_thread| part)
            })
            .collect();
        let mut results: Vec<Result<R>> = own.map(work).into_iter().collect();
        results.extend(others.into_iter().map(|worker| match worker {
            Ok(worker) => worker.join().expect("no part panics"),
            Err(part) => work(part),
        }));
        results.into_iter().collect()
    })
}

fn table(slots: &[BackendId]) -> Result<MapData> {
    let pack = |slots: &[BackendId]| slots.iter().rev().fold(0, |cell, id| cell << 16 | u64::from(*id));
    let cells: Vec<u64> = std::iter::once(slots.len() as u64)
        .chain(slots.chunks(SLOTS_PER_CELL).map(pack))
        .collect();
    let map = create_slot_table(cells.len() as u32)?;
    let memory = MappedArray::<u64>::new(&map)?;
    for (index, cell) in cells.iter().enumerate() {
        let place = memory.get(index).context("fill a slot table")?;
        // SAFETY: within the mapping; no program sees the table yet.
        unsafe { place.write_volatile(*cell) };
    }
    Ok(map)
}

fn slots(table: &MapData) -> Result<Vec<BackendId>> {
    let memory = MappedArray::<u64>::new(table)?;
    // SAFETY: within the mapping; tables are never written again once a program may see them.
    let cell = |index: u32| memory.get(index as usize).map(|cell| unsafe { cell.read_volatile() });
    let count = cell(SLOT_COUNT_CELL).context("find its size")?;
    let slot = |number| Ok(slot_in(cell(slot_cell(number)).context("it is too short")?, number));
    (0..count).map(slot).collect()
}
