//! A real MariaDB, alone or as a replica of another.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::database::{as_nobody, by_nobody, certificate, folder, from_template};
use super::postgres::{CHECKER, CHECKER_PASSWORD};
use super::{Lab, Namespace, Process, poll, process};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(20);
const PORT: u16 = 3306;
/// Gives it `$1` as the names of hosts: MariaDB counts errors of hosts that have one.
const WITH_NAMES: &str = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";

/// Stopped when it is dropped.
pub struct MariaDb<'lab> {
    namespace: &'lab Namespace,
    address: IpAddr,
    folder: PathBuf,
    log: PathBuf,
    settings: Vec<String>,
    server: Option<Process>,
}

impl<'lab> MariaDb<'lab> {
    /// On port 3306 of an address that the namespace has; root may do everything through the socket.
    pub fn start_new(lab: &Lab, namespace: &'lab Namespace, address: IpAddr) -> Result<Self> {
        let name = format!("{}-mariadb-{address}", namespace.role());
        let mut server = Self {
            namespace,
            address,
            folder: folder(lab, &name)?,
            log: lab.folder().join(format!("{name}.log")),
            settings: Vec::new(),
            server: None,
        };
        from_template(lab, "mariadb", &server.folder.join("data"), |data| {
            let mut install = by_nobody(namespace, "mariadb-install-db");
            install.args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]);
            install.args(["--skip-name-resolve", "--innodb-log-file-size=8M"]);
            process::stdout(install.arg(format!("--datadir={}", data.display()))).map(|_| ())
        })?;
        server.start()?;
        server.sql(&format!(
            "CREATE USER {CHECKER}@'%' IDENTIFIED BY '{CHECKER_PASSWORD}';
             CREATE USER replica@'%'; GRANT REPLICATION SLAVE ON *.* TO replica@'%'; RESET MASTER"
        ))?;
        Ok(server)
    }

    /// Makes it a read-only replica of another.
    pub fn follow(&self, source: &Self) -> Result<()> {
        self.sql(&format!(
            "STOP SLAVE; SET GLOBAL read_only = 1;
             CHANGE MASTER TO master_host='{}', master_user='replica', master_connect_retry=1, master_use_gtid=slave_pos;
             START SLAVE",
            source.address
        ))?;
        poll::until(READY_WITHIN, || {
            let status = self.sql("SHOW SLAVE STATUS")?;
            ensure!(
                status.contains("Slave has read all relay log"),
                "does not follow yet: {status}"
            );
            Ok(())
        })
    }

    /// Used from the next start on: `--name=value`.
    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// See `database::certificate`.
    pub fn certificate(&self, name: &str) -> Result<PathBuf> {
        certificate(&self.folder, name)
    }

    /// What it had to say.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// With the data there are.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "MariaDB runs already");
        let names = self.folder.join("hosts");
        fs::write(&names, "198.18.1.11 one.example\n198.18.1.12 two.example\n")?;
        let mut command = self.namespace.command("unshare");
        command.args(["--mount", "--", "sh", "-c", WITH_NAMES, "sh"]).arg(names);
        command.args(as_nobody()).arg("mariadbd");
        let data = self.folder.join("data");
        let number = match self.address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(_) => 1,
        };
        command.args([
            "--no-defaults",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=16M",
        ]);
        command.args([
            "--innodb-flush-log-at-trx-commit=0",
            "--log-bin=binlog",
            "--skip-slave-start",
        ]);
        command.args([
            format!("--datadir={}", data.display()),
            format!("--socket={}", self.socket().display()),
            format!("--bind-address={}", self.address),
            format!("--port={PORT}"),
            format!("--server-id={number}"),
            format!("--pid-file={}/pid", self.folder.display()),
        ]);
        command.args(&self.settings);
        process::log_to(&mut command, &self.log)?;
        self.server = Some(Process::spawn(&mut command)?);
        poll::until(READY_WITHIN, || self.sql("SELECT 1").map(|_| ()))
            .with_context(|| format!("wait for MariaDB on {}", self.address))
    }

    /// What statements told, as root; fields are separated by tabs.
    pub fn sql(&self, statements: &str) -> Result<String> {
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "--user=root",
            "--batch",
            "--skip-column-names",
            "--connect-timeout=5",
        ]);
        client.arg(format!("--socket={}", self.socket().display()));
        let told = process::stdout(client.args(["--execute", statements]))?;
        Ok(told.trim().to_owned())
    }

    /// A counter of `SHOW GLOBAL STATUS`.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let told = self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        let value = told.split_whitespace().nth(1);
        Ok(value.with_context(|| format!("find {name} in {told:?}"))?.parse()?)
    }

    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        server.signal(Signal::TERM)?;
        server.signal(Signal::CONT)?;
        server.wait(STOPS_WITHIN).context("stop MariaDB").map(|_| ())
    }

    pub fn hang(&self) -> Result<()> {
        self.server
            .as_ref()
            .context("find a running MariaDB")?
            .signal(Signal::STOP)
    }

    pub fn go_on(&self) -> Result<()> {
        self.server
            .as_ref()
            .context("find a running MariaDB")?
            .signal(Signal::CONT)
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}
