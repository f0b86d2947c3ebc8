//! Two nodes whose shared address has a MAC that moves with it: for clients that never learn where it is, and the switch.

use std::io::ErrorKind;
use std::net::{SocketAddrV6, TcpStream};
use std::time::Instant;

use lb_tests::lab::*;
use lb_userspace::core::vrrp::packet::Version;

use super::dissected::{FIELDS, check_arp, check_neighbour, is};
use super::ownership::{CRASH, EVENTUALLY, GRACE, config, has_role, lost_at_most};
use super::ownership_changes::instance;
use super::*;

const MAC: &str = "00:00:5e:00:01:33";
const MAC6: &str = "00:00:5e:00:02:34";
pub(super) const MAC_BYTES: [u8; 6] = [0, 0, 0x5e, 0, 1, 0x33];
/// Nobody listens there.
const CLOSED: u16 = 9;

/// As an operator has to set it up.
pub(super) fn twins(lab: &Lab, backends: usize) -> Result<Twins> {
    let net = Twins::new(lab, backends)?;
    for node in net.nodes() {
        node.sysctl("net/ipv4/conf/eth0/arp_ignore", "1")?;
        node.sysctl("net/ipv4/conf/eth0/arp_announce", "2")?;
        // The harshest that a host may have.
        node.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    }
    Ok(net)
}

pub(super) fn with_mac(net: &Twins, name: &str, priority: u8) -> String {
    config(net, name, priority).replace("id = 51\n", "id = 51\nvirtual_mac = true\n")
}

/// The same service in IPv6.
fn six(priority: u8) -> String {
    format!(
        "\n[vrrp.six]\ninterface = \"eth0\"\nid = 52\nvirtual_mac = true\npriority = {priority}\ninterval = \"30ms\"\n\
         addresses = [\"fe80::100/64\", \"{VIP6}/64\"]\n\n\
         [service.six]\nlisten = \"[{VIP6}]:80\"\nbackends = [\"{}\"]\n",
        Twins::backend6(0)
    )
}

