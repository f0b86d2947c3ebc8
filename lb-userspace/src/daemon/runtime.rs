//! The runtime under the event loop, and its threads for work that waits for a disk.
//!
//! The first of these is made at the start and stays: without one the runtime would panic later, when the host has no
//! more to give. Tested in `tests/it/lab/scarce.rs`.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{Builder, Runtime};

/// The most that wait at once.
const THREADS: usize = 32;

pub fn build() -> Result<Runtime> {
    let mut runtime = Builder::new_current_thread();
    runtime.max_blocking_threads(THREADS).thread_keep_alive(Duration::MAX);
    runtime.enable_all().build().context("start the event loop")
}

pub async fn have_a_thread() -> Result<()> {
    let nowhere = File::options()
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    // Of all such work a write alone fails, and does not panic, where no thread can be made.
    let written = tokio::fs::File::from_std(nowhere).write_all(b"\n").await;
    written.context("start a thread; is a limit of tasks reached (pids.max, TasksMax, ulimit -u)?")
}
