//! The slot tables: for each service an array of its own in the map of maps `SLOTS`, whole before the program sees it.
//!
//! Decides nothing. A table is never written again; another takes its place.
//! Tested by `tests/it/packets/slot_tables.rs`.

use std::collections::BTreeMap;
use std::thread;

use anyhow::{Context, Result};
use aya::maps::{ArrayOfMaps, Map, MapData};
use lb_common::abi::{BackendId, SLOT_COUNT_CELL, SLOTS_PER_CELL, ServiceId, slot_cell, slot_in};

use super::mapped::{MappedArray, map_data};
use super::syscall::{create_slot_table, swap_inner_maps};

/// Tables put at once. Each is an open file until then, of which a process may have 1,024.
const TABLES: usize = 256;
/// Linux 6.1 waits until all running programs have ended, some 20 ms, whenever a table is put in or looked up; 6.12
/// once for each batch put in. Threads wait together.
const THREADS: usize = 32;

pub struct SlotTables(pub Map);

impl SlotTables {
    /// Services without slots are left out.
    pub fn read(&self, services: &[ServiceId]) -> Result<BTreeMap<ServiceId, Vec<BackendId>>> {
        let outer = ArrayOfMaps::<_, MapData>::try_from(&self.0)?;
        let of_service = |id: &ServiceId| {
            let table = outer.get(&u32::from(*id), 0).ok()?;
            let slots = slots(&table).transpose()?;
            Some(slots.map(|slots| (*id, slots)))
        };
        let parts = together(services, |part| {
            part.iter().filter_map(of_service).collect::<Result<Vec<_>>>()
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    pub fn put<'a>(&mut self, tables: impl Iterator<Item = (ServiceId, &'a [BackendId])>) -> Result<()> {
        let outer = map_data(&self.0)?;
        let mut tables = tables.peekable();
        while tables.peek().is_some() {
            let some = tables.by_ref().take(TABLES);
            let some: Vec<_> = some
                .map(|(id, slots)| Ok((u32::from(id), table(slots)?)))
                .collect::<Result<_>>()?;
            together(&some, |part| swap_inner_maps(outer, part).context("put slots"))?;
        }
        Ok(())
    }
}

/// Works on parts of `items` at the same time.
fn together<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> Result<R> + Sync) -> Result<Vec<R>> {
    let (work, size) = (&work, items.len().div_ceil(THREADS).max(1));
    thread::scope(|scope| {
        let parts: Vec<_> = items.chunks(size).map(|part| scope.spawn(move || work(part))).collect();
        parts
            .into_iter()
            .map(|part| part.join().expect("no part panics"))
            .collect()
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

/// None for a table without slots.
fn slots(table: &MapData) -> Result<Option<Vec<BackendId>>> {
    let memory = MappedArray::<u64>::new(table)?;
    // SAFETY: within the mapping; tables are never written again once a program may see them.
    let cell = |index: u32| memory.get(index as usize).map(|cell| unsafe { cell.read_volatile() });
    let count = cell(SLOT_COUNT_CELL).context("read a slot table")?;
    let slot = |number| Ok(slot_in(cell(slot_cell(number)).context("read a slot")?, number));
    let slots = (0..count).map(slot).collect::<Result<Vec<_>>>()?;
    Ok((!slots.is_empty()).then_some(slots))
}
