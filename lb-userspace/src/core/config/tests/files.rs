//! Whole files: the ones we ship, the smallest, the largest, and what becomes of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::super::*;
use super::{SMALLEST, config, found};
use crate::core::network::{Device, Link, Own};

const SHIPPED: &str = include_str!("../../../../../config/naru.toml");
const DEMO: &str = include_str!("../../../../../config/demo.toml");
const EXAMPLE: &str = include_str!("../../../../../config/naru.example.toml");

fn backend(name: &str, address: &str, weight: u16) -> Backend {
    Backend {
        name: name.to_owned(),
        place: Place::Address(address.parse().unwrap()),
        weight,
        backup: false,
    }
}

#[test]
fn the_smallest_file_gets_the_defaults() {
    let config = config(SMALLEST);
    assert_eq!(
        config.node,
        Node {
            name: None,
            interfaces: None,
            xdp: Xdp::Auto,
            run_dir: "/run/naru".into(),
            state_dir: "/var/lib/naru".into(),
            pin_dir: "/sys/fs/bpf/naru".into(),
            max_flows: 262_144,
        }
    );
    let web = Service {
        listens: vec!["198.18.0.100:80".parse().unwrap()],
        protocol: Protocol::Tcp,
        mode: Mode::Nat,
        algorithm: Algorithm::Maglev,
        snat: vec![],
        idle_timeout: Duration::from_secs(4 * 3600),
        on_down: OnDown::Drain,
        check: Some(Check {
            ask: Ask::Tcp,
            address: None,
            port: None,
            every: Duration::from_millis(200),
            timeout: Duration::from_millis(150),
            connect_timeout: Duration::from_millis(150),
            fall: 3,
            rise: 2,
        }),
        max_active: None,
        slow_start: None,
        when_none_up: WhenNoneUp::Refuse,
        backends: vec![
            backend("198.18.1.11:8080", "198.18.1.11:8080", 1),
            backend("198.18.1.12:8080", "198.18.1.12:8080", 1),
        ],
    };
    assert_eq!(config.services, BTreeMap::from([("web".to_owned(), web)]));
}

#[test]
fn every_available_key_arrives() {
    let text = r#"
[node]
name = "lb-a"
interfaces = ["eth0", "eth1"]
xdp = "generic"
run_dir = "/run/a"
state_dir = "/var/lib/a"
pin_dir = "/sys/fs/bpf/a"
max_flows = 1_024
[backend.b]
address = "198.18.1.2:53"
[backend.a]
address = "198.18.1.1:53"
[service.dns]
listen = ["198.18.0.2:53", "198.18.0.1:53"]
protocol = "udp"
mode = "nat"
algorithm = "maglev"
snat = ["198.18.0.9", "198.18.0.10"]
backends = ["b", "198.18.1.3:53", "a"]
weights = { a = 7, "198.18.1.3:53" = 0 }
on_down = "reset"
[service.short]
listen = "198.18.0.3:53"
protocol = "udp"
idle_timeout = "1500ms"
backends = ["a"]
[alarm.loud]
service = "dns"
backend = "a"
metric = "bytes"
above = 1.5
period = "1s"
datapoints = "3 of 5"
missing = "breaching"
weights = { a = 0, "198.18.1.3:53" = 9 }
clear_after = "2s"
ramp = "3s"
"#;
    let config = config(text);
    assert_eq!(
        config.node,
        Node {
            name: Some("lb-a".to_owned()),
            interfaces: Some(vec!["eth0".to_owned(), "eth1".to_owned()]),
            xdp: Xdp::Generic,
            run_dir: "/run/a".into(),
            state_dir: "/var/lib/a".into(),
            pin_dir: "/sys/fs/bpf/a".into(),
            max_flows: 1024,
        }
    );
    assert_eq!(
        config.services["dns"],
        Service {
            listens: vec!["198.18.0.2:53".parse().unwrap(), "198.18.0.1:53".parse().unwrap()],
            protocol: Protocol::Udp,
            mode: Mode::Nat,
            algorithm: Algorithm::Maglev,
            snat: vec!["198.18.0.9".parse().unwrap(), "198.18.0.10".parse().unwrap()],
            idle_timeout: Duration::from_secs(60),
            on_down: OnDown::Reset,
            check: None,
            max_active: None,
            slow_start: None,
            when_none_up: WhenNoneUp::Refuse,
            backends: vec![
                backend("b", "198.18.1.2:53", 1),
                backend("198.18.1.3:53", "198.18.1.3:53", 0),
                backend("a", "198.18.1.1:53", 7)
            ],
        }
    );
    assert_eq!(config.services["short"].idle_timeout, Duration::from_millis(1500));
    assert_eq!(
        config.alarms["loud"],
        Alarm {
            service: "dns".to_owned(),
            backend: Some("a".to_owned()),
            metric: Metric::Bytes,
            above: Threshold(1.5),
            period: Duration::from_secs(1),
            datapoints: Datapoints { ringing: 3, of: 5 },
            missing: Missing::Breaching,
            weights: BTreeMap::from([("198.18.1.3:53".to_owned(), 9), ("a".to_owned(), 0)]),
            clear_after: Duration::from_secs(2),
            ramp: Duration::from_secs(3),
        }
    );
}

