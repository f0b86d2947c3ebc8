//! What the program tells of flows it refused: brought into the daemon's own log, where that is for debugging.
//!
//! On a thread of its own: a flood of refusals must not keep the daemon from its work. What the thread is too slow for,
//! the kernel leaves out.

use std::thread;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, poll};

/// The program's own level: all that it can tell, or nothing.
pub fn level() -> u8 {
    if is_wanted() { aya_log::Level::Debug as u8 } else { 0 }
}

fn is_wanted() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// To be called once the program is loaded, which needs the map that this takes.
pub fn listen(object: &mut Ebpf) -> Result<()> {
    if !is_wanted() {
        return Ok(());
    }
    let logger = EbpfLogger::init_with_logger(object, ToTracing).context("read what the XDP program tells")?;
    let listen = thread::Builder::new().name("told".into());
    listen
        .spawn(|| forward(logger))
        .context("start the thread that reads it")?;
    Ok(())
}

fn forward(mut logger: EbpfLogger<ToTracing>) {
    while poll(&mut [PollFd::new(&logger, PollFlags::IN)], None).is_ok() {
        logger.flush();
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!("refused a flow: {}", record.args());
    }

    fn flush(&self) {}
}
