//! What went over a host's link, as tshark reads it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use super::{Lab, Namespace, Process, process, until};

const WITHIN: Duration = Duration::from_secs(20);
/// Sums are looked at, all of them.
const PREFERENCES: [&str; 2] = ["ip.check_checksum:TRUE", "vrrp.v3_checksum_as_in_v2:FALSE"];

pub struct Capture {
    file: PathBuf,
    _process: Process,
}

/// The fields of a frame that were asked for and are there, each with all of its values.
pub type Dissected = Map<String, Value>;

impl Capture {
    /// Of the frames that this filter of pcap lets through; returns when they are being taken down.
    pub fn start(lab: &Lab, host: &Namespace, filter: &str) -> Result<Self> {
        Self::at(lab, host, "eth0", host.role(), filter)
    }

    /// At this interface; `name` is for its files.
    pub fn at(lab: &Lab, host: &Namespace, interface: &str, name: &str, filter: &str) -> Result<Self> {
        let file = lab.folder().join(format!("{name}.pcapng"));
        let log = lab.folder().join(format!("{name}-tshark.log"));
        let mut command = host.command("tshark");
        command.args(["-i", interface, "-f", filter, "-w"]).arg(&file);
        let process = Process::spawn(command.stdout(File::create(&log)?).stderr(File::create(&log)?))?;
        until(WITHIN, || {
            let size = fs::metadata(&file).map_or(0, |file| file.len());
            ensure!(size > 0, "tshark does not listen yet");
            Ok(())
        })?;
        Ok(Self {
            file,
            _process: process,
        })
    }

    /// What there was so far of these fields, frame by frame; a frame takes half a second until it is there.
    pub fn read(&self, lab: &Lab, fields: &[&str]) -> Result<Vec<Dissected>> {
        let mut command = lab.command("tshark");
        command.arg("-r").arg(&self.file).args(["-T", "json"]);
        for preference in PREFERENCES {
            command.args(["-o", preference]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let frames: Vec<Value> = serde_json::from_str(&process::stdout(&mut command)?).context("read tshark")?;
        let layers = frames
            .iter()
            .map(|frame| frame["_source"]["layers"].as_object().cloned());
        layers.map(|layers| layers.context("a frame has layers")).collect()
    }
}