fn has_roles(pair: [(&Naru, &str); 2]) -> Result<()> {
    for (naru, role) in pair {
        until(EVENTUALLY, || {
            let told = naru.vrrp()?;
            let mut instances = told["instances"].as_array().context("a list of instances")?.iter();
            ensure!(instances.all(|one| one["role"] == role), "{told}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Clients have the MAC written down, and the switch is told of each move.
#[test]
fn clients_that_learn_nothing_find_whoever_is_master() {
    for ipv6 in [false, true] {
        case(|lab| {
            let net = twins(lab, 2)?;
            let _servers = net.serve(lab)?;
            let text = |name: &str, priority: u8| {
                let six = if ipv6 { six(priority) } else { String::new() };
                with_mac(&net, name, priority) + &six
            };
            let (listen, mac) = if ipv6 { (LISTEN6, MAC6) } else { (LISTEN, MAC) };
            net.client.ip(&format!(
                "neigh replace {} lladdr {mac} nud permanent dev eth0",
                listen.ip()
            ))?;
            let mut a = Naru::run(lab, &net.a, &text("a", 150))?;
            let b = Naru::run(lab, &net.b, &text("b", 100))?;
            has_roles([(&a, "master"), (&b, "backup")])?;
            let caller = Caller::start(&net.client, listen)?;
            caller.heard("b1", Instant::now(), EVENTUALLY)?;
            caller.lost_for(Instant::now(), EVENTUALLY)?;
            let moved = |what: &str, fault: Instant, within: Duration, to: &Namespace| {
                caller.lost_for(fault, EVENTUALLY)?;
                let (_, lost) = caller.since(fault);
                lost_at_most(within, lost, what)?;
                let port = net.port_of(mac)?;
                ensure!(
                    port.as_deref() == Some(to.role()),
                    "{what}: the switch sends them to {port:?}"
                );
                Ok(())
            };

            let fault = Instant::now();
            a.kill9()?;
            moved("killed", fault, CRASH, &net.b)?;
            let back = Instant::now();
            a.start()?;
            has_roles([(&a, "master"), (&b, "backup")])?;
            moved("back", back, GRACE, &net.a)?;
            let fault = Instant::now();
            a.stop()?;
            moved("stopped", fault, GRACE, &net.b)?;
            let left = net.a.stdout("ip", &["-br", "link", "show"])?;
            ensure!(!left.contains("naru"), "{left}");
            a.start()?;
            has_roles([(&a, "master"), (&b, "backup")])?;
            let fault = Instant::now();
            a.tell(&["failover"])?;
            moved("sent aside", fault, GRACE, &net.b)?;
            let back = Instant::now();
            a.tell(&["failback"])?;
            moved("sent back", back, GRACE, &net.a)
        });
    }
}

#[test]
fn clients_whom_backends_answer_directly_find_whoever_is_master() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let listen = SocketAddr::new(VIP, BACKEND_PORT);
        let backend = &net.backends[0];
        backend.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
        backend.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
        backend.ip(&format!("addr add {VIP}/32 dev lo"))?;
        let _server = Nginx::start(lab, backend, &[listen, Twins::backend(0)])?;
        net.client
            .ip(&format!("neigh replace {VIP} lladdr {MAC} nud permanent dev eth0"))?;
        let text = |name: &str, priority: u8| {
            with_mac(&net, name, priority)
                .replace(&format!("\"{VIP}:80\""), &format!("\"{listen}\"\nmode = \"dsr-l2\""))
        };
        let mut a = Naru::run(lab, &net.a, &text("a", 150))?;
        let b = Naru::run(lab, &net.b, &text("b", 100))?;
        has_roles([(&a, "master"), (&b, "backup")])?;
        let caller = Caller::start(&net.client, listen)?;
        caller.heard("b1", Instant::now(), EVENTUALLY)?;
        let fault = Instant::now();
        a.kill9()?;
        lost_at_most(CRASH, caller.lost_for(fault, EVENTUALLY)?, "killed")?;
        has_role(&b, "master")
    });
}

/// What both nodes say with the virtual MACs.
struct Overheard<'lab> {
    lab: &'lab Lab,
    nodes: [(Capture, char); 2],
}

impl<'lab> Overheard<'lab> {
    fn start(lab: &'lab Lab, net: &Twins) -> Result<Self> {
        let of_either = format!("ether src {MAC} or ether src {MAC6}");
        let nodes = [
            (net.overhear(lab, &net.a, &of_either)?, 'a'),
            (net.overhear(lab, &net.b, &of_either)?, 'b'),
        ];
        Ok(Self { lab, nodes })
    }

    /// With either MAC these spoke, one after the other; who speaks again after the other did stands there twice.
    fn only(&self, expected: &str) -> Result<()> {
        until(EVENTUALLY, || {
            for mac in [MAC, MAC6] {
                let speakers = self.speakers(mac)?;
                ensure!(speakers == expected, "{mac} was used by {speakers}");
            }
            Ok(())
        })
    }

    fn speakers(&self, mac: &str) -> Result<String> {
        let mut said = Vec::new();
        for (capture, who) in &self.nodes {
            let frames = capture.read(self.lab, FIELDS)?.into_iter();
            for frame in frames.filter(|frame| is(frame, "eth.src", mac)) {
                let at: f64 = frame["frame.time_epoch"][0].as_str().context("a time")?.parse()?;
                said.push((at, *who));
            }
        }
        said.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut speakers: Vec<char> = said.into_iter().map(|(_, who)| who).collect();
        speakers.dedup();
        Ok(speakers.into_iter().collect())
    }
}

/// While somebody asks by ARP every millisecond, and the switch for groups every second.
#[test]
fn whoever_is_not_master_says_nothing_with_the_mac() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let _servers = net.serve(lab)?;
        net.ask_for_groups()?;
        let overheard = Overheard::start(lab, &net)?;
        let a = Naru::run(lab, &net.a, &(with_mac(&net, "a", 150) + &six(150)))?;
        let mut b = Naru::run(lab, &net.b, &(with_mac(&net, "b", 100) + &six(100)))?;
        has_roles([(&a, "master"), (&b, "backup")])?;
        let watch = ArpWatch::start(&net.watcher, VIP)?;
        let caller = Caller::start(&net.client, LISTEN6)?;
        caller.heard("b1", Instant::now(), EVENTUALLY)?;
        b.restart()?;
        b.tell(&["reload"])?;
        has_roles([(&a, "master"), (&b, "backup")])?;
        // Long enough for a question about groups, and its answers.
        caller.lost_for(Instant::now() + Duration::from_secs(2), EVENTUALLY)?;
        overheard.only("a")?;

        a.tell(&["failover"])?;
        has_roles([(&a, "backup"), (&b, "master")])?;
        caller.lost_for(Instant::now() + Duration::from_secs(2), EVENTUALLY)?;
        a.tell(&["failback"])?;
        has_roles([(&a, "master"), (&b, "backup")])?;
        caller.lost_for(Instant::now() + Duration::from_secs(2), EVENTUALLY)?;
        overheard.only("aba")?;
        ensure!(watch.owners() == [MAC_BYTES], "{:02x?}", watch.owners());
        Ok(())
    });
}

