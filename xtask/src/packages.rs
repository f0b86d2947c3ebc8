//! The programs that tests and measurements run, and the Debian packages they come in.

use anyhow::{Result, bail};

use crate::{apt, workspace};

pub struct Program {
    /// A name, or a path where its folder is not one of commands.
    command: &'static str,
    package: &'static str,
}

const fn program(command: &'static str, package: &'static str) -> Program {
    Program { command, package }
}

pub const LAB: &[Program] = &[
    program("ip", "iproute2"),
    program("ethtool", "ethtool"),
    program("bpftool", "bpftool"),
    program("nft", "nftables"),
    program("nginx", "nginx"),
    program("curl", "curl"),
    program("openssl", "openssl"),
    // `psql` alone may be there for other servers.
    program("/usr/lib/postgresql/15/bin/initdb", "postgresql-15"),
    program("mariadbd", "mariadb-server"),
    program("/usr/sbin/knotd", "knot"),
    program("/usr/sbin/named", "bind9"),
    program("dig", "bind9-dnsutils"),
    program("/usr/sbin/unbound", "unbound"),
    program("keepalived", "keepalived"),
    program("tshark", "tshark"),
];

pub const BENCH: &[Program] = &[
    program("ip", "iproute2"),
    program("ethtool", "ethtool"),
    program("bpftool", "bpftool"),
    program("nft", "nftables"),
    program("nginx", "nginx"),
    program("haproxy", "haproxy"),
    program("keepalived", "keepalived"),
    program("wrk", "wrk"),
    program("/usr/lib/postgresql/15/bin/initdb", "postgresql-15"),
    program("mariadbd", "mariadb-server"),
];

/// Installs what is missing of `programs`; `why` completes "installing PACKAGES".
pub fn ensure(programs: &[Program], why: &str) -> Result<()> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !workspace::has_command(program.command))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_here() {
        let commands: Vec<_> = missing.iter().map(|program| program.command).collect();
        bail!("install these commands {why}: {}", commands.join(", "));
    }
    let packages: Vec<_> = missing.iter().map(|program| program.package).collect();
    apt::install(&packages, why)
}
