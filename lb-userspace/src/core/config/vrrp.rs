//! Whether an instance of VRRP fits together and beside the others, and the `Config` of it.
//!
//! What it then does is for `core::vrrp`.

mod peers;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::{Report, Span, subject};
use super::file::{self, File};
use super::reader::{At, Field};
use super::sections::check_exists;
use super::shapes::{Int, List, Sections};
use super::values::{Interface, Name, Prefix};
use crate::core::dns::Family;
use crate::core::vrrp::packet::{Checksum, Format, Version};
use crate::core::vrrp::settings::{Address, LEAST_FIT, OWNER, Settings};
use crate::core::vrrp::track::{Program, Track, Watched};

const PRIORITY: u8 = 100;
const INTERVAL: Duration = Duration::from_millis(100);
const INTERVAL_V2: Duration = Duration::from_secs(1);
/// An advert counts them in a byte.
const MOST_ADDRESSES: usize = 255;
/// As many fit into a packet of 1500 bytes.
const MOST_ADDRESSES_IPV6: usize = 90;
/// The same with what a key adds.
const MOST_SEALED_IPV6: usize = 88;
/// A switch forgets where a MAC is when it has not heard of it for so long, five minutes as a rule.
const REMINDED_EVERY: Duration = Duration::from_secs(60);
const TRACK_EVERY: Duration = Duration::from_secs(1);
const TRACK_TIMEOUT: Duration = Duration::from_secs(1);
const FALL: u32 = 3;
const RISE: u32 = 2;

/// An instance of VRRP, and what belongs to it that others do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    /// Without password and keys, which are in files.
    pub settings: Settings,
    pub password_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub track: Vec<Track>,
    /// A program and its arguments; empty: none.
    pub notify: Vec<String>,
}

pub fn check_fits(who: &str, section: &At<file::Vrrp>, file: &File, report: &mut Report<'_>) {
    let vrrp = &section.value;
    check_interval(who, vrrp, report);
    check_addresses(who, vrrp, report);
    peers::check(who, vrrp, report);
    check_version(who, vrrp, report);
    check_priority(who, vrrp, report);
    check_preempt(who, vrrp, report);
    for track in vrrp.track.value().into_iter().flat_map(|list| &list.0) {
        check_track(&format!("{who}: track"), track, vrrp, file, report);
    }
    check_program(&format!("{who}: notify"), &vrrp.notify, report);
}

fn version(vrrp: &file::Vrrp) -> Version {
    match vrrp.version.value() {
        Some(Int(2)) => Version::V2,
        _ => Version::V3,
    }
}

fn addresses(vrrp: &file::Vrrp) -> impl Iterator<Item = &At<Prefix>> {
    vrrp.addresses.value().into_iter().flat_map(|list| &list.0)
}

fn family(vrrp: &file::Vrrp) -> Option<Family> {
    addresses(vrrp).next().map(|first| Family::of(first.value.0))
}

fn check_interval(who: &str, vrrp: &file::Vrrp, report: &mut Report<'_>) {
    let Some(interval) = vrrp.interval.given() else { return };
    let version = version(vrrp);
    let rule = match version {
        Version::V2 => "version 2 takes whole seconds, 1s to 255s",
        Version::V3 => "a multiple of 10ms, 10ms to 40950ms",
    };
    let is_whole = interval.value.as_millis().is_multiple_of(version.tick().as_millis());
    if !is_whole || interval.value > version.longest_interval() {
        let message = format!("{who}: this interval cannot be sent");
        report.error(&interval.span, message, rule.to_owned());
    }
}

