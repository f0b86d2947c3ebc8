//! A real name server, BIND: an authority whose zone is updated while it serves it, or a recursor that asks another.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::knot::zone;
use super::{Lab, Namespace, Process, dig, process, until};

const READY_WITHIN: Duration = Duration::from_secs(10);

pub struct Bind<'lab> {
    namespace: &'lab Namespace,
    address: SocketAddr,
    _process: Process,
}

impl<'lab> Bind<'lab> {
    /// Of the zone `example`, with these records, each a line of a zone file; returns when it answers.
    pub fn authority(lab: &Lab, namespace: &'lab Namespace, address: IpAddr, records: &str) -> Result<Self> {
        let section = "zone \"example\" {
    type primary;
    file \"example.zone\";
    allow-update { 198.18.0.0/15; };
};";
        Self::start(lab, namespace, address, &zone(1, records), "recursion no;", section)
    }

    /// Asks the authority of that zone, and nobody else.
    pub fn recursor(lab: &Lab, namespace: &'lab Namespace, address: IpAddr, authority: SocketAddr) -> Result<Self> {
        let authority = authority.ip();
        let options = format!("allow-recursion {{ any; }};\n    forward only;\n    forwarders {{ {authority}; }};");
        Self::start(lab, namespace, address, "", &options, "")
    }

    fn start(
        lab: &Lab,
        namespace: &'lab Namespace,
        address: IpAddr,
        zone: &str,
        options: &str,
        section: &str,
    ) -> Result<Self> {
        let name = format!("{}-bind-{address}", namespace.role());
        let folder = lab.folder().join(&name);
        fs::create_dir_all(&folder)?;
        let config = folder.join("named.conf");
        fs::write(&config, text(&folder.display().to_string(), address, options, section))?;
        fs::write(folder.join("example.zone"), zone)?;
        let mut command = namespace.command("named");
        command.args(["-g", "-n", "1", "-c"]).arg(&config);
        process::log_to(&mut command, &lab.folder().join(format!("{name}.log")))?;
        let bind = Self {
            namespace,
            address: SocketAddr::new(address, 53),
            _process: Process::spawn(&mut command)?,
        };
        until(READY_WITHIN, || dig(namespace, bind.address, "ns.example")).context("start named")?;
        Ok(bind)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name has this address and no other from now on, by a dynamic update.
    pub fn update(&self, name: &str, ttl: u32, address: IpAddr) -> Result<()> {
        let server = self.address.ip();
        let commands = format!(
            "server {server}\nzone example\nupdate delete {name} A\nupdate add {name} {ttl} A {address}\nsend\n"
        );
        process::feed(&mut self.namespace.command("nsupdate"), &commands)
    }
}

fn text(folder: &str, address: IpAddr, options: &str, section: &str) -> String {
    format!(
        "options {{
    directory \"{folder}\";
    session-keyfile \"{folder}/session.key\";
    pid-file none;
    listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    allow-query {{ any; }};
    dnssec-validation no;
    {options}
}};
controls {{ }};
{section}
"
    )
}
