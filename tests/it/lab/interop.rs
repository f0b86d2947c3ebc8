//! keepalived as the other node: each takes over from the other and yields to it, and neither refuses what the other says.

use std::fs;
use std::time::Instant;

use lb_tests::lab::*;

use super::*;

/// In version 2 a silent master is missed after 3.6 s.
const EVENTUALLY: Duration = Duration::from_secs(12);
/// keepalived takes an address before the one it preempts has heard of it.
const BOTH: Duration = Duration::from_millis(100);
const NARU: u8 = 150;

/// One way to speak VRRP: an instance of both programs, all else being the same.
struct Wire {
    id: u8,
    addresses: &'static [&'static str],
    interval_ms: u32,
    /// Further lines of either configuration.
    naru: &'static str,
    keepalived: &'static str,
}

const VERSION_2: &[Wire] = &[
    Wire {
        id: 51,
        addresses: &["198.18.0.100/24"],
        interval_ms: 1000,
        naru: "version = 2",
        keepalived: "version 2",
    },
    Wire {
        id: 52,
        addresses: &["198.18.0.101/24"],
        interval_ms: 1000,
        naru: "version = 2\npassword_file = \"PASSWORD\"",
        keepalived: "version 2\nauthentication {\nauth_type PASS\nauth_pass mellon\n}",
    },
];

const VERSION_3: &[Wire] = &[
    Wire {
        id: 51,
        addresses: &["198.18.0.100/24", "198.18.0.101/32"],
        interval_ms: 100,
        naru: "",
        keepalived: "version 3",
    },
    Wire {
        id: 52,
        addresses: &["198.18.0.102/24"],
        interval_ms: 100,
        naru: "peers = [\"198.18.0.12\"]",
        keepalived: "version 3\nunicast_peer {\n198.18.0.11\n}\nold_unicast_checksum never",
    },
    Wire {
        id: 52,
        addresses: &["fe80::100/64", "2001:db8::100/64"],
        interval_ms: 100,
        naru: "",
        keepalived: "version 3\nnative_ipv6",
    },
    Wire {
        id: 53,
        addresses: &["198.18.0.103/24"],
        interval_ms: 10,
        naru: "",
        keepalived: "version 3",
    },
];

fn naru_config(lab: &Lab, net: &Twins, wires: &[Wire]) -> Result<String> {
    let password = lab.folder().join("vrrp-password");
    fs::write(&password, "mellon\n")?;
    let mut text = format!("[node]\nname = \"a\"\nmax_flows = 4096\n\n{}\n", net.service());
    for (index, wire) in wires.iter().enumerate() {
        let Wire {
            id,
            addresses,
            interval_ms,
            naru,
            ..
        } = wire;
        text += &format!(
            "[vrrp.wire{index}]\ninterface = \"eth0\"\nid = {id}\npriority = {NARU}\ninterval = \"{interval_ms}ms\"\n\
             addresses = {addresses:?}\n{}\n\n",
            naru.replace("PASSWORD", &password.to_string_lossy())
        );
    }
    Ok(text)
}

fn keepalived_config(wires: &[Wire], priority: u8) -> String {
    // As Naru has it: adverts come before other work.
    let mut text = "global_defs {\nvrrp_rt_priority 50\nvrrp_rlimit_rttime 1000000\n}\n".to_owned();
    for (index, wire) in wires.iter().enumerate() {
        let Wire {
            id,
            addresses,
            interval_ms,
            keepalived,
            ..
        } = wire;
        let interval = f64::from(*interval_ms) / 1000.0;
        text += &format!(
            "vrrp_instance wire{index} {{\ninterface eth0\nvirtual_router_id {id}\npriority {priority}\n\
             advert_int {interval}\n{keepalived}\nvirtual_ipaddress {{\n{}\n}}\n}}\n",
            addresses.join("\n")
        );
    }
    text
}

/// Naru on `a`, keepalived on `b`.
struct Mixed<'lab> {
    net: &'lab Twins,
    wires: &'lab [Wire],
    naru: Naru<'lab>,
    watch: ArpWatch,
}

