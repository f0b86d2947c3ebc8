//! The real daemon on a node of the lab, and its command line, used as an operator would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_common::abi::LAYOUT_VERSION;
use rustix::process::Signal;
use serde_json::Value;

use super::{Lab, Namespace, Process, poll, process};

const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// One installation: a configuration file, a run folder and a pin folder, all of the lab. Drop ends the daemon and
/// removes the pins, and with them the program.
pub struct Naru<'lab> {
    node: &'lab Namespace,
    config: PathBuf,
    run_folder: PathBuf,
    pin_folder: PathBuf,
    log: PathBuf,
    status_log: PathBuf,
    daemon: Option<Process>,
}

/// How a run ended that was not to last.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    /// Everything it said.
    pub log: String,
}

impl<'lab> Naru<'lab> {
    /// Writes the configuration, completed by the lab's folders and native XDP, and starts nothing yet.
    pub fn new(lab: &Lab, node: &'lab Namespace, config: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", node.role(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = lab.folder().join(&name);
        fs::create_dir(&folder)?;
        let naru = Self {
            node,
            config: folder.join("naru.toml"),
            run_folder: folder.join("run"),
            pin_folder: lab.pin_folder(node.role()),
            log: lab.folder().join(format!("{name}-naru.log")),
            status_log: lab.folder().join(format!("{name}-status.log")),
            daemon: None,
        };
        naru.save(config)?;
        Ok(naru)
    }

    /// The daemon up and serving.
    pub fn run(lab: &Lab, node: &'lab Namespace, config: &str) -> Result<Self> {
        let mut naru = Self::new(lab, node, config)?;
        naru.start()?;
        Ok(naru)
    }

