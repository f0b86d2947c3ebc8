//! What several CPUs may do to one number at once, in the kernel and on the host.

#[cfg(target_arch = "bpf")]
mod here {
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
mod here {
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

pub use here::{add, compare_exchange, load};
