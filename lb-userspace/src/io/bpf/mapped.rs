//! Array maps as memory of ours: BPF_F_MMAPABLE arrays, shared with the XDP program.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use aya::maps::{Map, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

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

/// The map itself, for what the library does not do with it.
pub fn map_data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data) | Map::ArrayOfMaps(data) => Ok(data),
        other => anyhow::bail!("expected an array, found {other:?}"),
    }
}