    pub fn start(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "naru runs already");
        let mut command = self.daemon_command()?;
        self.daemon = Some(Process::spawn(&mut command)?);
        poll::until(READY_WITHIN, || self.status().map(|_| ())).context("wait for naru to be ready")
    }

    /// For runs that must fail: waits for the end.
    pub fn run_to_end(&self) -> Result<Ended> {
        self.run_to_end_as(self.daemon_command()?)
    }

    /// As `run_to_end`, by a command made from `daemon_command`.
    pub fn run_to_end_as(&self, mut command: Command) -> Result<Ended> {
        let before = fs::read_to_string(&self.log).unwrap_or_default().len();
        let status = Process::spawn(&mut command)?
            .wait(READY_WITHIN)
            .context("wait for naru to give up")?;
        let log = fs::read_to_string(&self.log)?;
        Ok(Ended {
            code: status.code(),
            log: log[before..].to_owned(),
        })
    }

    /// `naru run`, in the node's namespace.
    pub fn daemon_command(&self) -> Result<Command> {
        let mut command = self.node.command(binary()?);
        command.args(["run", "--config"]).arg(&self.config);
        process::log_to(&mut command, &self.log)?;
        Ok(command)
    }

    /// As `daemon_command`, behind another program that becomes it (`setpriv …`).
    pub fn daemon_command_behind(&self, program: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.node.command(program);
        command
            .args(arguments)
            .arg(binary()?)
            .args(["run", "--config"])
            .arg(&self.config);
        process::log_to(&mut command, &self.log)?;
        Ok(command)
    }

    /// Takes over a daemon started by a command made from `daemon_command`.
    pub fn adopt(&mut self, daemon: Process) -> Result<()> {
        self.daemon = Some(daemon);
        poll::until(READY_WITHIN, || self.status().map(|_| ())).context("wait for naru to be ready")
    }

    /// What `naru ARGUMENTS` answers, whatever its exit code.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        process::output(
            self.node
                .command(binary()?)
                .args(arguments)
                .env("NARU_SOCKET", self.socket()),
        )
    }

    /// As `cli`, for what must succeed.
    pub fn tell(&self, arguments: &[&str]) -> Result<String> {
        process::stdout(
            self.node
                .command(binary()?)
                .args(arguments)
                .env("NARU_SOCKET", self.socket()),
        )
    }

    /// `naru status --json`.
    pub fn status(&self) -> Result<Value> {
        self.document("status")
    }

    /// `naru vrrp --json`.
    pub fn vrrp(&self) -> Result<Value> {
        self.document("vrrp")
    }

    fn document(&self, command: &str) -> Result<Value> {
        let text = self.tell(&[command, "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("read {command} {text:?}"))
    }

    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Where the maps and links of this layout are.
    pub fn pins(&self) -> PathBuf {
        self.pin_folder().join(format!("v{LAYOUT_VERSION}"))
    }

    pub fn pin_folder(&self) -> &Path {
        &self.pin_folder
    }

    pub fn socket(&self) -> PathBuf {
        self.run_folder.join("naru.sock")
    }

    /// What operators said, as the daemon keeps it.
    pub fn record(&self) -> PathBuf {
        self.run_folder.join("overrides.json")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn process_id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Process::id)
    }

    pub fn config(&self) -> Result<String> {
        fs::read_to_string(&self.config).context("read the configuration")
    }

    /// Writes another configuration into the live file, as many editors do; completed by the lab's folders where it
    /// does not say its own.
    pub fn save(&self, text: &str) -> Result<()> {
        fs::write(&self.config, self.complete(text)).context("write the configuration")
    }

    /// As `save`, by a new file in place of the old, as tools do.
    pub fn replace(&self, text: &str) -> Result<()> {
        let new = self.config.with_extension("new");
        fs::write(&new, self.complete(text)).context("write the new configuration")?;
        fs::rename(&new, &self.config).context("rename the new configuration")
    }

    fn complete(&self, text: &str) -> String {
        // Most networks of the lab are made for native XDP; what `auto` finds on others is tried in `lab::devices`.
        let own = [
            ("run_dir", format!("{:?}", self.run_folder)),
            ("pin_dir", format!("{:?}", self.pin_folder)),
            ("xdp", "\"native\"".to_owned()),
        ];
        let missing = own.iter().filter(|(key, _)| !text.contains(&format!("{key} =")));
        let keys: String = missing.map(|(key, value)| format!("{key} = {value}\n")).collect();
        // At the end, or below the case's own header: lines of the case keep their numbers up to there.
        match text.find("[node]\n") {
            Some(header) => {
                let (before, after) = text.split_at(header + "[node]\n".len());
                format!("{before}{keys}{after}")
            }
            None => format!("{text}\n[node]\n{keys}"),
        }
    }

    /// Replaces text in the live configuration, as an editor does.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let text = self.config()?;
        ensure!(text.contains(from), "the configuration has no {from:?}");
        self.save(&text.replace(from, to))
    }

    /// Ends the daemon as a crash does.
    /// It hangs, in the midst of whatever it did.
    pub fn pause(&self) -> Result<()> {
        self.daemon.as_ref().context("naru runs")?.signal(Signal::STOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.daemon.as_ref().context("naru runs")?.signal(Signal::CONT)
    }

    pub fn kill9(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("naru does not run")?;
        daemon.signal(Signal::KILL)?;
        drop(daemon);
        Ok(())
    }

    /// Ends the daemon as a service manager does; its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        let mut daemon = self.daemon.take().context("naru does not run")?;
        daemon.signal(Signal::TERM)?;
        Ok(daemon.wait(STOPS_WITHIN)?.code())
    }

    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    pub fn still_runs(&mut self) -> Result<()> {
        match self.daemon.as_mut().map(Process::ended).transpose()? {
            Some(None) => Ok(()),
            ended => bail!("naru ended: {ended:?}"),
        }
    }
}

impl Drop for Naru<'_> {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            // For the case that fails; shown with the other logs.
            let told = || -> Result<String> {
                let verdicts = self.status()?;
                let text = self.tell(&["status"])?;
                Ok(format!(
                    "{text}drops {}\npasses {}\n",
                    verdicts["drops"], verdicts["passes"]
                ))
            };
            let _ = fs::write(&self.status_log, told().unwrap_or_else(|error| format!("{error:#}")));
            drop(daemon);
        }
        let _ = fs::remove_dir_all(&self.pin_folder);
    }
}

/// The program under test, built with the tests from the very library that `naru` is.
fn binary() -> Result<PathBuf> {
    built("naru-under-test")
}

/// A program of this crate, in the folder of this one.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().context("find this program's folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    let program = folder.join(name);
    ensure!(
        program.exists(),
        "{} is missing: cargo build -p lb-tests",
        program.display()
    );
    Ok(program)
}
