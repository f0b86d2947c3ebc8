//! Loads and stores of memory that several CPUs and the daemon use at once, in the kernel and on the host: of words, which
//! change by atomics only, and of the fields that a word guards.
//!
//! Unit tests have `flow_table::schedules::shared` in this place, where another CPU may go first before each of them.

#[cfg(target_arch = "bpf")]
mod words {
    use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

    /// # Safety
    /// `at` is valid and aligned, and others change it by atomics only.
    #[inline(always)]
    pub unsafe fn load(at: *mut u64) -> u64 {
        // SAFETY: the caller's. An aligned 64-bit load is one instruction.
        unsafe { at.read_volatile() }
    }

    /// # Safety
    /// As `load`.
    #[inline(always)]
    pub unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> bool {
        // SAFETY: the caller's.
        unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, old, new).1 }
    }

    /// # Safety
    /// As `load`.
    #[inline(always)]
    pub unsafe fn add(at: *mut u64, number: u64) {
        // SAFETY: the caller's. What it was before is known to newer BPF instructions only.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(at, number) };
    }
}

#[cfg(not(target_arch = "bpf"))]
mod words {
    use core::sync::atomic::{AtomicU64, Ordering};

    /// # Safety
    /// `at` is valid and aligned, and others change it by atomics only.
    pub unsafe fn load(at: *mut u64) -> u64 {
        // SAFETY: the caller's.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }

    /// # Safety
    /// As `load`.
    pub unsafe fn compare_exchange(at: *mut u64, old: u64, new: u64) -> bool {
        // SAFETY: the caller's.
        unsafe { AtomicU64::from_ptr(at) }
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// # Safety
    /// As `load`.
    pub unsafe fn add(at: *mut u64, number: u64) {
        // SAFETY: the caller's.
        unsafe { AtomicU64::from_ptr(at) }.fetch_add(number, Ordering::SeqCst);
    }
}

pub use words::{add, compare_exchange, load};

/// # Safety
/// `at` is valid and aligned.
#[inline(always)]
pub unsafe fn read<T: Copy>(at: *const T) -> T {
    // SAFETY: the caller's.
    unsafe { at.read() }
}

/// For what is read a piece at a time, when it is needed.
///
/// # Safety
/// As `read`, for as long as the reference lives.
#[inline(always)]
pub unsafe fn borrow<'a, T: Copy>(at: *const T) -> &'a T {
    // SAFETY: the caller's.
    unsafe { &*at }
}

/// # Safety
/// As `read`, and nobody else believes what is there.
#[inline(always)]
pub unsafe fn write<T: Copy>(at: *mut T, value: T) {
    // SAFETY: the caller's.
    unsafe { at.write(value) }
}

/// Of what others look at and write just now.
///
/// # Safety
/// As `read`.
#[inline(always)]
pub unsafe fn write_live<T: Copy>(at: *mut T, value: T) {
    // SAFETY: the caller's.
    unsafe { at.write_volatile(value) }
}
