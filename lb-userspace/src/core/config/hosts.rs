//! Names of hosts, and of services that SRV records are about.
//!
//! Whether anybody has them is for `core::dns`.

use std::fmt;

use super::reader::Wrong;

/// Of SRV records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvName(pub String);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

pub fn host_port(text: &str) -> Result<HostPort, Wrong> {
    let wrong = |message: String| Err(Wrong::new(message).hint("such as \"app.example:80\""));
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong(format!("{text:?} has no port"));
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // No top-level domain is a number, so this is an address with a slip in it.
    if name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()))
    {
        return Err(Wrong::new(format!("{host:?} is not an address")).hint("such as \"198.18.0.100:80\""));
    }
    if !is_host_name(name) {
        return wrong(format!("{host:?} is neither an address nor a host name"));
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok(HostPort {
            host: host.to_owned(),
            port,
        }),
        _ => Err(Wrong::new(format!("{port:?} is not a port")).hint("1 to 65535")),
    }
}

/// As it stands before a port, or in a record.
pub fn is_host_name(name: &str) -> bool {
    let is_fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_fine);
    name.len() <= 253 && name.split('.').all(is_label)
}

/// `_service._protocol.name`, RFC 2782.
pub fn srv_name(text: &str) -> Result<SrvName, Wrong> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let begins = name.split('.').take(2).filter(|label| label.starts_with('_')).count() == 2;
    if !begins || name.split('.').count() < 3 || !is_host_name(name) {
        let wrong = Wrong::new(format!("{text:?} is not the name of SRV records"));
        return Err(wrong.hint("such as \"_http._tcp.app.example\""));
    }
    Ok(SrvName(text.to_owned()))
}