impl Mixed<'_> {
    fn has_all(&self, node: &Namespace) -> Result<bool> {
        let shown = node.stdout("ip", &["-br", "address", "show", "eth0"])?;
        let addresses: Vec<_> = self.wires.iter().flat_map(|wire| wire.addresses).collect();
        let has = |address: &&&str| shown.split_whitespace().any(|word| word == **address);
        let count = addresses.iter().filter(|address| has(address)).count();
        ensure!(
            [0, addresses.len()].contains(&count),
            "{} has only some: {shown}",
            node.role()
        );
        Ok(count > 0)
    }

    /// Naru says so, and so do the addresses of both.
    fn roles(&self, role: &str) -> Result<()> {
        let told = self.naru.vrrp()?;
        let instances = told["instances"].as_array().context("a list of instances")?;
        let all = instances.iter().all(|instance| instance["role"] == role);
        ensure!(all && instances.len() == self.wires.len(), "not all are {role}: {told}");
        let is_master = role == "master";
        let hears = |instance: &Value| is_master || instance["master"].is_object();
        ensure!(instances.iter().all(hears), "not all hear a master: {told}");
        ensure!(self.has_all(&self.net.a)? == is_master, "addresses of Naru");
        ensure!(self.has_all(&self.net.b)? != is_master, "addresses of keepalived");
        Ok(())
    }

    fn naru_is(&self, role: &str, since: Instant, what: &str) -> Result<()> {
        until(EVENTUALLY, || self.roles(role)).with_context(|| what.to_owned())?;
        note(&format!("{what}: {:?}", since.elapsed()));
        Ok(())
    }

    fn keepalived_has_all(&self, since: Instant, what: &str) -> Result<()> {
        until_true(EVENTUALLY, "keepalived has no address", || self.has_all(&self.net.b)).context(what.to_owned())?;
        note(&format!("{what}: {:?}", since.elapsed()));
        Ok(())
    }

    /// No longer than that, both of them answered.
    fn moved(&self, since: Instant, from: &Namespace, to: &Namespace) -> Result<()> {
        let (from, to) = (Twins::mac(from)?, Twins::mac(to)?);
        // Whoever has it now has been heard.
        until_true(EVENTUALLY, "nobody answers by ARP", || {
            Ok(self.watch.owners().last() == Some(&to))
        })?;
        let both = self.watch.overlap(since, from, to);
        note(&format!("both had the address for {both:?}"));
        ensure!(both <= BOTH, "both had the address for {both:?}");
        Ok(())
    }

    fn refused_nothing(&self, keepalived: &Keepalived) -> Result<()> {
        let told = self.naru.vrrp()?;
        for instance in told["instances"].as_array().context("a list of instances")? {
            ensure!(number(&instance["received"]) > 0, "heard nothing: {instance}");
            ensure!(instance["refused"] == serde_json::json!({}), "{instance}");
            ensure!(instance["other_addresses"] == 0, "{instance}");
        }
        ensure!(told["refused"] == serde_json::json!({}), "{}", told["refused"]);
        let complaints = keepalived.complaints()?;
        ensure!(complaints.is_empty(), "keepalived complains: {complaints:#?}");
        Ok(())
    }
}

/// Whoever has the higher priority dies, comes back and leaves.
fn interoperates(wires: &'static [Wire]) {
    case(move |lab| {
        let net = &Twins::new(lab, 1)?;
        let _servers = net.serve(lab)?;
        let watch = ArpWatch::start(&net.watcher, VIP)?;
        let mut keepalived = Keepalived::start(lab, &net.b, &keepalived_config(wires, 100))?;
        let naru = Naru::run(lab, &net.a, &naru_config(lab, net, wires)?)?;
        let mut mixed = Mixed {
            net,
            wires,
            naru,
            watch,
        };
        mixed.naru_is("master", Instant::now(), "Naru is first")?;

        let then = Instant::now();
        mixed.naru.kill9()?;
        mixed.keepalived_has_all(then, "keepalived takes over from Naru, which died")?;
        mixed.moved(then, &net.a, &net.b)?;

        let then = Instant::now();
        mixed.naru.start()?;
        mixed.naru_is("master", then, "Naru takes back")?;
        mixed.moved(then, &net.b, &net.a)?;
        mixed.refused_nothing(&keepalived)?;

        let then = Instant::now();
        mixed.naru.stop()?;
        mixed.keepalived_has_all(then, "keepalived takes over from Naru, which stopped")?;
        mixed.moved(then, &net.a, &net.b)?;

        keepalived.reload(&keepalived_config(wires, 200))?;
        mixed.naru.start()?;
        mixed.naru_is("backup", Instant::now(), "Naru is second")?;

        let then = Instant::now();
        net.cut_off(&net.b)?;
        keepalived.kill()?;
        until(EVENTUALLY, || {
            let told = mixed.naru.vrrp()?;
            let instances = told["instances"].as_array().context("a list of instances")?;
            ensure!(instances.iter().all(|instance| instance["role"] == "master"), "{told}");
            Ok(())
        })?;
        note(&format!(
            "Naru takes over from keepalived, which died: {:?}",
            then.elapsed()
        ));
        mixed.moved(then, &net.b, &net.a)?;

        // As after a boot.
        for address in wires.iter().flat_map(|wire| wire.addresses) {
            net.b.ip(&format!("address del {address} dev eth0"))?;
        }
        net.join(&net.b)?;
        let then = Instant::now();
        keepalived = Keepalived::start(lab, &net.b, &keepalived_config(wires, 200))?;
        mixed.naru_is("backup", then, "keepalived takes back")?;
        mixed.moved(then, &net.a, &net.b)?;

        let then = Instant::now();
        keepalived.stop()?;
        mixed.naru_is("master", then, "Naru takes over from keepalived, which stopped")?;
        mixed.moved(then, &net.b, &net.a)?;
        mixed.refused_nothing(&keepalived)
    });
}

#[test]
fn version_2_with_and_without_a_password() {
    interoperates(VERSION_2);
}

#[test]
fn version_3_to_a_group_to_a_peer_over_ipv6_and_every_10_ms() {
    interoperates(VERSION_3);
}
