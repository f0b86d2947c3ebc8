//! Single values written as text: durations, addresses, names.
//!
//! A value is judged alone; whether the thing it names exists is for `service` and `sections`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::hosts::{HostPort, SrvName, host_port, srv_name};
use super::reader::{Item, Reader, Value, Wrong};
use super::shapes::Int;

pub const NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Implements `Value` for a type that is read from a string by a function.
macro_rules! text {
    ($($type:ty: $parse:expr, $schema:tt;)*) => {
        $(impl Value for $type {
            fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
                reader.parsed(item, $parse)
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

text! {
    String: text, { "type": "string", "minLength": 1 };
    Name: |text| name(text).map(|()| Name(text.to_owned())), { "type": "string", "pattern": NAME_PATTERN };
    Interface: interface, { "type": "string", "minLength": 1, "maxLength": 15 };
    PathBuf: absolute_path, { "type": "string", "pattern": "^/" };
    SocketAddr: socket_address, { "type": "string", "pattern": ":[0-9]+$" };
    Unicast: |text| unicast(address(text)?).map(Unicast), { "type": "string" };
    Routed: |text| routed(address(text)?).map(Routed), { "type": "string" };
    Endpoint: endpoint, { "type": "string", "pattern": ":[0-9]+$" };
    Prefix: prefix, { "type": "string" };
    HostPort: host_port, { "type": "string", "pattern": ":[0-9]+$" };
    SrvName: srv_name, { "type": "string", "pattern": "^_[^.]+\\._[^.]+\\." };
    Member: member, { "type": "string", "minLength": 1 };
    Datapoints: datapoints, { "type": "string", "pattern": "^[0-9]+ of [0-9]+$" };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(pub String);

/// An address packets may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unicast(pub IpAddr);

/// An address that routes lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed(pub IpAddr);

/// Where packets are sent to: an address that routes lead to, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub SocketAddr);

/// An address and how much of it is the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(pub IpAddr, pub u8);

/// An element of `backends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    Name(String),
    Endpoint(Endpoint),
    Host(HostPort),
}

/// How many of the last data points must be over the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datapoints {
    pub ringing: u32,
    pub of: u32,
}

/// Status codes of HTTP, from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub RangeInclusive<u16>);

/// A number an alarm compares with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold(pub f64);

/// INVARIANT: finite, as it was read.
impl Eq for Threshold {}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Endpoint(Endpoint(address)) => write!(f, "{address}"),
            Self::Host(host) => write!(f, "{host}"),
        }
    }
}

impl fmt::Display for Datapoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.ringing, self.of)
    }
}

impl Value for Duration {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if let DeValue::Integer(number) = item.get_ref() {
            reader.error(
                &item.span(),
                format!("{number} has no unit"),
                format!("write \"{number}s\""),
            );
            return None;
        }
        reader.parsed(item, duration)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

impl Value for Statuses {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let DeValue::Integer(_) = item.get_ref() else {
            return reader.parsed(item, statuses);
        };
        let Int(code) = Int::<100, 599>::read(item, reader)?;
        u16::try_from(code).ok().map(|code| Self(code..=code))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let range = json_schema!({ "type": "string", "pattern": "^[1-5][0-9]{2}-[1-5][0-9]{2}$" });
        json_schema!({ "anyOf": [Int::<100, 599>::schema(generator), range] })
    }
}

impl Value for Threshold {
    fn read(item: &Item<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let number = match item.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => {
                reader.wrong_type(item, "a number", None);
                return None;
            }
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            reader.error(&item.span(), "must be 0 or more", None);
        }
        number.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

/// `pg-write`, `lb_1.rack`.
pub fn name(text: &str) -> Result<(), Wrong> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_fine) {
        let rule = "a name has 1 to 64 letters, digits, `-`, `_` and `.`";
        return Err(Wrong::new(format!("{text:?} cannot be a name")).hint(rule));
    }
    Ok(())
}

fn text(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        Err(Wrong::new("is empty"))
    } else {
        Ok(text.to_owned())
    }
}

fn interface(text: &str) -> Result<Interface, Wrong> {
    let is_fine = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if text.is_empty() || text.len() > 15 || !text.chars().all(is_fine) || text == "." || text == ".." {
        return Err(Wrong::new(format!("{text:?} cannot be an interface")).hint("`ip link` lists them"));
    }
    Ok(Interface(text.to_owned()))
}

fn absolute_path(text: &str) -> Result<PathBuf, Wrong> {
    if !text.starts_with('/') || text.contains('\0') {
        return Err(Wrong::new(format!("{text:?} is not an absolute path")).hint("begin it with /"));
    }
    Ok(PathBuf::from(text))
}

