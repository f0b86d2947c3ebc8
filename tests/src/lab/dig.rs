//! Asks a name server as an administrator would, by `dig`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use super::Namespace;

/// The address of a name that has one, and how many seconds of its life are left.
pub fn dig(namespace: &Namespace, server: SocketAddr, name: &str) -> Result<(IpAddr, u64)> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let asked = ["+tries=1", "+time=1", "+noall", "+answer", "-p", &port, &at, name, "A"];
    let told = namespace.stdout("dig", &asked)?;
    let record = told.lines().last().unwrap_or_default();
    // NAME TTL IN A ADDRESS
    let mut words = record.split_whitespace().skip(1);
    let ttl = words.next().and_then(|word| word.parse().ok());
    let address = words.nth(2).and_then(|word| word.parse().ok());
    address
        .zip(ttl)
        .with_context(|| format!("{server} has no address of {name}: {told:?}"))
}
