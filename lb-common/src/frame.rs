//! A frame in memory: every read and write within its bounds, in network order as it lies there.
//!
//! Offsets are bytes from the start of the Ethernet header. What they mean is for `parse`.

use core::marker::PhantomData;

use crate::wire::{Be16, Be32, Ip};

pub trait Frame {
    /// Whether it has so many bytes, also where not all of them are at hand (jumbo frames in several buffers).
    fn holds(&self, bytes: usize) -> bool;
    /// Where the byte `at` lies, with all of `length` bytes from there within the frame.
    fn bytes(&self, at: usize, length: usize) -> Option<*mut u8>;
    /// Cuts off what is beyond `length`; a shorter frame is filled up with anything.
    fn truncate(&mut self, length: usize) -> Option<()>;
    /// Puts `bytes` of anything before the first.
    fn grow_front(&mut self, bytes: usize) -> Option<()>;

    /// Makes room of `bytes` at the offset `to`: what is between `from` and there moves to the front. Offsets are even.
    #[inline(always)]
    fn make_room(&mut self, from: usize, to: usize, bytes: usize) -> Option<()> {
        self.grow_front(bytes)?;
        let mut at = from;
        while at < to {
            let word: u16 = self.read(bytes + at)?;
            self.write(at, word)?;
            at += 2;
        }
        Some(())
    }

    /// None where the frame ends before `at + size_of::<T>()`.
    #[inline(always)]
    fn read<T: Field>(&self, at: usize) -> Option<T> {
        let bytes = self.bytes(at, size_of::<T>())?;
        // SAFETY: within the frame.
        Some(unsafe { load(bytes) })
    }

    /// The same bound; nothing is written then.
    #[inline(always)]
    fn write<T: Field>(&mut self, at: usize, value: T) -> Option<()> {
        let bytes = self.bytes(at, size_of::<T>())?;
        // SAFETY: within the frame, which is ours.
        unsafe { store(bytes, value) };
        Some(())
    }

    /// A whole header at once: one check instead of one for each field.
    #[inline(always)]
    fn window<const N: usize>(&self, at: usize) -> Option<Window<'_, N>> {
        let start = self.bytes(at, N)?;
        Some(Window {
            start,
            frame: PhantomData,
        })
    }

    #[inline(always)]
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<WindowMut<'_, N>> {
        let start = self.bytes(at, N)?;
        Some(WindowMut {
            start,
            frame: PhantomData,
        })
    }
}

/// `N` bytes of a frame. Offsets within it are constants, so their checks vanish.
pub struct Window<'f, const N: usize> {
    start: *const u8,
    frame: PhantomData<&'f u8>,
}

impl<const N: usize> Window<'_, N> {
    #[inline(always)]
    pub fn read<T: Field>(&self, at: usize) -> T {
        assert!(at + size_of::<T>() <= N, "a field within its header");
        // SAFETY: within the frame.
        unsafe { load(self.start.add(at)) }
    }
}

pub struct WindowMut<'f, const N: usize> {
    start: *mut u8,
    frame: PhantomData<&'f mut u8>,
}

impl<const N: usize> WindowMut<'_, N> {
    #[inline(always)]
    pub fn read<T: Field>(&self, at: usize) -> T {
        assert!(at + size_of::<T>() <= N, "a field within its header");
        // SAFETY: within the frame.
        unsafe { load(self.start.add(at)) }
    }

    #[inline(always)]
    pub fn write<T: Field>(&mut self, at: usize, value: T) {
        assert!(at + size_of::<T>() <= N, "a field within its header");
        // SAFETY: within the frame, which is ours while this lives.
        unsafe { store(self.start.add(at), value) }
    }
}

// A field may lie at an odd multiple of two. The kernels we run on allow that for packet memory (x86-64, arm64), and
// there a load that claims less alignment is compiled to one load for each byte.

/// # Safety
/// A `T` may be read there.
#[inline(always)]
unsafe fn load<T: Field>(at: *const u8) -> T {
    // SAFETY: the caller's; any bytes are a `Field`.
    unsafe {
        if cfg!(target_arch = "bpf") {
            at.cast::<T>().read()
        } else {
            at.cast::<T>().read_unaligned()
        }
    }
}

/// # Safety
/// A `T` may be written there.
#[inline(always)]
unsafe fn store<T: Field>(at: *mut u8, value: T) {
    // SAFETY: the caller's.
    unsafe {
        if cfg!(target_arch = "bpf") {
            at.cast::<T>().write(value);
        } else {
            at.cast::<T>().write_unaligned(value);
        }
    }
}

/// What may be read from and written to a frame at any address.
///
/// # Safety
/// Any bytes are a valid value, and there is no padding.
pub unsafe trait Field: Copy {}
// SAFETY: integers, and structs of integers without padding.
unsafe impl Field for u8 {}
// SAFETY: as above.
unsafe impl Field for u16 {}
// SAFETY: as above.
unsafe impl Field for u32 {}
// SAFETY: as above.
unsafe impl Field for Be16 {}
// SAFETY: as above.
unsafe impl Field for Be32 {}
// SAFETY: as above.
unsafe impl Field for Ip {}