/// Fenced, though its kernel has the interface still: killed when it has just told which groups it listens to.
#[test]
fn whoever_was_killed_says_nothing_with_the_mac() {
    /// Within that time hosts repeat it.
    const REPEATED: Duration = Duration::from_secs(10);
    case(|lab| {
        let net = twins(lab, 1)?;
        let _servers = net.serve(lab)?;
        let overheard = Overheard::start(lab, &net)?;
        let _watch = ArpWatch::start(&net.watcher, VIP)?;
        let _caller = Caller::start(&net.client, LISTEN6)?;
        let mut a = Naru::run(lab, &net.a, &(with_mac(&net, "a", 150) + &six(150)))?;
        has_roles([(&a, "master"), (&a, "master")])?;
        let b = Naru::run(lab, &net.b, &(with_mac(&net, "b", 100) + &six(100)))?;
        has_roles([(&b, "backup"), (&a, "master")])?;
        a.tell(&["failover"])?;
        has_roles([(&b, "master"), (&a, "backup")])?;
        // In the first second of an interface the kernel takes it for one that has come from elsewhere, and says all again.
        let there = Instant::now();
        until_true(EVENTUALLY, "two seconds", || Ok(there.elapsed() > SOON * 2))?;
        a.tell(&["failback"])?;
        has_roles([(&a, "master"), (&b, "backup")])?;
        a.kill9()?;
        let killed = Instant::now();
        has_roles([(&b, "master"), (&b, "master")])?;
        until_true(REPEATED * 2, "ten seconds", || Ok(killed.elapsed() > REPEATED))?;
        overheard.only("abab")
    });
}

/// Routers advertise under the virtual MAC: what a master says that has it as well is heard.
#[test]
fn a_better_master_with_the_same_mac_is_heard() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let naru = Naru::run(lab, &net.a, &with_mac(&net, "a", 100))?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        let mut router = Stranger::at(&net.watcher)?;
        router.assume(MAC_BYTES);
        let advert = Forged::new([198, 18, 0, 3].into(), Version::V3, 51, 200, Duration::from_millis(100));
        until(EVENTUALLY, || {
            router.say(&advert)?;
            has_role(&naru, "backup")
        })
    });
}

#[test]
fn announcements_are_of_the_mac_inside_and_outside() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let capture = Capture::start(lab, &net.watcher, "arp or icmp6")?;
        let naru = Naru::run(lab, &net.a, &(with_mac(&net, "a", 150) + &six(150)))?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        until(EVENTUALLY, || {
            let frames = capture.read(lab, FIELDS)?;
            let of = |mac| {
                frames
                    .iter()
                    .filter(|frame| is(frame, "eth.src", mac))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            check_arp(&of(MAC), MAC, "198.18.0.100")?;
            for address in ["fe80::100", "2001:db8::100"] {
                check_neighbour(&of(MAC6), MAC6, address)?;
            }
            Ok(())
        })?;
        let told = instance(&naru)?;
        ensure!(told["virtual_mac"] == MAC, "{told}");
        let shown = naru.tell(&["vrrp"])? + &naru.tell(&["status"])?;
        ensure!(shown.contains(&format!("{MAC}, of whoever is master")), "{shown}");
        ensure!(shown.contains(&format!("198.18.0.100/24 at {MAC}")), "{shown}");
        Ok(())
    });
}

/// What is not for a service is the host's, which answers from the address.
#[test]
fn the_host_itself_is_reached_at_the_address() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let naru = Naru::run(lab, &net.a, &(with_mac(&net, "a", 150) + &six(150)))?;
        has_roles([(&naru, "master"), (&naru, "master")])?;
        let scope = net.client.link("eth0")?.0;
        let link_local = SocketAddrV6::new("fe80::100".parse()?, CLOSED, 0, scope);
        for address in [
            SocketAddr::new(VIP, CLOSED),
            SocketAddr::new(VIP6, CLOSED),
            link_local.into(),
        ] {
            // For the answer the host asks by ARP where the client is, in its own name.
            net.a.ip("neigh flush dev eth0")?;
            let answer = net.client.inside(|| TcpStream::connect_timeout(&address, SOON))?;
            let refused = answer.expect_err("nobody listens there");
            ensure!(refused.kind() == ErrorKind::ConnectionRefused, "{address}: {refused}");
        }
        let known = net.client.stdout("ip", &["neigh", "show", "198.18.0.100"])?;
        ensure!(known.contains(MAC), "{known}");
        Ok(())
    });
}