fn check_addresses(who: &str, vrrp: &file::Vrrp, report: &mut Report<'_>) {
    let own = addresses(vrrp).map(|address| (&address.span, address.value.0));
    let peers = vrrp.peers.value().into_iter().flat_map(|list| &list.0);
    let peers = peers.map(|peer| (&peer.span, peer.value.0));
    let mut seen: BTreeMap<IpAddr, &Span> = BTreeMap::new();
    let mut mixed = false;
    for (span, address) in own.chain(peers) {
        if family(vrrp).is_some_and(|family| family != Family::of(address)) && !mixed {
            let hint = "use one [vrrp] for each".to_owned();
            report.error(span, format!("{who}: mixes IPv4 and IPv6"), hint);
            mixed = true;
        }
        if let Some(first) = seen.insert(address, span) {
            let hint = format!("first given at {}", report.place(first));
            report.error(span, format!("{who}: {address} is listed twice"), hint);
        }
    }
    let most = match family(vrrp) {
        Some(Family::Ipv6) if vrrp.key_file.given().is_some() => MOST_SEALED_IPV6,
        Some(Family::Ipv6) => MOST_ADDRESSES_IPV6,
        _ => MOST_ADDRESSES,
    };
    if let Some(more) = addresses(vrrp).nth(most) {
        let hint = "use one more [vrrp], and one group".to_owned();
        report.error(
            &more.span,
            format!("{who}: more than {most} addresses do not fit into an advert"),
            hint,
        );
    }
    if let Some(first) = addresses(vrrp).next()
        && let IpAddr::V6(address) = first.value.0
        && !address.is_unicast_link_local()
    {
        let message = format!("{who}: the first address is not link-local, which others may ask for");
        report.warning(&first.span, message, "put one of fe80::/64 before it".to_owned());
    }
}

fn check_version(who: &str, vrrp: &file::Vrrp, report: &mut Report<'_>) {
    let (version, ipv6) = (version(vrrp), family(vrrp) == Some(Family::Ipv6));
    if let (Some(given), Version::V2, true) = (vrrp.version.given(), version, ipv6) {
        let message = format!("{who}: version 2 has no IPv6");
        report.error(&given.span, message, "remove version".to_owned());
    }
    if let (Some(password), Version::V3) = (vrrp.password_file.given(), version) {
        let message = format!("{who}: version 3 has no password");
        report.error(&password.span, message, "use key_file, or version = 2".to_owned());
    }
    if let (Some(key), Version::V2) = (vrrp.key_file.given(), version) {
        let message = format!("{who}: version 2 has no key");
        report.error(&key.span, message, "use password_file, or version = 3".to_owned());
    }
    if let Some(checksum) = vrrp.checksum.given()
        && (version == Version::V2 || ipv6)
    {
        let message = format!("{who}: there is one checksum only here");
        report.error(&checksum.span, message, "it is for version 3 over IPv4".to_owned());
    }
}

fn check_priority(who: &str, vrrp: &file::Vrrp, report: &mut Report<'_>) {
    let low = |priority: &&At<Int<1, 255>>| priority.value.0 < i64::from(LEAST_FIT);
    if let Some(priority) = vrrp.priority.given().filter(low) {
        let message = format!("{who}: others take a node of this priority for one that serves nobody, and preempt it");
        report.warning(&priority.span, message, format!("give {LEAST_FIT} or more"));
    }
}

fn check_preempt(who: &str, vrrp: &file::Vrrp, report: &mut Report<'_>) {
    let never = vrrp.preempt.given().filter(|preempt| !preempt.value);
    if let (Some(delay), Some(_)) = (vrrp.preempt_delay.given(), never) {
        let message = format!("{who}: preempt_delay, and preempt = false never does");
        report.error(&delay.span, message, "remove one of them".to_owned());
    }
    let is_owner = vrrp.priority.value() == Some(&Int(OWNER.into()));
    if let (Some(never), true) = (never, is_owner) {
        let message = format!("{who}: priority 255 is for the owner of the addresses, who always takes them");
        report.error(&never.span, message, "remove preempt, or give 254".to_owned());
    }
}

