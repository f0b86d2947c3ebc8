//! Adverts and announcements of ours on the wire, as tshark reads them.

use std::fs;

use lb_tests::lab::*;

use super::ownership::{EVENTUALLY, config};
use super::*;

/// Of one frame: these fields, and what they are.
fn reads(frame: &Dissected, expected: &[(&str, &[&str])]) -> Result<()> {
    for (field, values) in expected {
        let found = frame.get(*field).cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        ensure!(
            found == serde_json::json!(values),
            "{field} is not {values:?}: {frame:?}"
        );
    }
    Ok(())
}

pub(super) const FIELDS: &[&str] = &[
    "frame.time_epoch",
    "eth.src",
    "eth.dst",
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.dsfield",
    "ip.checksum.status",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "vrrp.version",
    "vrrp.type",
    "vrrp.virt_rtr_id",
    "vrrp.prio",
    "vrrp.addr_count",
    "vrrp.checksum.status",
    "vrrp.auth_type",
    "vrrp.auth_string",
    "vrrp.adver_int",
    "vrrp.short_adver_int",
    "vrrp.ip_addr",
    "vrrp.ipv6_addr",
    "arp.opcode",
    "arp.isgratuitous",
    "arp.src.hw_mac",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "icmpv6.type",
    "icmpv6.checksum.status",
    "icmpv6.nd.na.flag.r",
    "icmpv6.nd.na.flag.s",
    "icmpv6.nd.na.flag.o",
    "icmpv6.nd.na.target_address",
    "icmpv6.opt.linkaddr",
    "_ws.expert.message",
];

/// tshark's words for it.
const GOOD: &[&str] = &["1"];

type Expected = &'static [(&'static str, &'static [&'static str])];

const IPV4: Expected = &[
    ("eth.dst", &["01:00:5e:00:00:12"]),
    ("ip.src", &["198.18.0.11"]),
    ("ip.dst", &["224.0.0.18"]),
    ("ip.ttl", &["255"]),
    ("ip.dsfield", &["0xc0"]),
    ("ip.checksum.status", GOOD),
];
const VERSION_3: Expected = &[
    ("vrrp.version", &["3"]),
    ("vrrp.addr_count", &["1"]),
    ("vrrp.short_adver_int", &["3"]),
    ("vrrp.ip_addr", &["198.18.0.100"]),
];
const VERSION_2: Expected = &[
    ("vrrp.version", &["2"]),
    ("vrrp.addr_count", &["2"]),
    ("vrrp.auth_type", &["1"]),
    ("vrrp.auth_string", &["mellon"]),
    ("vrrp.adver_int", &["1"]),
    ("vrrp.ip_addr", &["198.18.0.101", "198.18.0.102"]),
];
const IPV6: Expected = &[
    ("eth.dst", &["33:33:00:00:00:12"]),
    ("ipv6.dst", &["ff02::12"]),
    ("ipv6.hlim", &["255"]),
    ("vrrp.version", &["3"]),
    ("vrrp.addr_count", &["2"]),
    ("vrrp.short_adver_int", &["25"]),
    ("vrrp.ipv6_addr", &["fe80::100", "2001:db8::100"]),
];

#[test]
fn tshark_reads_what_we_say_as_it_was_meant() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let frames = said(lab, &net)?;
        let mac = Twins::mac(&net.a)?.map(|byte| format!("{byte:02x}")).join(":");
        let of_a: Vec<_> = frames.into_iter().filter(|frame| is(frame, "eth.src", &mac)).collect();
        check_adverts(&of_a, "51", "150", &[IPV4, VERSION_3].concat())?;
        check_adverts(&of_a, "52", "151", &[IPV4, VERSION_2].concat())?;
        check_adverts(&of_a, "53", "152", IPV6)?;
        for address in ["198.18.0.100", "198.18.0.101", "198.18.0.102"] {
            check_arp(&of_a, &mac, address)?;
        }
        for address in ["fe80::100", "2001:db8::100"] {
            check_neighbour(&of_a, &mac, address)?;
        }
        Ok(())
    });
}

