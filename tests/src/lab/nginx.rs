//! A real nginx as a backend: says its name in body and header, and has one big file for long transfers.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::topology::backend_addresses;
use super::{Lab, Namespace, Process, Topology, client, poll};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// What `/big` holds: no two places alike, so that a client sees any byte that is lost, doubled or exchanged.
pub static BIG_FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(state)
    };
    std::iter::from_fn(next)
        .take(1 << 19)
        .flat_map(u32::to_be_bytes)
        .collect()
});

pub struct Nginx {
    process: Process,
}

impl Nginx {
    /// Serves on these addresses and calls itself as its namespace is called; returns when it answers.
    pub fn start(lab: &Lab, namespace: &Namespace, addresses: &[SocketAddr]) -> Result<Self> {
        Self::start_numbered(lab, namespace, addresses, 0)
    }

    /// So many of one name, which share the connections to one address.
    pub fn several(lab: &Lab, namespace: &Namespace, address: SocketAddr, count: usize) -> Result<Vec<Self>> {
        (0..count)
            .map(|number| Self::start_numbered(lab, namespace, &[address], number))
            .collect()
    }

    fn start_numbered(lab: &Lab, namespace: &Namespace, addresses: &[SocketAddr], number: usize) -> Result<Self> {
        let name = namespace.role();
        let root = lab.folder().join("www");
        if !root.exists() {
            fs::create_dir(&root)?;
            fs::write(root.join("big"), &*BIG_FILE).context("write the big file")?;
        }
        let folder = lab.folder().join(format!("{name}-nginx{number}"));
        fs::create_dir_all(&folder)?;
        let config = folder.join("nginx.conf");
        let log = lab.folder().join(format!("{name}-nginx{number}.log"));
        fs::write(&config, text(name, addresses, &folder, &root, &log))?;

        let mut command = namespace.command("nginx");
        command
            .arg("-e")
            .arg(&log)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let mut process = Process::spawn(&mut command)?;
        poll::until(READY_WITHIN, || {
            let ended = process.ended()?;
            ensure!(ended.is_none(), "nginx ended at once: {ended:?}");
            let answers = |address: &SocketAddr| client::get(*address, "/").map(|_| ());
            namespace.inside(|| addresses.iter().try_for_each(answers))?
        })
        .with_context(|| format!("start nginx on {addresses:?}"))?;
        Ok(Self { process })
    }

    /// It hangs: its kernel accepts connections, and nobody answers.
    pub fn pause(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// One on each backend of the network, at both of its addresses.
    pub fn on_each(lab: &Lab, net: &Topology) -> Result<Vec<Self>> {
        let backends = net.backends.iter().enumerate();
        backends
            .map(|(index, backend)| Self::start(lab, backend, &backend_addresses(index)))
            .collect()
    }
}

/// One process: it is gone when it is killed, no worker lives on.
fn text(name: &str, addresses: &[SocketAddr], folder: &Path, root: &Path, log: &Path) -> String {
    let (folder, root, log) = (folder.display(), root.display(), log.display());
    let listens: Vec<String> = addresses
        .iter()
        .map(|address| format!("listen {address} backlog=4096 reuseport;"))
        .collect();
    let listens = listens.join(" ");
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
error_log {log} warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    send_timeout 300s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        {listens}
        root {root};
        add_header X-Backend {name};
        location = / {{ return 200 \"{name}\\n\"; }}
    }}
}}
"
    )
}