/// `200ms`, `2s`, `10m`, `1h`, `1d`; never zero.
fn duration(text: &str) -> Result<Duration, Wrong> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "" if digits > 0 => return Err(Wrong::new(format!("{text:?} has no unit")).hint(format!("write \"{text}s\""))),
        _ => {
            let known = "a whole number and one of ms, s, m, h, d: \"200ms\"";
            return Err(Wrong::new(format!("{text:?} is not a duration")).hint(known));
        }
    };
    match number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
    {
        Some(0) => Err(Wrong::new("a duration of zero").hint("\"1ms\" is the shortest")),
        Some(duration) if Duration::from_millis(duration) <= LONGEST => Ok(Duration::from_millis(duration)),
        _ if digits == 0 => Err(Wrong::new(format!("{text:?} is not a duration")).hint(format!("write \"1{unit}\""))),
        _ => Err(Wrong::new(format!("{text:?} is too long")).hint("366d at most")),
    }
}

fn address(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        let wrong = Wrong::new(format!("{text:?} is not an address"));
        if text.parse::<SocketAddr>().is_ok() {
            wrong.hint("leave out the port")
        } else {
            wrong.hint("such as \"198.18.0.100\"")
        }
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(Wrong::new("port 0 cannot be used").hint("1 to 65535"))
        } else {
            Ok(address)
        };
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        let example = SocketAddr::new(address, 80);
        return Err(Wrong::new(format!("{text:?} has no port")).hint(format!("such as \"{example}\"")));
    }
    if let Some((address, port)) = text.rsplit_once(':')
        && (address.parse::<IpAddr>().is_ok() || address.starts_with('['))
        && port.parse::<u16>().is_err()
    {
        return Err(Wrong::new(format!("{port:?} is not a port")).hint("1 to 65535"));
    }
    Err(Wrong::new(format!("{text:?} is not an address and port")).hint("such as \"198.18.0.100:80\""))
}

fn unicast(address: IpAddr) -> Result<IpAddr, Wrong> {
    let kind = match address {
        _ if address.is_unspecified() => "stands for every address",
        _ if address.is_multicast() => "is multicast",
        _ if address.is_loopback() => "is a loopback address, which no packet on a wire carries",
        IpAddr::V4(v4) if v4.is_broadcast() => "is broadcast",
        _ => return Ok(address),
    };
    Err(Wrong::new(format!("{address} {kind}")).hint("give the address of one host"))
}

/// One word for one address: the kernel's tables have IPv4 as mapped addresses, and no interface beside an address.
fn routed(address: IpAddr) -> Result<IpAddr, Wrong> {
    let IpAddr::V6(v6) = unicast(address)? else {
        return Ok(address);
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Err(Wrong::new(format!("{address} is an IPv4 address")).hint(format!("write {v4}")));
    }
    if v6.is_unicast_link_local() {
        let hint = "give a global or a unique local one (fd00::/8)";
        return Err(Wrong::new(format!(
            "{address} is link-local: it says nothing without its interface"
        ))
        .hint(hint));
    }
    Ok(address)
}

/// Whether a backend may have it.
pub fn is_routed(address: IpAddr) -> bool {
    routed(address).is_ok()
}

fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    let address = socket_address(text)?;
    routed(address.ip())?;
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => {
            let hint = format!("write \"{}\"", SocketAddr::new((*address.ip()).into(), address.port()));
            Err(Wrong::new(format!("{text:?} names an interface, which routes find by themselves")).hint(hint))
        }
        _ => Ok(Endpoint(address)),
    }
}

/// `198.18.0.100/24`, or an address that stands alone.
fn prefix(text: &str) -> Result<Prefix, Wrong> {
    let (address, length) = text.split_once('/').unzip();
    let address = unicast(self::address(address.unwrap_or(text))?)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match length.map_or(Ok(most), str::parse) {
        Ok(length) if (1..=most).contains(&length) => Ok(Prefix(address, length)),
        _ => Err(Wrong::new(format!("{text:?} has no such prefix length")).hint(format!("/1 to /{most}"))),
    }
}

pub fn member(text: &str) -> Result<Member, Wrong> {
    if !text.contains(':') {
        if text.parse::<IpAddr>().is_ok() {
            return Err(Wrong::new(format!("{text:?} has no port")).hint(format!("such as \"{text}:80\"")));
        }
        return name(text).map(|()| Member::Name(text.to_owned()));
    }
    let looks_like_address = text.starts_with('[') || text.parse::<IpAddr>().is_ok();
    if looks_like_address || text.parse::<SocketAddr>().is_ok() {
        return endpoint(text).map(Member::Endpoint);
    }
    host_port(text).map(Member::Host)
}

fn statuses(text: &str) -> Result<Statuses, Wrong> {
    let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some((code(first)?, code(last)?)));
    match range {
        Some((first, last)) if first <= last => Ok(Statuses(first..=last)),
        _ => Err(Wrong::new(format!("{text:?} is not a range of status codes")).hint("such as 200 or \"200-399\"")),
    }
}

fn datapoints(text: &str) -> Result<Datapoints, Wrong> {
    let parsed = text
        .split_once(" of ")
        .and_then(|(ringing, of)| Some((ringing.parse().ok()?, of.parse().ok()?)));
    match parsed {
        Some((ringing, of)) if 1 <= ringing && ringing <= of && of <= 100 => Ok(Datapoints { ringing, of }),
        _ => Err(Wrong::new(format!("{text:?} is not \"N of M\"")).hint("such as \"2 of 3\"; at most 100")),
    }
}