fn check_track(who: &str, track: &At<file::Track>, vrrp: &file::Vrrp, file: &File, report: &mut Report<'_>) {
    let At { value: track, span } = track;
    let absent = [
        track.service.is_absent(),
        track.interface.is_absent(),
        track.command.is_absent(),
    ];
    let given = absent.iter().filter(|absent| !**absent).count();
    if given != 1 {
        let message = match given {
            0 => format!("{who}: nothing is named"),
            _ => format!("{who}: more than one of service, interface and command"),
        };
        report.error(span, message, "give one of service, interface and command".to_owned());
    }
    check_exists(who, "service", &track.service, &file.service, report);
    if let (Some(own), Some(interface)) = (vrrp.interface.value(), track.interface.given())
        && *own == interface.value
    {
        let message = format!("{who}: {} is the interface of the instance", own.0);
        report.error(
            &interface.span,
            message,
            "remove it: without carrier it is at fault anyway".to_owned(),
        );
    }
    check_program(who, &track.command, report);
    let of_programs = [
        ("every", span_of(&track.every)),
        ("timeout", span_of(&track.timeout)),
        ("fall", span_of(&track.fall)),
        ("rise", span_of(&track.rise)),
    ];
    for (key, span) in of_programs {
        if let (Some(span), true) = (span, track.command.is_absent()) {
            report.error(
                span,
                format!("{who}: {key} without a command"),
                "it is for programs".to_owned(),
            );
        }
    }
    let is_owner = vrrp.priority.value() == Some(&Int(OWNER.into()));
    if let Some(weight) = track.weight.given().filter(|weight| weight.value.0 != 0 && is_owner) {
        let message = format!("{who}: nothing changes the priority of an owner");
        report.warning(
            &weight.span,
            message,
            "give weight 0, or a priority below 255".to_owned(),
        );
    }
}

fn check_program(who: &str, command: &Field<List<String>>, report: &mut Report<'_>) {
    if let Some(program) = command.value().and_then(|list| list.0.first())
        && !program.value.starts_with('/')
    {
        let message = format!("{who}: {:?} is not an absolute path", program.value);
        report.error(&program.span, message, "begin it with /".to_owned());
    }
}

fn span_of<T>(field: &Field<T>) -> Option<&Span> {
    field.given().map(|at| &at.span)
}

/// What no two instances may have alike.
pub fn check_together(file: &File, report: &mut Report<'_>) {
    let mut ids: BTreeMap<(&str, Option<Family>, i64), &Span> = BTreeMap::new();
    let mut owners: BTreeMap<IpAddr, (&str, &Span)> = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<(&str, &Span)>> = BTreeMap::new();
    for (name, section) in file.vrrp.value().into_iter().flat_map(Sections::in_order) {
        let who = subject("vrrp", Some(name));
        let vrrp = &section.value;
        if let (Some(Interface(interface)), Some(id)) = (vrrp.interface.value(), vrrp.id.given())
            && let Some(first) = ids.insert((interface, family(vrrp), id.value.0), &id.span)
        {
            let hint = format!("first given at {}", report.place(first));
            report.error(
                &id.span,
                format!("{who}: id {} is taken on {interface}", id.value.0),
                hint,
            );
        }
        for address in addresses(vrrp) {
            let first = *owners.entry(address.value.0).or_insert((name, &address.span));
            if first.0 != name {
                let message = format!(
                    "{who}: {} is an address of {}",
                    address.value.0,
                    subject("vrrp", Some(first.0))
                );
                report.error(
                    &address.span,
                    message,
                    format!("first given at {}", report.place(first.1)),
                );
            }
        }
        if let Some(group) = vrrp.group.given() {
            groups.entry(&group.value.0).or_default().push((name, &group.span));
        }
    }
    for (group, members) in groups {
        if let [(name, span)] = members[..] {
            let message = format!("{}: nobody else is in group {group:?}", subject("vrrp", Some(name)));
            report.warning(
                span,
                message,
                "give it to the instances that belong together".to_owned(),
            );
        }
    }
}

