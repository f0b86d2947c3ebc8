//! Instances of VRRP.

mod peers;

use super::*;
use crate::core::network::{Device, Link};
use crate::core::vrrp::packet::{Checksum, Version};
use crate::core::vrrp::settings::Settings;
use crate::core::vrrp::track::{Program, Track, Watched};

fn read(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse("naru.toml", text)
}

/// Headlines and hints of a file with these lines in an instance, which begins in line 4 of it.
fn with(lines: &str) -> Vec<String> {
    let text = format!("{}[vrrp.a]\ninterface = \"eth0\"\nid = 1\n{lines}\n", super::SMALLEST);
    let found = match read(&text) {
        Ok(parsed) => parsed.warnings,
        Err(found) => found,
    };
    let line = |found: Diagnostic| {
        let headline = found.headline().trim_start_matches("naru.toml:").to_owned();
        format!("{headline}; {}", found.hint.unwrap_or_default())
    };
    found.into_iter().map(line).collect()
}

fn on(lines: &str) -> Vec<String> {
    with(&format!("addresses = [\"198.18.0.1/24\"]\n{lines}"))
}

fn settings(text: &str) -> Vrrp {
    let text = format!("{}[vrrp.a]\ninterface = \"eth0\"\nid = 1\n{text}", super::SMALLEST);
    let mut vrrp = read(&text).unwrap_or_else(|found| panic!("{found:#?}")).config.vrrp;
    vrrp.remove("a").expect("it is there")
}

#[test]
fn what_is_not_said_has_a_usual_value() {
    let Vrrp {
        settings,
        password_file,
        key_file,
        track,
        notify,
    } = settings("addresses = [\"198.18.0.1\", \"198.18.0.2/24\"]");
    let Settings {
        name,
        interface,
        id,
        format,
        priority,
        interval,
        preempt,
        addresses,
        ..
    } = &settings;
    assert_eq!((&**name, &**interface, *id, *priority), ("a", "eth0", 1, 100));
    assert_eq!((format.version, format.checksum), (Version::V3, Checksum::PseudoHeader));
    assert_eq!((*interval, *preempt), (Duration::from_millis(100), true));
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["198.18.0.1/32", "198.18.0.2/24"]);
    assert_eq!(
        (settings.preempt_delay, settings.startup_delay),
        (Duration::ZERO, Duration::ZERO)
    );
    assert_eq!(
        (settings.peers.len(), settings.group, settings.announce_every),
        (0, None, None)
    );
    assert!(!settings.virtual_mac);
    assert_eq!((password_file, key_file, track.len(), notify.len()), (None, None, 0, 0));
}

#[test]
fn everything_that_can_be_said() {
    let text = r#"priority = 150
interval = "2s"
version = 2
preempt = true
preempt_delay = "3s"
startup_delay = "4s"
addresses = ["198.18.0.1/24"]
peers = ["198.18.0.3", "198.18.0.4"]
group = "g"
password_file = "/etc/naru/vrrp.password"
announce_every = "30s"
track = [
    { service = "web", weight = -60 },
    { interface = "eth1", weight = 0 },
    { command = ["/bin/true", "x"], every = "5s", timeout = "2s", fall = 4, rise = 5, weight = 10 },
]
notify = ["/bin/notify", "y"]
[vrrp.b]
interface = "eth0"
id = 2
addresses = ["198.18.0.2/24"]
checksum = "message"
group = "g"
"#;
    let Vrrp {
        settings,
        password_file,
        key_file,
        track,
        notify,
    } = settings(text);
    assert_eq!((settings.priority, settings.format.version), (150, Version::V2));
    let seconds = Duration::from_secs;
    assert_eq!((settings.interval, settings.preempt_delay), (seconds(2), seconds(3)));
    assert_eq!(
        (settings.startup_delay, settings.announce_every),
        (seconds(4), Some(seconds(30)))
    );
    assert_eq!(
        settings.peers,
        ["198.18.0.3", "198.18.0.4"].map(|peer| peer.parse::<IpAddr>().unwrap())
    );
    assert_eq!(settings.group.as_deref(), Some("g"));
    assert_eq!(password_file, Some("/etc/naru/vrrp.password".into()));
    assert_eq!(key_file, None);
    assert_eq!(notify, ["/bin/notify", "y"]);
    let program = Program {
        command: vec!["/bin/true".to_owned(), "x".to_owned()],
        every: seconds(5),
        timeout: seconds(2),
        fall: 4,
        rise: 5,
    };
    let tracked = [
        (Watched::Service("web".to_owned()), -60),
        (Watched::Interface("eth1".to_owned()), 0),
        (Watched::Program(program), 10),
    ];
    assert_eq!(track, tracked.map(|(what, weight)| Track { what, weight }));
}