#[test]
fn sections_may_be_written_inline_or_dotted() {
    let inline =
        "service = { web = { listen = \"198.18.0.100:80\", backends = [\"198.18.1.11:8080\", \"198.18.1.12:8080\"] } }";
    let dotted =
        "service.web.listen = \"198.18.0.100:80\"\nservice.web.backends = [\"198.18.1.11:8080\", \"198.18.1.12:8080\"]";
    assert_eq!(config(inline), config(SMALLEST));
    assert_eq!(config(dotted), config(SMALLEST));
}

#[test]
fn the_shipped_files_are_good() {
    assert_eq!(found(SHIPPED), [""; 0]);
    assert_eq!(found(DEMO), [""; 0]);
    assert_eq!(found(EXAMPLE), [""; 0]);
    let weights: Vec<u16> = config(DEMO).services["web"]
        .backends
        .iter()
        .map(|backend| backend.weight)
        .collect();
    assert_eq!(weights, [1, 2, 3]);
}

#[test]
fn the_shipped_file_shows_every_default() {
    let uncommented = SHIPPED.lines().map(|line| match line.strip_prefix("# ") {
        // It shows the other way to write what is there already.
        Some(key) if key.contains(" = ") && !key.starts_with("listen") => key,
        _ => line,
    });
    let all = config(&uncommented.collect::<Vec<_>>().join("\n"));
    let mut shipped = config(SHIPPED);
    // Examples, not defaults.
    shipped.node.name = Some("lb-a".to_owned());
    shipped.node.interfaces = Some(vec!["eth0".to_owned()]);
    shipped.dns.servers = Some(vec!["198.18.0.53:53".parse().unwrap()]);
    let web = shipped.services.get_mut("web").unwrap();
    web.snat = vec!["198.18.0.100".parse().unwrap()];
    web.max_active = Some(1);
    web.slow_start = Some(Duration::from_secs(30));
    web.backends.push(Backend {
        backup: true,
        ..backend("198.18.1.13:8080", "198.18.1.13:8080", 1)
    });
    let check = web.check.as_mut().unwrap();
    check.address = Some("198.18.1.13".parse().unwrap());
    check.port = Some(8081);
    let Ask::Http(http) = &mut check.ask else {
        panic!("{:?}", check.ask)
    };
    http.host = Some("app.example".to_owned());
    http.headers = vec![("X-Probe".to_owned(), "naru".to_owned())];
    http.body = Some("all is well".to_owned());
    shipped.alarms.get_mut("web-a-overload").unwrap().backend = Some("web-a".to_owned());
    assert_eq!(all, shipped);
}

#[test]
fn names_are_asked_about_in_the_family_of_their_service() {
    let text = r#"[dns]
servers = ["198.18.0.53:5353"]
max_ttl = "500ms"
[backend.cloud]
host = "App.Example.:80"
[service.four]
listen = "198.18.0.100:80"
backends = ["cloud", "198.18.1.11:80"]
[service.six]
listen = "[2001:db8::1]:80"
backends = ["app.example:81", "records"]
[backend.records]
srv = "_http._tcp.App.example."
"#;
    let config = config(text);
    let questions: Vec<Question> = config.questions().collect();
    let question = |host, family| Question::new(host, family, Wanted::Addresses);
    let records = Question::new("_http._tcp.app.example.", Family::Ipv6, Wanted::Targets);
    let addresses =
        [("app.example.", Family::Ipv4), ("app.example", Family::Ipv6)].map(|(host, family)| question(host, family));
    assert_eq!(questions, [addresses.as_slice(), &[records]].concat());
    let half = Duration::from_millis(500);
    let dns = Dns {
        servers: Some(vec!["198.18.0.53:5353".parse().unwrap()]),
        min_ttl: half,
        max_ttl: half,
    };
    assert_eq!(config.dns, dns);
}