/// Whether a node that has the address has it by VRRP.
pub fn shares(file: &File, address: IpAddr) -> bool {
    let instances = file.vrrp.value().into_iter().flat_map(Sections::in_order);
    let mut all = instances.flat_map(|(_, vrrp)| addresses(&vrrp.value));
    all.any(|own| own.value.0 == address)
}

/// None where something is wrong; that has been reported.
pub fn instances(file: &File) -> Option<BTreeMap<String, Vrrp>> {
    let sections = file.vrrp.value().into_iter().flat_map(|sections| &sections.0);
    sections
        .map(|(name, vrrp)| Some((name.clone(), build(name, vrrp.value()?)?)))
        .collect()
}

fn build(name: &str, vrrp: &file::Vrrp) -> Option<Vrrp> {
    let version = version(vrrp);
    let byte = |number: &Int<1, 255>| u8::try_from(number.0).ok();
    let checksum = match vrrp.checksum.value() {
        Some(file::Checksum::Message) => Checksum::Message,
        Some(file::Checksum::PseudoHeader) | None => Checksum::PseudoHeader,
    };
    let peers = vrrp.peers.value().into_iter().flat_map(|list| &list.0);
    let duration = |field: &Field<Duration>| field.value().copied().unwrap_or_default();
    let interval = match version {
        Version::V2 => INTERVAL_V2,
        Version::V3 => INTERVAL,
    };
    let virtual_mac = vrrp.virtual_mac.value().copied().unwrap_or_default();
    let tracks = vrrp.track.value().into_iter().flat_map(|list| &list.0);
    let settings = Settings {
        name: name.into(),
        interface: vrrp.interface.value()?.0.as_str().into(),
        id: byte(vrrp.id.value()?)?,
        format: Format {
            version,
            checksum,
            password: None,
        },
        secrets: None,
        priority: vrrp.priority.value().and_then(byte).unwrap_or(PRIORITY),
        interval: vrrp.interval.value().copied().unwrap_or(interval),
        preempt: vrrp.preempt.value().copied().unwrap_or(true),
        preempt_delay: duration(&vrrp.preempt_delay),
        startup_delay: duration(&vrrp.startup_delay),
        addresses: addresses(vrrp)
            .map(|at| Address {
                address: at.value.0,
                length: at.value.1,
            })
            .collect(),
        peers: peers.map(|peer| peer.value.0).collect(),
        group: vrrp.group.value().map(|Name(name)| name.clone()),
        announce_every: vrrp
            .announce_every
            .value()
            .copied()
            .or(virtual_mac.then_some(REMINDED_EVERY)),
        virtual_mac,
    };
    Some(Vrrp {
        settings,
        password_file: vrrp.password_file.value().cloned(),
        key_file: vrrp.key_file.value().cloned(),
        track: tracks.map(|track| build_track(&track.value)).collect::<Option<_>>()?,
        notify: words(&vrrp.notify),
    })
}

fn build_track(track: &file::Track) -> Option<Track> {
    let count = |field: &Field<Int<1, 100>>, otherwise| {
        let given = field.value().and_then(|count| u32::try_from(count.0).ok());
        given.unwrap_or(otherwise)
    };
    let what = match (track.service.value(), track.interface.value()) {
        (Some(Name(service)), _) => Watched::Service(service.clone()),
        (None, Some(Interface(interface))) => Watched::Interface(interface.clone()),
        (None, None) => Watched::Program(Program {
            command: words(&track.command),
            every: track.every.value().copied().unwrap_or(TRACK_EVERY),
            timeout: track.timeout.value().copied().unwrap_or(TRACK_TIMEOUT),
            fall: count(&track.fall, FALL),
            rise: count(&track.rise, RISE),
        }),
    };
    Some(Track {
        what,
        weight: i16::try_from(track.weight.value()?.0).ok()?,
    })
}

fn words(list: &Field<List<String>>) -> Vec<String> {
    let words = list.value().into_iter().flat_map(|list| &list.0);
    words.map(|word| word.value.clone()).collect()
}
