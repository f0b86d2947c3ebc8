//! Runs one long command and shows that it lives: a line with the seconds on a terminal, plain lines elsewhere.
//!
//! What the command itself says goes to a file, and is shown when it fails.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

const POLL: Duration = Duration::from_millis(100);
/// Seconds between signs of life where there is no terminal.
const PLAIN_EVERY: u64 = 30;
/// Lines of a failed command's own words.
const TAIL: usize = 15;

/// Runs `command` to its end; one that takes longer than `limit` is killed and counts as failed.
pub fn step(what: &str, limit: Duration, command: &mut Command) -> Result<()> {
    let log_path = workspace::tools().join("setup.log");
    fs::create_dir_all(workspace::tools()).context("create .tools")?;
    let log = File::create(&log_path).context("create .tools/setup.log")?;
    let both = log.try_clone().context("share .tools/setup.log")?;
    // Their authors' backtraces are of no use here.
    command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(both)
        .env_remove("RUST_BACKTRACE");

    let mut line = Line::begin(what);
    let status = wait(command, limit, &mut line).with_context(|| what.to_owned())?;
    if status.is_some_and(|status| status.success()) {
        line.end("done");
        return Ok(());
    }
    line.end("failed");
    let said = fs::read(&log_path).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().collect();
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        eprintln!("    {line}");
    }
    match status {
        Some(status) => bail!("{what}: {status}"),
        None => bail!("{what}: gave up after {} s", limit.as_secs()),
    }
}

/// None: killed at the limit.
fn wait(command: &mut Command, limit: Duration, line: &mut Line) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if line.start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        line.tick();
        sleep(POLL);
    }
}

struct Line<'a> {
    what: &'a str,
    start: Instant,
    shown: u64,
    terminal: bool,
}

impl<'a> Line<'a> {
    fn begin(what: &'a str) -> Self {
        let terminal = io::stdout().is_terminal();
        match terminal {
            true => print!("{what} …"),
            false => println!("{what} …"),
        }
        let _ = io::stdout().flush();
        Self {
            what,
            start: Instant::now(),
            shown: 0,
            terminal,
        }
    }

    fn tick(&mut self) {
        let seconds = self.start.elapsed().as_secs();
        let every = if self.terminal { 1 } else { PLAIN_EVERY };
        if seconds < self.shown + every {
            return;
        }
        self.shown = seconds;
        match self.terminal {
            true => print!("\r{} … {seconds} s", self.what),
            false => println!("{} … {seconds} s", self.what),
        }
        let _ = io::stdout().flush();
    }

    fn end(&self, how: &str) {
        let back = if self.terminal { "\r" } else { "" };
        println!(
            "{back}{}: {how} in {:.0} s",
            self.what,
            self.start.elapsed().as_secs_f32()
        );
    }
}