/// Switches forget where a MAC is that says nothing.
#[test]
fn a_virtual_mac_is_announced_again_and_again() {
    let with = |more: &str| {
        let vrrp = settings(&format!("addresses = [\"198.18.0.1/24\"]\nvirtual_mac = true\n{more}"));
        (vrrp.settings.virtual_mac, vrrp.settings.announce_every)
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(with(""), (true, seconds(60)));
    assert_eq!(with("announce_every = \"5m\""), (true, seconds(300)));
    let off = settings("addresses = [\"198.18.0.1/24\"]\nvirtual_mac = false").settings;
    assert_eq!((off.virtual_mac, off.announce_every), (false, None));
}

#[test]
fn a_key_is_for_version_3_and_takes_room() {
    let key = "key_file = \"/etc/naru/vrrp.key\"";
    let vrrp = settings(&format!("addresses = [\"198.18.0.1/24\"]\n{key}\n"));
    assert_eq!(vrrp.key_file, Some("/etc/naru/vrrp.key".into()));
    assert_eq!(
        on(&format!("version = 2\n{key}")),
        ["9:12 vrrp \"a\": version 2 has no key; use password_file, or version = 3"]
    );
    assert_eq!(
        on("key_file = \"vrrp.key\""),
        ["8:12 vrrp \"a\": key_file: \"vrrp.key\" is not an absolute path; begin it with /"]
    );
    let full = |count: u16| {
        let addresses: Vec<String> = (1..=count).map(|host| format!("\"fe80::{host:x}\"")).collect();
        format!("addresses = [{}]\n", addresses.join(", "))
    };
    assert_eq!(with(&full(90)).len(), 0);
    assert_eq!(with(&(full(88) + key)).len(), 0);
    let [found] = &with(&(full(89) + key))[..] else {
        panic!("one error")
    };
    let message = "vrrp \"a\": more than 88 addresses do not fit into an advert; use one more [vrrp], and one group";
    assert!(found.ends_with(message), "{found}");
}

#[test]
fn what_an_advert_cannot_say() {
    let cases = [
        (
            "interval = \"35ms\"",
            "8:12 vrrp \"a\": this interval cannot be sent; a multiple of 10ms, 10ms to 40950ms",
        ),
        (
            "interval = \"41s\"",
            "8:12 vrrp \"a\": this interval cannot be sent; a multiple of 10ms, 10ms to 40950ms",
        ),
        ("priority = 0", "8:12 vrrp \"a\": priority: 0 is out of range; 1 to 255"),
        ("version = 4", "8:11 vrrp \"a\": version: 4 is out of range; 2 to 3"),
        (
            "preempt = \"yes\"",
            "8:11 vrrp \"a\": preempt: must be true or false, not a string; ",
        ),
        (
            "virtual_mac = \"00:00:5e:00:01:01\"",
            "8:15 vrrp \"a\": virtual_mac: must be true or false, not a string; ",
        ),
        (
            "virtual-mac = true",
            "8:1 vrrp \"a\": unknown key `virtual-mac`; did you mean `virtual_mac`?",
        ),
        (
            "interval = \"30ms\"\nversion = 2",
            "8:12 vrrp \"a\": this interval cannot be sent; version 2 takes whole seconds, 1s to 255s",
        ),
        (
            "password_file = \"/a\"",
            "8:17 vrrp \"a\": version 3 has no password; use key_file, or version = 2",
        ),
        (
            "checksum = \"message\"\nversion = 2",
            "8:12 vrrp \"a\": there is one checksum only here; it is for version 3 over IPv4",
        ),
        (
            "checksum = \"none\"",
            "8:12 vrrp \"a\": checksum: unknown value \"none\"; one of: pseudo-header, message",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(on(lines), [expected], "for {lines}");
    }
    assert_eq!(on("interval = \"1s\"\npriority = 255\nversion = 2"), [""; 0]);
}

#[test]
fn addresses_and_peers() {
    let cases = [
        (
            "[\"198.18.0.2/33\"]",
            "7:14 vrrp \"a\": addresses: \"198.18.0.2/33\" has no such prefix length; /1 to /32",
        ),
        (
            "[\"198.18.0.2/a\"]",
            "7:14 vrrp \"a\": addresses: \"198.18.0.2/a\" has no such prefix length; /1 to /32",
        ),
        (
            "[\"224.0.0.1/24\"]",
            "7:14 vrrp \"a\": addresses: 224.0.0.1 is multicast; give the address of one host",
        ),
        (
            "[\"198.18.0.2/24\", \"198.18.0.2/32\"]",
            "7:31 vrrp \"a\": 198.18.0.2 is listed twice; first given at 7:14",
        ),
        (
            "[\"198.18.0.2/24\", \"fe80::1/64\"]",
            "7:31 vrrp \"a\": mixes IPv4 and IPv6; use one [vrrp] for each",
        ),
        (
            "[\"198.18.0.2\"]\npeers = [\"fe80::1\"]",
            "8:10 vrrp \"a\": mixes IPv4 and IPv6; use one [vrrp] for each",
        ),
        (
            "[\"198.18.0.2\"]\npeers = [\"198.18.0.2\"]",
            "8:10 vrrp \"a\": 198.18.0.2 is listed twice; first given at 7:14",
        ),
        (
            "[\"2001:db8::1\"]",
            "7:14 warning: vrrp \"a\": the first address is not link-local, which others may ask for; put one of \
             fe80::/64 before it",
        ),
        (
            "[\"fe80::1\"]\nversion = 2",
            "8:11 vrrp \"a\": version 2 has no IPv6; remove version",
        ),
    ];
    for (addresses, expected) in cases {
        assert_eq!(with(&format!("addresses = {addresses}")), [expected], "for {addresses}");
    }
    let many = |prefix: &str, count: usize| {
        let all: Vec<String> = (1..=count).map(|host| format!("\"{prefix}{host:x}\"")).collect();
        with(&format!("addresses = [{}]", all.join(", "))).len()
    };
    assert_eq!((many("fe80::", 90), many("fe80::", 91)), (0, 1));
}

#[test]
fn tracks_and_programs() {
    let cases = [
        (
            "{ service = \"wbe\", weight = -60 }",
            "8:22 vrrp \"a\": track: service \"wbe\" is not defined; did you mean `web`?",
        ),
        (
            "{ service = \"web\" }",
            "8:10 vrrp \"a\": track: `weight` is missing; add weight = -60",
        ),
        (
            "{ weight = 1 }",
            "8:10 vrrp \"a\": track: nothing is named; give one of service, interface and command",
        ),
        (
            "{ service = \"web\", interface = \"eth1\", weight = 1 }",
            "8:10 vrrp \"a\": track: more than one of service, interface and command; give one of service, interface and \
             command",
        ),
        (
            "{ interface = \"eth0\", weight = 1 }",
            "8:24 vrrp \"a\": track: eth0 is the interface of the instance; remove it: without carrier it is at fault \
             anyway",
        ),
        (
            "{ command = [\"true\"], weight = 1 }",
            "8:23 vrrp \"a\": track: \"true\" is not an absolute path; begin it with /",
        ),
        (
            "{ service = \"web\", fall = 2, weight = 1 }",
            "8:36 vrrp \"a\": track: fall without a command; it is for programs",
        ),
    ];
    for (track, expected) in cases {
        assert_eq!(on(&format!("track = [{track}]")), [expected], "for {track}");
    }
    let relative = "8:11 vrrp \"a\": notify: \"a\" is not an absolute path; begin it with /";
    assert_eq!(on("notify = [\"a\"]"), [relative]);
}

#[test]
fn what_contradicts_itself() {
    let cases = [
        (
            "preempt = false\npreempt_delay = \"1s\"",
            "9:17 vrrp \"a\": preempt_delay, and preempt = false never does; remove one of them",
        ),
        (
            "priority = 255\npreempt = false",
            "9:11 vrrp \"a\": priority 255 is for the owner of the addresses, who always takes them; remove preempt, or \
             give 254",
        ),
        (
            "priority = 255\ntrack = [{ service = \"web\", weight = -1 }]",
            "9:38 warning: vrrp \"a\": track: nothing changes the priority of an owner; give weight 0, or a priority below \
             255",
        ),
        (
            "group = \"g\"",
            "8:9 warning: vrrp \"a\": nobody else is in group \"g\"; give it to the instances that belong together",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(on(lines), [expected], "for {lines}");
    }
}

#[test]
fn instances_beside_each_other() {
    let beside = |second: &str| on(&format!("[vrrp.b]\n{second}"));
    let taken = "10:6 vrrp \"b\": id 1 is taken on eth0; first given at 6:6";
    assert_eq!(
        beside("interface = \"eth0\"\nid = 1\naddresses = [\"198.18.0.2\"]"),
        [taken]
    );
    assert_eq!(
        beside("interface = \"eth1\"\nid = 1\naddresses = [\"198.18.0.2\"]"),
        [""; 0]
    );
    assert_eq!(
        beside("interface = \"eth0\"\nid = 1\naddresses = [\"fe80::2\"]"),
        [""; 0]
    );
    let shared = "11:14 vrrp \"b\": 198.18.0.1 is an address of vrrp \"a\"; first given at 7:14";
    assert_eq!(
        beside("interface = \"eth0\"\nid = 2\naddresses = [\"198.18.0.1\"]"),
        [shared]
    );
}

/// Whoever is master has it.
#[test]
fn a_listen_that_is_shared_needs_no_interface_to_have_it() {
    let mut network = Network::default();
    let link = Link {
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        up: true,
        mtu: 1500,
        addresses: Vec::new(),
        xdp: None,
        device: Device::Card,
    };
    network.links.insert(2, link);
    let unowned = |text: &str| read(text).unwrap().unowned_listens(&network).len();
    assert_eq!(unowned(super::SMALLEST), 1);
    let vrrp = "[vrrp.a]\ninterface = \"eth0\"\nid = 1\naddresses = [\"198.18.0.100/24\"]\n";
    assert_eq!(unowned(&format!("{}{vrrp}", super::SMALLEST)), 0);
}
