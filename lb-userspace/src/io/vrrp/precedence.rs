//! Lets a thread run before others, and the daemon stay in memory: adverts that come late cost the addresses.
//!
//! What the host does not allow is told, and lived without.

use tracing::warn;

/// Of 99; before everything that is no matter of the kernel's own.
const PRIORITY: i32 = 50;

pub fn before_others() {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: of the calling thread, with parameters that outlive the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) } != 0
    {
        let error = std::io::Error::last_os_error();
        warn!(%error, "adverts get no precedence over other work (CAP_SYS_NICE): on a busy host choose a longer interval");
    }
}

pub fn stay_in_memory() {
    // Not what comes: where memory that may be locked is limited, it could not be had at all.
    // SAFETY: pages stay where they are.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) } != 0 {
        let error = std::io::Error::last_os_error();
        warn!(%error, "memory may be swapped out (CAP_IPC_LOCK): on a host that swaps, adverts may be late");
    }
}
