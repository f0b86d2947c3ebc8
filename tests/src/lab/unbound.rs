//! A real recursor with a cache, Unbound, that asks an authority of the lab and nobody else.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Lab, Namespace, Process, dig, process, until};

const READY_WITHIN: Duration = Duration::from_secs(10);

pub struct Unbound<'lab> {
    namespace: &'lab Namespace,
    address: SocketAddr,
    log: PathBuf,
    _process: Process,
}

impl<'lab> Unbound<'lab> {
    /// In front of the authority of the zone `example`, with these lines of its section `server`; returns when it
    /// answers, and then knows of no name but `ns.example`.
    pub fn start(
        lab: &Lab,
        namespace: &'lab Namespace,
        address: IpAddr,
        authority: SocketAddr,
        options: &[&str],
    ) -> Result<Self> {
        let folder = lab.folder().join(format!("{}-unbound", namespace.role()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("unbound.conf");
        let options = options.join("\n    ");
        fs::write(
            &config,
            text(&folder.display().to_string(), address, authority.ip(), &options),
        )?;
        let log = lab.folder().join(format!("{}-unbound.log", namespace.role()));
        let mut command = namespace.command("unbound");
        command.args(["-d", "-c"]).arg(&config);
        process::log_to(&mut command, &log)?;
        let unbound = Self {
            namespace,
            address: SocketAddr::new(address, 53),
            log,
            _process: Process::spawn(&mut command)?,
        };
        until(READY_WITHIN, || unbound.tells("ns.example")).context("start unbound")?;
        Ok(unbound)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a name, and how many seconds it is good for.
    pub fn tells(&self, name: &str) -> Result<(IpAddr, u64)> {
        dig(self.namespace, self.address, name)
    }

    /// How often it was asked for addresses of a name.
    pub fn asked(&self, name: &str) -> Result<usize> {
        let log = fs::read_to_string(&self.log).context("read the log of unbound")?;
        Ok(log.matches(&format!(" {name}. A IN")).count())
    }
}

fn text(folder: &str, address: IpAddr, authority: IpAddr, options: &str) -> String {
    format!(
        "server:
    interface: {address}
    access-control: 198.18.0.0/15 allow
    do-ip6: no
    num-threads: 1
    module-config: \"iterator\"
    directory: \"{folder}\"
    chroot: \"\"
    username: \"\"
    pidfile: \"\"
    do-daemonize: no
    use-syslog: no
    log-queries: yes
    {options}
stub-zone:
    name: \"example\"
    stub-addr: {authority}
"
    )
}
