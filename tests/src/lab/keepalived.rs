//! keepalived on a node of the lab: a peer of Naru's, and what it is measured beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{Lab, Namespace, Process, process, until_true};

const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Words of its log when it hears what it does not understand.
const COMPLAINTS: [&str; 8] = [
    "checksum",
    "invalid",
    "bogus",
    "mismatch",
    "incorrect",
    "ignor",
    "unknown",
    "expected",
];

pub struct Keepalived {
    config: PathBuf,
    log: PathBuf,
    vrrp_pid: PathBuf,
    process: Process,
}

impl Keepalived {
    /// Its VRRP alone. One that was started on this node before is to have ended.
    pub fn start(lab: &Lab, node: &Namespace, config: &str) -> Result<Self> {
        let file = |end: &str| lab.folder().join(format!("{}-keepalived.{end}", node.role()));
        let (path, log, vrrp_pid) = (file("conf"), file("log"), file("vrrp-pid"));
        fs::write(&path, config).context("write the keepalived configuration")?;
        let mut command = node.command("keepalived");
        command
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"])
            .arg(&path)
            .arg("--pid")
            .arg(file("pid"))
            .arg("--vrrp_pid")
            .arg(&vrrp_pid);
        process::log_to(&mut command, &log)?;
        let process = Process::spawn(&mut command)?;
        Ok(Self {
            config: path,
            log,
            vrrp_pid,
            process,
        })
    }

    /// Another configuration, without an end of it.
    pub fn reload(&self, config: &str) -> Result<()> {
        fs::write(&self.config, config).context("write the keepalived configuration")?;
        self.process.signal(Signal::HUP)
    }

    /// All of its processes, and its addresses stay in the kernel.
    pub fn kill(&mut self) -> Result<()> {
        let child = fs::read_to_string(&self.vrrp_pid).context("read which process does VRRP")?;
        self.process.kill_all()?;
        // Its parent is dead, so somebody else has to see its end; until then the next one would not start.
        let child = Path::new("/proc").join(child.trim());
        until_true(ENDS_WITHIN, "a process of keepalived is left", || Ok(!child.exists()))
    }

    pub fn pause(&self) -> Result<()> {
        self.process.pause_all()
    }

    /// Told to end, and not waited for.
    pub fn stop(&self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// The lines of its log that say that an advert was not as it should be.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(&self.log).context("read the log of keepalived")?;
        let complains = |line: &&str| {
            let line = line.to_lowercase();
            COMPLAINTS.iter().any(|word| line.contains(word))
        };
        Ok(log.lines().filter(complains).map(str::to_owned).collect())
    }
}
