//! Instances, adverts and what becomes of them in the words of stories.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::core::dns::Family;
use lb_userspace::core::vrrp::command::What;
use lb_userspace::core::vrrp::machine::Machine;
use lb_userspace::core::vrrp::packet::{Checksum, Envelope, Format, Password, Version, group, write};
use lb_userspace::core::vrrp::sealed::{Secrets, Stamp, seal};
use lb_userspace::core::vrrp::settings::{Address, Settings};

use super::net::Packet;

/// Of sealed adverts that no node says.
const STRANGER: Stamp = Stamp { session: 1, number: 1 };

/// `30ms` or `2s`.
pub fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').context("a time ends in ms or s")?, 1000),
    };
    Ok(Duration::from_millis(number.parse::<u64>()? * unit))
}

/// `main eth0 id=51 priority=150`: what is not said is as in the smallest section.
pub fn settings(name: &str, words: &str) -> Result<Settings> {
    let mut settings = Settings {
        name: name.into(),
        interface: "eth0".into(),
        id: 51,
        format: Format {
            version: Version::V3,
            checksum: Checksum::PseudoHeader,
            password: None,
        },
        secrets: None,
        priority: 100,
        interval: Duration::from_millis(30),
        preempt: true,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        addresses: vec![Address {
            address: "198.18.0.100".parse()?,
            length: 24,
        }],
        peers: Vec::new(),
        group: None,
        announce_every: None,
        virtual_mac: false,
    };
    for word in words.split_whitespace() {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} is not KEY=VALUE"))?;
        match key {
            "interface" => settings.interface = value.into(),
            "id" => settings.id = value.parse()?,
            "priority" => settings.priority = value.parse()?,
            "interval" => settings.interval = duration(value)?,
            "version" => settings.format.version = version(value)?,
            "checksum" => settings.format.checksum = checksum(value)?,
            "password" => settings.format.password = Some(Password::new(value.as_bytes()).context("a password")?),
            "key" => settings.secrets = Some(Secrets::read(value.as_bytes())?),
            "preempt" => settings.preempt = value == "yes",
            "preempt_delay" => settings.preempt_delay = duration(value)?,
            "startup_delay" => settings.startup_delay = duration(value)?,
            "virtual_mac" => settings.virtual_mac = value.parse()?,
            "announce_every" => settings.announce_every = Some(duration(value)?),
            "group" => settings.group = Some(value.to_owned()),
            "addresses" => settings.addresses = value.split(',').map(address).collect::<Result<_>>()?,
            "peers" => settings.peers = value.split(',').map(|peer| Ok(peer.parse()?)).collect::<Result<_>>()?,
            _ => bail!("an instance has no {key}"),
        }
    }
    Ok(settings)
}

fn version(text: &str) -> Result<Version> {
    Ok(match text {
        "2" => Version::V2,
        "3" => Version::V3,
        _ => bail!("version 2 or 3"),
    })
}

fn checksum(text: &str) -> Result<Checksum> {
    Ok(match text {
        "pseudo-header" => Checksum::PseudoHeader,
        "message" => Checksum::Message,
        _ => bail!("pseudo-header or message"),
    })
}

fn address(text: &str) -> Result<Address> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    Ok(Address {
        address: address.parse()?,
        length: length.parse()?,
    })
}

/// `198.18.0.9 priority=200 ttl=254`: an advert as another node of the same instance sends it, but for what is said.
pub fn forged(words: &str) -> Result<Packet> {
    let (source, words) = words.split_once(' ').unwrap_or((words, ""));
    let source: IpAddr = source.parse()?;
    let family = Family::of(source);
    let (mut ttl, mut destination, mut add, mut cut, mut count, mut sum) = (255, group(family), 0, 0, None, false);
    let (mut kind, mut own) = (None, Vec::new());
    for word in words.split_whitespace() {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} is not KEY=VALUE"))?;
        match key {
            "ttl" => ttl = value.parse()?,
            "to" => destination = value.parse()?,
            "trailing" => add = value.parse()?,
            "cut" => cut = value.parse()?,
            "count" => count = Some(value.parse()?),
            "sum" => sum = value == "wrong",
            "type" => kind = Some(value.parse::<u8>()?),
            _ => own.push(word),
        }
    }
    let settings = settings("forged", &own.join(" "))?;
    let advert = settings.advert(settings.priority);
    let mut payload = write(&advert, &settings.format, source, destination);
    if let Some(secrets) = &settings.secrets {
        payload = seal(payload, STRANGER, secrets, &settings.format, source, destination);
    }
    if let Some(kind) = kind {
        payload[0] = payload[0] & 0xf0 | kind;
    }
    if let Some(count) = count {
        payload[3] = count;
    }
    if sum {
        payload[7] ^= 1;
    }
    payload.truncate(payload.len() - cut);
    payload.extend(vec![0; add]);
    Ok(Packet {
        interface: settings.interface,
        envelope: Envelope {
            source,
            destination,
            ttl,
        },
        payload,
        said: None,
    })
}

/// None: nothing that an onlooker would note.
pub fn told(what: &What, last_priority: Option<u8>) -> Option<String> {
    let list = |addresses: &[Address]| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(" ")
    };
    match what {
        What::Send {
            datagrams, priority, ..
        } => {
            let to: Vec<String> = datagrams
                .iter()
                .map(|datagram| datagram.destination.to_string())
                .collect();
            (last_priority != Some(*priority)).then(|| format!("advert of {priority} to {}", to.join(" ")))
        }
        What::Lease(_) | What::Greet { .. } => None,
        What::Complain(words) => Some(format!("complains: {words}")),
        What::Sever => Some("severs what went through it".to_owned()),
        What::Own(addresses) => Some(format!("own {}", list(addresses))),
        What::Disown(addresses) => Some(format!("disown {}", list(addresses))),
        What::Announce(addresses) => Some(format!("announce {}", list(addresses))),
        What::Moved(transition) => Some(format!("{} -> {}: {}", transition.from, transition.to, transition.why)),
    }
}

/// What `status` shows of an instance.
pub fn shown(machine: &Machine) -> Result<String> {
    let mut text = format!(
        "{}: {}, priority {}",
        machine.settings().name,
        machine.role(),
        machine.priority()
    );
    if let Some(why) = machine.fault() {
        write!(text, ", because {why}")?;
    }
    if machine.is_aside() {
        text += ", aside";
    }
    if let Some(peer) = machine.peer() {
        write!(text, "; last heard {} of priority {}", peer.address, peer.priority)?;
    }
    let counters = machine.counters();
    for (count, what) in [
        (counters.late, "late"),
        (counters.claims_in_vain, "claims in vain"),
        (counters.unsent, "unsent"),
        (counters.other_addresses, "with other addresses"),
    ] {
        if count > 0 {
            write!(text, "; {count} {what}")?;
        }
    }
    for (refusal, count) in counters.refused.iter() {
        write!(text, "; refused {count}: {refusal}")?;
    }
    ensure!(counters.sent >= counters.unsent, "what could not be sent was sent once");
    Ok(text)
}
