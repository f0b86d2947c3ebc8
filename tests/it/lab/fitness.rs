//! A node that serves nobody leaves the shared address to one that serves; and who cannot hear whom is told.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;

use lb_tests::lab::*;

use super::ownership::{CRASH, EVENTUALLY, GRACE, config, has_role, lost_at_most, paired};
use super::*;

const GLITCHES: usize = 9;

/// Each glitch counts against the master's backends, which are held down there for longer and longer.
#[test]
fn a_master_whose_link_flaps_takes_nothing_over_before_it_serves() {
    paired(|_, net, pair| {
        for glitch in 1..=GLITCHES {
            let down = Instant::now();
            net.plug_in(&net.a, false)?;
            until(EVENTUALLY, || has_role(&pair.b, "master"))?;
            lost_at_most(CRASH, pair.caller.lost_for(down, EVENTUALLY)?, "a link that goes down")?;
            let up = Instant::now();
            net.plug_in(&net.a, true)?;
            // Before it takes over, while it does, or after it did: clients notice the move alone.
            until(EVENTUALLY, || {
                has_role(&pair.a, "backup").or_else(|_| has_role(&pair.a, "master"))
            })?;
            pair.caller.lost_for(up, EVENTUALLY)?;
            let (_, lost) = pair.caller.since(up);
            lost_at_most(GRACE, lost, &format!("glitch {glitch}, the link is back"))?;
        }
        Ok(())
    });
}

/// No backend answers it alone: the other node has them.
#[test]
fn a_master_that_serves_nobody_gives_way_and_comes_back() {
    paired(|_, net, pair| {
        let mac = Twins::mac(&net.a)?.map(|byte| format!("{byte:02x}")).join(":");
        net.backends
            .iter()
            .try_for_each(|backend| backend.ignore_sender(&mac))?;
        until(EVENTUALLY, || has_role(&pair.b, "master"))?;
        let told = pair.a.tell(&["vrrp"])?;
        ensure!(
            told.contains("18, in the file 150: no backend of its services is known to be up"),
            "{told}"
        );
        pair.caller.heard("b1", Instant::now(), EVENTUALLY)?;
        net.backends.iter().try_for_each(Namespace::join)?;
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;
        pair.caller.heard("b1", Instant::now(), EVENTUALLY).map(drop)
    });
}

/// Both nodes refuse each other's adverts, and are master for good: each says so, and why.
#[test]
fn peers_beyond_a_router_are_told_of() {
    case(|lab| {
        let mut pass = PassProgram::load()?;
        let [a, b, router] = ["lb-a", "lb-b", "router"].map(|role| lab.namespace(role));
        let (a, b, router) = (a?, b?, router?);
        for (node, port, net) in [(&a, "to-a", 0), (&b, "to-b", 1)] {
            cable(node, "eth0", &router, port)?;
            node.ip(&format!("addr add 198.18.{net}.11/24 dev eth0"))?;
            router.ip(&format!("addr add 198.18.{net}.1/24 dev {port}"))?;
            node.ip(&format!("route add default via 198.18.{net}.1"))?;
            pass.attach(&router, port)?;
        }
        router.forward(true)?;
        let text = |name: &str, peer: u8| {
            format!(
                "[node]\nname = \"{name}\"\nmax_flows = 4096\n\n[vrrp.main]\ninterface = \"eth0\"\nid = 51\ninterval = \"30ms\"\n\
                 addresses = [\"{VIP}/32\"]\npeers = [\"198.18.{peer}.11\"]\n\n[service.dns]\nlisten = \"{VIP}:53\"\n\
                 protocol = \"udp\"\nbackends = [\"198.18.{peer}.21:53\"]\n"
            )
        };
        let nodes = [
            (Naru::run(lab, &a, &text("a", 1))?, "198.18.1.11", "198.18.0.1"),
            (Naru::run(lab, &b, &text("b", 0))?, "198.18.0.11", "198.18.1.1"),
        ];
        for (naru, peer, router) in &nodes {
            until(EVENTUALLY, || {
                has_role(naru, "master")?;
                let warnings = naru.status()?["warnings"].to_string();
                let by_route = format!("the way to peer {peer} leads through the router {router}");
                ensure!(warnings.contains(&by_route), "{warnings}");
                let heard = format!("[vrrp.main] {peer} is not heard: its adverts come through a router");
                ensure!(warnings.contains(&heard), "{warnings}");
                ensure!(
                    naru.tell(&["events"])?.contains(&format!("{peer} is not heard")),
                    "the journal is silent"
                );
                ensure!(
                    naru.log().contains(&format!("{peer} is not heard")),
                    "the log is silent"
                );
                Ok(())
            })?;
        }
        // Where the file shows it, it is refused.
        let file = text("a", 1).replace("/32", "/24");
        let naru = &nodes[0].0;
        naru.save(&file)?;
        let refused = naru.cli(&["reload"])?;
        let words = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        ensure!(words.contains("198.18.1.11 is not on the link"), "{words}");
        Ok(())
    });
}

/// The thread for shared addresses cannot be started: the file is refused, and the one before stays.
#[test]
fn a_reload_that_cannot_share_addresses_is_refused() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let _server = net.backends[0].inside(|| TcpListener::bind(Twins::backend(0)))??;
        let whole = config(&net, "a", 150);
        let (before, after) = (whole.find("[vrrp.main]"), whole.find("[service.web]"));
        let without = match (before, after) {
            (Some(before), Some(after)) => format!("{}{}", &whole[..before], &whole[after..]),
            _ => anyhow::bail!("a section is missing in {whole}"),
        };
        let naru = Naru::run(lab, &net.a, &without)?;
        let generation = generation(&naru)?;
        let pid = naru.process_id().context("it runs")?;
        // One for the connection of `naru reload`, one for the file: none is left for the thread's own.
        let spare = limit_descriptors(pid, 2)?;
        fs::write(naru.config_path(), &whole)?;
        let refused = naru.cli(&["reload"])?;
        spare.lift()?;
        let words = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        ensure!(
            words.contains("share addresses") && words.contains("keeping the previous configuration"),
            "{words}"
        );
        let status = naru.status()?;
        ensure!(
            number(&status["config"]["generation"]) == generation,
            "{}",
            status["config"]
        );
        ensure!(
            status["config"]["error"].to_string().contains("share addresses"),
            "{}",
            status["config"]
        );
        ensure!(
            status["vrrp"].as_array().is_some_and(Vec::is_empty),
            "{}",
            status["vrrp"]
        );
        naru.tell(&["reload"])?;
        until(EVENTUALLY, || has_role(&naru, "master"))
    });
}

/// Takes the descriptors of a process away but for so many.
fn limit_descriptors(pid: u32, spare: usize) -> Result<Limited> {
    let folder = format!("/proc/{pid}/fd");
    let numbers = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?));
    let open: BTreeSet<usize> = numbers.collect::<Result<_>>()?;
    let free = (0..).filter(|number| !open.contains(number));
    let limit = free.take(spare).last().map_or(0, |last| last + 1);
    let limited = Limited(pid);
    limited.set(&limit.to_string())?;
    Ok(limited)
}

struct Limited(u32);

impl Limited {
    fn set(&self, limit: &str) -> Result<()> {
        let pid = self.0.to_string();
        let set = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={limit}:")])
            .status()?;
        ensure!(set.success(), "prlimit failed");
        Ok(())
    }

    fn lift(&self) -> Result<()> {
        self.set("1024")
    }
}
