//! What the cases of PostgreSQL and MariaDB begin with.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::lab::*;
use lb_userspace::core::config::{Database, Role};
use lb_userspace::core::health::observation::Observation;

pub const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 1, 11));
pub const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 1, 12));
pub const EVENTUALLY: Duration = Duration::from_secs(20);

/// A host with two addresses, and a check that wants a primary.
pub fn host(lab: &Lab) -> Result<(Namespace, Database)> {
    let host = lab.namespace("db")?;
    host.ip(&format!("addr add {ONE}/32 dev lo\naddr add {TWO}/32 dev lo"))?;
    let password_file = lab.folder().join("password");
    fs::write(&password_file, format!("{CHECKER_PASSWORD}\n"))?;
    let check = Database {
        role: Some(Role::Primary),
        user: Some(CHECKER.to_owned()),
        password_file: Some(password_file),
        database: None,
        max_lag: None,
        tls: None,
    };
    Ok((host, check))
}

pub fn until_told(within: Duration, asker: &mut Asker<'_>, expected: &str) -> Result<Observation> {
    until(within, || {
        let observation = asker.ask()?;
        ensure!(
            observation.to_string().starts_with(expected),
            "{observation}, not {expected}"
        );
        Ok(observation)
    })
}
