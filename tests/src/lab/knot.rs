//! A real name server, Knot DNS, with one zone that a case changes as an administrator would.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Lab, Namespace, Process, poll, process};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// Serves the zone `example`.
pub struct Knot<'lab> {
    namespace: &'lab Namespace,
    folder: PathBuf,
    address: SocketAddr,
    serial: u32,
    _process: Process,
}

impl<'lab> Knot<'lab> {
    /// With these records, each a line of a zone file; returns when it answers.
    pub fn start(lab: &Lab, namespace: &'lab Namespace, address: IpAddr, records: &str) -> Result<Self> {
        let folder = lab.folder().join(format!("{}-knot", namespace.role()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("knot.conf");
        fs::write(&config, text(&folder.display().to_string(), address))?;
        fs::write(folder.join("example.zone"), zone(1, records))?;
        let log = lab.folder().join(format!("{}-knot.log", namespace.role()));
        let mut command = namespace.command("knotd");
        command.arg("-c").arg(&config);
        process::log_to(&mut command, &log)?;
        let knot = Self {
            namespace,
            folder,
            address: SocketAddr::new(address, 53),
            serial: 1,
            _process: Process::spawn(&mut command)?,
        };
        poll::until(READY_WITHIN, || knot.control(&["zone-status", "example"])).context("start knotd")?;
        Ok(knot)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other records in the place of all; returns when they are served.
    pub fn serve(&mut self, records: &str) -> Result<()> {
        self.serial += 1;
        fs::write(self.folder.join("example.zone"), zone(self.serial, records))?;
        self.control(&["-b", "zone-reload", "example"])
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.namespace.command("knotc");
        command.arg("-s").arg(self.folder.join("knot.sock")).args(arguments);
        let output = process::output(&mut command)?;
        ensure!(
            output.status.success(),
            "knotc {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// A zone file of `example`.
pub(super) fn zone(serial: u32, records: &str) -> String {
    format!("$ORIGIN example.\n@ 1 SOA ns admin {serial} 60 60 600 1\n@ 1 NS ns\nns 1 A 198.18.0.2\n{records}\n")
}

fn text(folder: &str, address: IpAddr) -> String {
    format!(
        "server:
    rundir: \"{folder}\"
    listen: {address}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: \"{folder}\"
log:
  - target: stderr
    any: info
template:
  - id: default
    storage: \"{folder}\"
    journal-content: none
    zonefile-load: whole
zone:
  - domain: example
    file: example.zone
"
    )
}
