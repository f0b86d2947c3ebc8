//! Array maps as memory of ours: BPF_F_MMAPABLE arrays, shared with the XDP program.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::syscall::create_slot_table;

/// The elements of an array map. Others change them at any time: only raw pointers are given out.
pub struct MappedArray<T> {
    start: NonNull<T>,
    length: usize,
    bytes: usize,
    element: PhantomData<T>,
}

// SAFETY: an address range of a shared mapping; whoever dereferences answers for the sharing.
unsafe impl<T> Send for MappedArray<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for MappedArray<T> {}

impl<T> MappedArray<T> {
    /// Maps all of `map`, whose values are a multiple of eight bytes.
    pub fn new(map: &MapData) -> Result<Self> {
        let length = map.info()?.max_entries() as usize;
        let bytes = (length * size_of::<T>()).next_multiple_of(rustix::param::page_size());
        // SAFETY: a new shared mapping; nothing that exists is touched.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .context("map an array into memory")?;
        let start = NonNull::new(start.cast()).context("map an array at a usable address")?;
        Ok(Self {
            start,
            length,
            bytes,
            element: PhantomData,
        })
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn get(&self, index: usize) -> Option<*mut T> {
        // SAFETY: within the mapping.
        (index < self.length).then(|| unsafe { self.start.as_ptr().add(index) })
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping; pointers given out live no longer than what they were taken from.
        let _unmapped_at_exit_anyway = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A new array of u64 that may become an inner map of `SLOTS`, holding `cells`.
pub fn slot_table(cells: &[u64]) -> Result<MapData> {
    let map = create_slot_table(cells.len() as u32)?;
    let memory = MappedArray::<u64>::new(&map)?;
    for (index, cell) in cells.iter().enumerate() {
        let place = memory.get(index).context("fill a slot table")?;
        // SAFETY: within the mapping; no program sees the table yet.
        unsafe { place.write_volatile(*cell) };
    }
    Ok(map)
}

/// What a slot table holds.
pub fn cells(map: &MapData) -> Result<Vec<u64>> {
    let memory = MappedArray::<u64>::new(map)?;
    // SAFETY: within the mapping; tables are never written again once a program may see them.
    Ok((0..memory.length())
        .filter_map(|index| memory.get(index))
        .map(|cell| unsafe { cell.read_volatile() })
        .collect())
}
