//! What tools read, for one small world. What people read stands in `tests/it/scenarios`.

use std::time::{Duration, Instant, UNIX_EPOCH};

use lb_common::abi::Traffic;

use super::*;
use crate::core::config::parse;
use crate::core::desired::desired;
use crate::core::health::observation::{Facts, Observation, Outcome, Phase};
use crate::core::network::{Device, KernelRoute, Link, Network, Own, Prefix, XdpAttachment, XdpMode};
use crate::core::world::{Event, Moment};

const FILE: &str = r#"
[node]
name = "lb-b"
max_flows = 1024
[service.web]
listen = "198.18.0.100:80"
backends = ["198.18.0.11:8080", "198.18.0.12:8080"]
"#;

fn network() -> Network {
    let link = Link {
        name: "eth0".into(),
        mac: [2, 0, 0, 0, 0, 1],
        up: true,
        mtu: 1500,
        addresses: vec![Own::lasting([198, 18, 0, 100].into(), 24)],
        xdp: Some(XdpAttachment {
            program_id: 7,
            mode: XdpMode::Generic,
        }),
        device: Device::Card,
    };
    let prefix = Prefix {
        address: [198, 18, 0, 0].into(),
        length: 24,
    };
    Network {
        links: BTreeMap::from([(2, link)]),
        routes: BTreeMap::from([(
            prefix,
            KernelRoute {
                ifindex: 2,
                gateway: None,
                source: None,
            },
        )]),
        neighbours: BTreeMap::from([((2, [198, 18, 0, 11].into()), [2, 0, 0, 0, 0, 11])]),
    }
}

fn world() -> World {
    let now = Moment {
        monotonic: Instant::now(),
        wall: UNIX_EPOCH + Duration::from_secs(1_767_225_600),
    };
    let mut world = World::adopt(&KernelState::default(), now);
    world.handle(Event::Network(network()), now);
    world.handle(Event::Config(Ok(parse("naru.toml", FILE).unwrap())), now);
    world.handle(Event::Tick, now);
    for launch in world.take_launches() {
        let observation = Observation {
            outcome: Outcome::Up(Facts::default()),
            phase: Phase::Connect,
            latency: Duration::from_millis(1),
        };
        world.handle(Event::Observed(vec![(launch, observation)]), now);
    }
    world.handle(Event::FlowCounts(BTreeMap::from([(1, 3), (2, 997)])), now);
    world.handle(Event::Config(Err("naru.toml:1:1 broken".into())), now);
    world
}

fn status(world: &World, actual: &KernelState) -> serde_json::Value {
    let traffic = Traffic {
        new_flows: 5,
        packets_to_backend: 10,
        bytes_to_backend: 1000,
        packets_to_client: 8,
        bytes_to_client: 800,
        ports_exhausted: 3,
    };
    let counters = Counters {
        traffic: BTreeMap::from([(1, traffic)]),
        verdicts: BTreeMap::from([(Reason::NoBackend, 2), (Reason::NotOurs, 9)]),
        flow_capacity: 1024,
        native_refused: BTreeMap::new(),
    };
    let about = About {
        host: "host",
        version: "0.1.0",
        config: Path::new("naru.toml"),
    };
    serde_json::to_value(Status::of(world, actual, &counters, &about, Instant::now())).unwrap()
}

#[test]
fn the_document_is_the_contracts() {
    let world = world();
    let status = status(&world, &desired(&world));
    let (since, listen) = ("2026-01-01T00:00:00Z", "198.18.0.100:80");
    assert_eq!(status["node"], "lb-b");
    assert_eq!(status["version"], "0.1.0");
    let error = "naru.toml:1:1 broken";
    let config = serde_json::json!({"path": "naru.toml", "generation": 1, "applied_at": since, "error": error});
    assert_eq!(status["config"], config);
    assert_eq!(
        status["interfaces"],
        serde_json::json!([{"name": "eth0", "xdp": "generic", "device": "card", "lost_frames": 0,
            "reason": "an earlier start found native XDP refused, or losing frames"}])
    );
    assert_eq!(status["vrrp"], serde_json::json!([]));
    let backend = |address: &str| {
        serde_json::json!({"name": address, "host": null, "address": address, "weight": 1, "effective_weight": 1, "state": "up",
            "reason": "", "since": since, "active_flows": 3, "new_flows": 5, "packets": 18, "bytes": 1800,
            "snat_ports_exhausted": 3})
    };
    let mut other = backend("198.18.0.12:8080");
    for (field, value) in [
        ("effective_weight", 0),
        ("active_flows", 997),
        ("new_flows", 0),
        ("packets", 0),
        ("bytes", 0),
        ("snat_ports_exhausted", 0),
    ] {
        other[field] = value.into();
    }
    other["state"] = "down".into();
    other["reason"] = "no neighbour at 198.18.0.12 on eth0 yet".into();
    let web = serde_json::json!({"name": "web", "listen": [listen], "protocol": "tcp", "mode": "nat",
        "algorithm": "maglev", "state": "degraded", "backends": [backend("198.18.0.11:8080"), other]});
    assert_eq!(status["services"], serde_json::json!([web]));
    assert_eq!(status["drops"]["no_backend"], 2);
    assert_eq!(status["drops"]["flow_table_full"], 0);
    assert_eq!(status["drops"].get("not_ours"), None);
    assert_eq!(status["passes"]["not_ours"], 9);
    assert_eq!(
        status["flows"],
        serde_json::json!({"active": 1000, "ipv4": 1000, "ipv6": 0, "capacity": 1024})
    );
    let full = "the flow table of IPv4 is nearly full: 1000 of 1024; raise [node] max_flows";
    assert_eq!(status["warnings"], serde_json::json!([full]));
}

#[test]
fn a_table_with_more_flows_than_it_is_made_for_says_so() {
    let mut world = world();
    let now = Moment {
        monotonic: Instant::now(),
        wall: UNIX_EPOCH,
    };
    world.handle(Event::FlowCounts(BTreeMap::from([(1, 1981)])), now);
    let document = status(&world, &desired(&world));
    let fuller = "the flow table of IPv4 has more flows than it is made for: 1981, made for 1024; new ones may find no \
                  place; raise [node] max_flows";
    assert_eq!(document["warnings"], serde_json::json!([fuller]));
    let shown = render(&serde_json::from_value(document).unwrap());
    assert!(shown.contains("flows    1981, made for 1024"), "{shown}");
}

#[test]
fn clients_read_what_the_daemon_writes() {
    let world = world();
    let document = status(&world, &desired(&world));
    let read: Status = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), document);
}

#[test]
fn what_the_kernel_does_not_have_is_not_up() {
    let world = world();
    let mut actual = desired(&world);
    actual.attached.clear();
    assert_eq!(status(&world, &actual)["services"][0]["state"], "down");
    actual = desired(&world);
    actual.listens.clear();
    assert_eq!(status(&world, &actual)["services"][0]["state"], "down");
}

#[test]
fn a_table_of_another_size_is_told_while_it_stays() {
    let file = FILE.replace("1024", "4096");
    let now = Moment {
        monotonic: Instant::now(),
        wall: UNIX_EPOCH,
    };
    let mut world = World::adopt(&KernelState::default(), now);
    world.handle(Event::Network(network()), now);
    world.handle(Event::Config(Ok(parse("naru.toml", &file).unwrap())), now);
    let warnings = status(&world, &desired(&world))["warnings"].to_string();
    assert!(
        warnings.contains("asks for a flow table of 4096, and the one there has 1024"),
        "{warnings}"
    );
    assert!(warnings.contains("when the pins are removed"), "{warnings}");
}
