//! What is the node's own fault costs no backend anything: a glitch of its link or addresses, and too much to do.

use std::time::Instant;

use lb_tests::lab::*;

use super::health::PATIENCE;
use super::*;

const IDLE: usize = 40;

/// `service`, whose connections are reset when a backend is lost, in a table that is gone through at once.
fn resetting(service: &str) -> String {
    service.replace("protocol", "on_down = \"reset\"\nprotocol") + "\n[node]\nmax_flows = 65536\n"
}

fn wait_for_all_up(naru: &Naru, count: usize) -> Result<()> {
    until(PATIENCE, || {
        let status = naru.status()?;
        let services = status["services"].as_array().context("a list of services")?;
        let all = services
            .iter()
            .flat_map(|service| service["backends"].as_array().into_iter().flatten());
        let up = all.filter(|backend| backend["state"] == "up").count();
        ensure!(up == count, "{up} of {count} are up: {status}");
        Ok(())
    })
}

/// For so long, whatever happens.
fn pass(time: Duration) -> Result<()> {
    let begun = Instant::now();
    until_true(time * 2, "time stands still", || Ok(begun.elapsed() >= time))
}

/// Texts that the journal has of backends that went down, with the reason.
fn falls(naru: &Naru) -> Result<Vec<String>> {
    let events: Value = serde_json::from_str(&naru.tell(&["events", "--json"])?)?;
    let events = events.as_array().context("a list of events")?;
    let falls = events.iter().filter(|event| event["to"] == "down");
    Ok(falls
        .map(|event| format!("{} {}: {}", event["at"], event["backend"], event["reason"]))
        .collect())
}

fn answer_all(connections: &mut [Connection]) -> Result<()> {
    for connection in connections {
        connection.who(false).context("a connection from before")?;
    }
    Ok(())
}

/// Three times each: from the second fall on a backend would be held down.
#[test]
fn a_glitch_of_the_nodes_own_link_resets_nothing_and_holds_nobody_down() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &resetting(&net.service("web", "tcp", 80, &[1, 1])))?;
        wait_for_all_up(&naru, 2)?;
        let open = || (0..IDLE).map(|_| Connection::open(LISTEN)).collect::<Result<Vec<_>>>();
        let mut connections = net.client.inside(open)??;
        answer_all(&mut connections)?;
        type Glitch = fn(&Topology) -> Result<()>;
        let glitches: [(&str, Duration, Glitch, Glitch); 3] = [
            (
                "no carrier",
                Duration::from_millis(1500),
                Topology::unplug_node,
                Topology::plug_node_in,
            ),
            (
                "link down",
                SOON,
                |net| net.node.ip("link set servers down"),
                |net| net.node.ip("link set servers up"),
            ),
            (
                "no address",
                Duration::from_millis(700),
                |net| net.node.ip("addr flush dev servers"),
                |net| net.node.ip("addr add 198.18.1.1/24 dev servers"),
            ),
        ];
        for (what, time, begin, end) in glitches {
            for round in 0..3 {
                // Linux announces the loss of a carrier once a second at most, and a second one late.
                pass(SOON * 3 / 2)?;
                begin(&net)?;
                pass(time)?;
                end(&net)?;
                wait_for_all_up(&naru, 2).with_context(|| format!("{what}, round {round}"))?;
                answer_all(&mut connections).with_context(|| format!("{what}, round {round}"))?;
            }
        }
        let by_checks: Vec<String> = falls(&naru)?
            .into_iter()
            .filter(|fall| fall.contains("failed"))
            .collect();
        assert!(by_checks.is_empty(), "{by_checks:?}");
        let status = naru.status()?;
        assert!(!status.to_string().contains("held down"), "{status}");
        Ok(())
    });
}

#[test]
fn the_last_ones_are_not_held_down() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let mut servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let mut took = Vec::new();
        for _ in 0..5 {
            // So that each of them falls each time.
            wait_for_all_up(&naru, 2)?;
            servers.clear();
            until(PATIENCE, || {
                ensure!(naru.status()?["services"][0]["state"] == "down", "somebody serves");
                Ok(())
            })?;
            servers = Nginx::on_each(lab, &net)?;
            let started = Instant::now();
            until(Duration::from_secs(30), || {
                net.client.inside(|| get(LISTEN, "/"))?.context("refused").map(|_| ())
            })?;
            took.push(started.elapsed());
        }
        note(&format!("from the servers' start to the first answer: {took:?}"));
        // Two checks in a row, 200 ms apart.
        assert!(took.iter().all(|took| *took < 2 * SOON), "{took:?}");
        let events = naru.tell(&["events"])?;
        assert!(events.contains("held down for"), "{events}");
        Ok(())
    });
}

/// It is asked once for both, so neither takes a flow after the other has been judged.
#[test]
fn one_address_falls_under_both_its_names_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let mut servers = Nginx::on_each(lab, &net)?;
        let again = "[service.again]\nlisten = \"198.18.0.100:81\"\nbackends = [\"b1\"]\n";
        let naru = Naru::run(lab, &net.node, &(net.service("web", "tcp", 80, &[1]) + again))?;
        wait_for_all_up(&naru, 2)?;
        servers.clear();
        let at = until(PATIENCE, || {
            let falls = falls(&naru)?;
            ensure!(falls.len() == 2, "{falls:?}");
            Ok(falls
                .iter()
                .map(|fall| fall.split(' ').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>())
        })?;
        assert_eq!(at[0], at[1]);
        Ok(())
    });
}

/// What the host's stack loses, the program has forwarded before.
#[test]
fn backends_that_serve_their_clients_are_spared_when_all_checks_are_lost() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &resetting(&net.service("web", "tcp", 80, &[1, 1])))?;
        wait_for_all_up(&naru, 2)?;
        let transfers = Transfers::start(&net.client, LISTEN, IDLE)?;
        let suspects = || Ok::<_, anyhow::Error>(naru.status()?["warnings"].to_string().contains("too much to do"));
        net.node.cut_off()?;
        until_true(PATIENCE, "it does not suspect itself", suspects)?;
        pass(Duration::from_secs(5))?;
        assert!(suspects()?);
        net.node.join()?;
        until_true(PATIENCE, "it goes on suspecting itself", || Ok(!suspects()?))?;
        assert_eq!((falls(&naru)?, transfers.running()), (Vec::new(), IDLE));
        assert_unbroken(&transfers.finish(), IDLE);
        // And who serves nobody is down in time.
        let cut = Instant::now();
        net.node.cut_off()?;
        until(PATIENCE, || {
            let falls = falls(&naru)?;
            ensure!(falls.len() == 2, "{falls:?}");
            Ok(())
        })?;
        note(&format!("idle ones were down after {:?}", cut.elapsed()));
        net.node.join()
    });
}

/// As a server that hangs may. The other one is heard, so it is not the node.
#[test]
fn one_that_accepts_nothing_new_is_down_though_it_serves_old_connections() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        wait_for_all_up(&naru, 2)?;
        let transfers = Transfers::start(&net.client, LISTEN, IDLE)?;
        let hung = Instant::now();
        net.backends[1].ignore_new_connections()?;
        until(PATIENCE, || {
            ensure!(backend(&naru.status()?, "web", "b2")?["state"] == "down", "it is up");
            Ok(())
        })?;
        note(&format!("down after {:?}", hung.elapsed()));
        // On a machine so busy that the loop is late it is spared for three seconds.
        assert!(hung.elapsed() < 6 * SOON, "{:?}", hung.elapsed());
        assert_eq!(transfers.running(), IDLE);
        assert_unbroken(&transfers.finish(), IDLE);
        Ok(())
    });
}