#[test]
fn a_file_without_services_is_refused() {
    for text in ["", "# all of it\n", "[node]\nname = \"a\"\n"] {
        assert_eq!(found(text), ["1:1 no service is defined, so nothing would be served"]);
    }
}

#[test]
fn limits_of_the_kernel_maps() {
    let services = |count: usize, backends: usize, listens: usize| {
        let mut text = String::new();
        for id in 0..count {
            let address = |port: usize| format!("\"198.18.{}.{}:{}\"", id / 250, id % 250, port);
            let list = |first, count| (first..first + count).map(address).collect::<Vec<_>>().join(",");
            writeln!(
                text,
                "[service.s{id}]\nlisten = [{}]\nbackends = [{}]",
                list(1, listens),
                list(100, backends)
            )
            .unwrap();
        }
        found(&text)
    };
    assert_eq!(services(4095, 8, 4), [""; 0]);
    assert_eq!(
        services(4096, 1, 1),
        ["12286:1 service \"s4095\": more than 4095 services"]
    );
    assert_eq!(services(4095, 1, 5).len(), 1);
    assert_eq!(
        services(1, 32_768, 1),
        ["1:1 service \"s0\": more than 32767 backends in all"]
    );
}

#[test]
fn a_listen_on_no_interface_is_a_warning() {
    let four = "[service.web]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.11:80\"]\n";
    let parsed = parse("naru.toml", four).unwrap();
    let on = |address: &str| {
        let link = Link {
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            mtu: 1500,
            addresses: vec![Own::lasting(address.parse().unwrap(), 24)],
            xdp: None,
            device: Device::Card,
        };
        Network {
            links: BTreeMap::from([(2, link)]),
            ..Network::default()
        }
    };
    assert_eq!(parsed.unowned_listens(&on("198.18.0.100")), Vec::<&Diagnostic>::new());
    let unowned: Vec<String> = parsed
        .unowned_listens(&on("198.18.0.1"))
        .iter()
        .map(|found| found.headline())
        .collect();
    assert_eq!(
        unowned,
        ["naru.toml:2:10 warning: service \"web\": 198.18.0.100 is on no interface, so nobody answers ARP for it"]
    );
    let six = "[service.web]\nlisten = \"[2001:db8::100]:80\"\nbackends = [\"[2001:db8:1::11]:80\"]\n";
    let parsed = parse("naru.toml", six).unwrap();
    assert_eq!(
        parsed.unowned_listens(&on("2001:db8::1"))[0].to_string(),
        "naru.toml:2:10 warning: service \"web\": 2001:db8::100 is on no interface, so nobody answers ND for it\n  \
         hint: `ip address add 2001:db8::100/128 dev INTERFACE`, or a listen this host has"
    );
}

/// `/run` does not outlive the machine's restart, so the usual folder written out must mean what it means left out.
#[test]
fn what_is_kept_follows_a_folder_of_its_own() {
    let state_dir = |node: &str| config(&format!("{SMALLEST}[node]\n{node}")).node.state_dir;
    assert_eq!(state_dir(""), Path::new("/var/lib/naru"));
    assert_eq!(state_dir("run_dir = \"/run/naru\""), Path::new("/var/lib/naru"));
    assert_eq!(state_dir("run_dir = \"/run/a\""), Path::new("/run/a"));
    assert_eq!(
        state_dir("run_dir = \"/run/a\"\nstate_dir = \"/var/lib/a\""),
        Path::new("/var/lib/a")
    );
}

#[test]
fn a_diagnostic_as_json() {
    let found = parse("naru.toml", "[node]\nxdp = \"nativ\"\n[service.a]").unwrap_err();
    let expected = serde_json::json!({
        "file": "naru.toml",
        "line": 2,
        "column": 7,
        "severity": "error",
        "message": "[node]: xdp: unknown value \"nativ\"",
        "hint": "did you mean `native`?",
        "count": 1,
    });
    assert_eq!(serde_json::to_value(&found[0]).unwrap(), expected);
    assert_eq!(
        found[0].to_string(),
        "naru.toml:2:7 [node]: xdp: unknown value \"nativ\"\n  hint: did you mean `native`?"
    );
}
