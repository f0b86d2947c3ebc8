//! A real PostgreSQL, alone or as a replica of another; killed, hung, promoted and started again as cases like.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::database::{by_nobody, certificate, folder, from_template, until_left};
use super::{Lab, Namespace, Process, poll, process};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(20);
const PORT: u16 = 5432;
const PROGRAMS: &str = "/usr/lib/postgresql";

/// Who checks: no privileges, and a password that has to be proven.
pub const CHECKER: &str = "naru";
pub const CHECKER_PASSWORD: &str = "not a secret";

/// Stopped, with all its processes, when it is dropped.
pub struct Postgres<'lab> {
    namespace: &'lab Namespace,
    address: IpAddr,
    folder: PathBuf,
    log: PathBuf,
    settings: Vec<(String, String)>,
    postmaster: Option<Process>,
}

impl<'lab> Postgres<'lab> {
    /// A primary on port 5432 of an address that the namespace has; local users may do everything.
    pub fn primary(lab: &Lab, namespace: &'lab Namespace, address: IpAddr) -> Result<Self> {
        let mut primary = Self::new(lab, namespace, address)?;
        from_template(lab, &format!("postgres-{}", version()?), &primary.data(), |data| {
            let mut initdb = by_nobody(namespace, program("initdb")?);
            initdb.args(["--no-sync", "--no-instructions", "--auth=trust", "--username=postgres"]);
            initdb.args(["--locale=C", "--encoding=UTF8", "--wal-segsize=1", "-D"]);
            process::stdout(initdb.arg(data)).map(|_| ())
        })?;
        let access = format!(
            "local all all trust\nhost replication all all trust\nhost all {CHECKER} all scram-sha-256\n\
             hostssl all tls all scram-sha-256\nhost postgres postgres all trust\n"
        );
        fs::write(primary.data().join("pg_hba.conf"), access)?;
        primary.start()?;
        primary.sql(&format!("CREATE ROLE {CHECKER} LOGIN PASSWORD '{CHECKER_PASSWORD}'"))?;
        Ok(primary)
    }

    /// A replica that follows `source` by streaming.
    pub fn replica(lab: &Lab, namespace: &'lab Namespace, address: IpAddr, source: &Self) -> Result<Self> {
        let mut replica = Self::new(lab, namespace, address)?;
        let mut backup = by_nobody(namespace, program("pg_basebackup")?);
        backup.args([
            "--username=postgres",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]);
        backup.args(["--host", &source.address.to_string(), "-D"]);
        process::stdout(backup.arg(replica.data()))?;
        replica.start()?;
        Ok(replica)
    }

    fn new(lab: &Lab, namespace: &'lab Namespace, address: IpAddr) -> Result<Self> {
        let name = format!("{}-postgres-{address}", namespace.role());
        Ok(Self {
            namespace,
            address,
            folder: folder(lab, &name)?,
            log: lab.folder().join(format!("{name}.log")),
            settings: Vec::new(),
            postmaster: None,
        })
    }

    /// Used from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
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
        self.launch()?;
        poll::until(READY_WITHIN, || self.sql("SELECT 1").map(|_| ()))
            .with_context(|| format!("wait for PostgreSQL on {}", self.address))
    }

    /// As `start`, for one that is not going to let anybody in.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.postmaster.is_none(), "PostgreSQL runs already");
        let mut command = by_nobody(self.namespace, program("postgres")?);
        command.arg("-D").arg(self.data());
        let own = [
            ("listen_addresses", self.address.to_string()),
            ("unix_socket_directories", self.folder.display().to_string()),
        ];
        let fixed = [
            ("fsync", "off"),
            ("shared_buffers", "16MB"),
            ("max_connections", "300"),
            ("autovacuum", "off"),
            ("wal_keep_size", "64MB"),
            ("wal_retrieve_retry_interval", "100ms"),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let own = own.map(|(name, value)| (name.to_owned(), value));
        for (name, value) in fixed.iter().chain(&own).chain(&self.settings) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        process::log_to(&mut command, &self.log)?;
        self.postmaster = Some(Process::spawn(&mut command)?);
        Ok(())
    }

    /// What a statement told, as the superuser; fields are separated by `|`.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "--quiet", "--no-align", "--tuples-only", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["--username=postgres", "--dbname=postgres", "--command", statement]);
        let told = process::stdout(psql.arg("--host").arg(&self.folder).env("PGCONNECT_TIMEOUT", "5"))?;
        Ok(told.trim().to_owned())
    }

    /// Returns at once; it is a primary a moment later.
    pub fn promote(&self) -> Result<()> {
        self.sql("SELECT pg_promote(false)").map(|_| ())
    }

    /// As a crash: nobody is told.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.signal(Signal::KILL)?;
            postmaster.wait(STOPS_WITHIN)?;
        }
        until_left(&self.data())
    }

    /// Connections are ended, data are written.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::INT)
    }

    /// The postmaster alone: connections that are there are served, new ones are not.
    pub fn hang(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.postmaster
            .as_ref()
            .context("find a running PostgreSQL")?
            .signal(signal)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(mut postmaster) = self.postmaster.take() else {
            return Ok(());
        };
        postmaster.signal(signal)?;
        postmaster.signal(Signal::CONT)?;
        postmaster.wait(STOPS_WITHIN).context("stop PostgreSQL")?;
        until_left(&self.data())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Postgres<'_> {
    fn drop(&mut self) {
        // At once, without writing anything.
        if let Err(error) = self.end(Signal::QUIT) {
            eprintln!("PostgreSQL on {}: {error:#}", self.address);
        }
    }
}

/// The newest that is installed; Debian has it in no PATH.
fn version() -> Result<u32> {
    let entries = fs::read_dir(PROGRAMS).with_context(|| format!("look for PostgreSQL in {PROGRAMS}"))?;
    let versions = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    versions
        .max()
        .with_context(|| format!("find a PostgreSQL in {PROGRAMS}"))
}

fn program(name: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("{PROGRAMS}/{}/bin/{name}", version()?)))
}