/// By a node that becomes master of three instances, and leaves.
fn said(lab: &Lab, net: &Twins) -> Result<Vec<Dissected>> {
    let password = lab.folder().join("vrrp-password");
    fs::write(&password, "mellon\n")?;
    let text = config(net, "a", 150)
        + &format!(
            "\n[vrrp.old]\ninterface = \"eth0\"\nid = 52\nversion = 2\npriority = 151\n\
             password_file = {password:?}\naddresses = [\"198.18.0.101/24\", \"198.18.0.102/24\"]\n\n\
             [vrrp.six]\ninterface = \"eth0\"\nid = 53\npriority = 152\ninterval = \"250ms\"\n\
             addresses = [\"fe80::100/64\", \"{VIP6}/64\"]\n"
        );
    let _servers = net.serve(lab)?;
    let capture = Capture::start(lab, &net.watcher, "ip proto 112 or ip6 proto 112 or arp or icmp6")?;
    let mut naru = Naru::run(lab, &net.a, &text)?;
    until(EVENTUALLY, || {
        let told = naru.vrrp()?;
        let mut instances = told["instances"].as_array().context("a list of instances")?.iter();
        ensure!(
            instances.all(|one| one["role"] == "master" && number(&one["sent"]) > 2),
            "{told}"
        );
        Ok(())
    })?;
    naru.stop()?;
    until(EVENTUALLY, || {
        let frames = capture.read(lab, FIELDS)?;
        let resigned = frames.iter().filter(|frame| is(frame, "vrrp.prio", "0"));
        ensure!(resigned.count() == 3, "not all resignations are there");
        Ok(frames)
    })
}

pub(super) fn is(frame: &Dissected, field: &str, value: &str) -> bool {
    frame.get(field).is_some_and(|found| found[0] == value)
}

/// The last of them resigns.
fn check_adverts(frames: &[Dissected], id: &str, priority: &str, expected: &[(&str, &[&str])]) -> Result<()> {
    let adverts: Vec<_> = frames
        .iter()
        .filter(|frame| is(frame, "vrrp.virt_rtr_id", id))
        .collect();
    let (last, others) = adverts.split_last().context("an advert")?;
    ensure!(others.len() > 1, "{} adverts of {id}", adverts.len());
    for advert in &adverts {
        let good: &[(&str, &[&str])] = &[
            ("vrrp.type", GOOD),
            ("vrrp.checksum.status", GOOD),
            ("_ws.expert.message", &[]),
        ];
        reads(advert, good)?;
        reads(advert, expected)?;
    }
    others
        .iter()
        .try_for_each(|advert| reads(advert, &[("vrrp.prio", &[priority])]))?;
    reads(last, &[("vrrp.prio", &["0"])])
}

pub(super) fn check_arp(frames: &[Dissected], mac: &str, address: &str) -> Result<()> {
    let told = frames.iter().filter(|frame| is(frame, "arp.src.proto_ipv4", address));
    let told: Vec<_> = told.filter(|frame| is(frame, "eth.dst", "ff:ff:ff:ff:ff:ff")).collect();
    ensure!(told.len() > 1, "{address} was announced {} times", told.len());
    let expected: &[(&str, &[&str])] = &[
        ("arp.opcode", &["1"]),
        ("arp.isgratuitous", GOOD),
        ("arp.src.hw_mac", &[mac]),
        ("arp.dst.proto_ipv4", &[address]),
        ("_ws.expert.message", &[]),
    ];
    told.into_iter().try_for_each(|frame| reads(frame, expected))
}

pub(super) fn check_neighbour(frames: &[Dissected], mac: &str, address: &str) -> Result<()> {
    let told = frames
        .iter()
        .filter(|frame| is(frame, "icmpv6.nd.na.target_address", address));
    let told: Vec<_> = told.collect();
    ensure!(told.len() > 1, "{address} was announced {} times", told.len());
    let expected: &[(&str, &[&str])] = &[
        ("eth.dst", &["33:33:00:00:00:01"]),
        ("ipv6.dst", &["ff02::1"]),
        ("ipv6.src", &[address]),
        ("ipv6.hlim", &["255"]),
        ("icmpv6.type", &["136"]),
        ("icmpv6.checksum.status", GOOD),
        ("icmpv6.nd.na.flag.s", &["0"]),
        ("icmpv6.nd.na.flag.o", &["1"]),
        ("icmpv6.opt.linkaddr", &[mac]),
        ("_ws.expert.message", &[]),
    ];
    told.into_iter().try_for_each(|frame| reads(frame, expected))
}
