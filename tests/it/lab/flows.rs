//! What becomes of flows: they expire, their ports serve again, and they survive a backend's new network card.

use lb_tests::lab::*;

use super::*;

#[test]
fn idle_flows_expire() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _echo = UdpEcho::on_each(&net)?;
        let text = net
            .service("echo", "udp", 80, &[1])
            .replace("protocol", "idle_timeout = \"2s\"\nprotocol");
        let naru = Naru::run(lab, &net.node, &text)?;

        assert_clean(&udp_exchange(&net.client, LISTEN, 100, 1)?, 100);
        let active = || Ok::<_, anyhow::Error>(number(&backend(&naru.status()?, "echo", "b1")?["active_flows"]));
        until_true(Duration::from_secs(2), "no flow is shown", || Ok(active()? > 0))?;
        until_true(Duration::from_secs(8), "flows stay", || Ok(active()? == 0))?;
        assert_eq!(naru.status()?["flows"]["active"], 0);
        Ok(())
    });
}

/// A client that comes again from the port it has just closed, in order or by a reset.
#[test]
fn a_closed_port_serves_again_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;

        net.client.inside(|| {
            for round in 0..20 {
                let reset = round % 2 == 1;
                let answer = from_one_port(reset).with_context(|| format!("round {round}"))?;
                ensure!(["b1", "b2"].contains(&answer.as_str()), "{answer}");
            }
            Ok(())
        })?
    });
}

/// Asks from a port of its own and closes, in order or by a reset; who answered.
fn from_one_port(reset: bool) -> Result<String> {
    // The client's own kernel may still wait for the last acknowledgement of the round before.
    let mut connection = until(SOON, || {
        Connection::open_from(([0, 0, 0, 0], 40_000).into(), LISTEN, SOON)
    })?;
    connection.linger(reset.then_some(Duration::ZERO))?;
    let answer = connection.who(!reset)?;
    if !reset {
        connection.end()?;
    }
    Ok(answer)
}

#[test]
fn a_full_table_refuses_new_flows_and_says_so() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _echo = UdpEcho::on_each(&net)?;
        let text = net.service("echo", "udp", 80, &[1]) + "\n[node]\nmax_flows = 1024\n";
        let naru = Naru::run(lab, &net.node, &text)?;

        // Each stays for a minute.
        let one_more = || {
            UdpFlow::open(&net.client, LISTEN)?
                .patience(Duration::from_millis(200))?
                .ask()
        };
        let fitted = (0..5000).take_while(|_| one_more().is_ok()).count();
        assert!((1024..5000).contains(&fitted), "{fitted} flows fitted");
        for (warning, field) in [
            ("the flow table is full: ", "refused"),
            (
                "the flow table of IPv4 has more flows than it is made for: ",
                ", made for 1024; ",
            ),
        ] {
            until(2 * SOON, || {
                let status = naru.status()?;
                let mut warnings = status["warnings"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                let found = warnings.find(|said| said.starts_with(warning) && said.contains(field));
                found
                    .map(drop)
                    .with_context(|| format!("{warning:?} is not in {}", status["warnings"]))
            })?;
            assert!(naru.tell(&["status"])?.contains(&format!("! {warning}")));
        }
        assert!(naru.log().contains("the flow table is full"));
        Ok(())
    });
}

#[test]
fn flows_survive_new_hardware_addresses() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _echo = UdpEcho::on_each(&net)?;
        let echo = format!("\n[service.echo]\nlisten = \"{LISTEN}\"\nprotocol = \"udp\"\nbackends = [\"b1\"]\n");
        let _naru = Naru::run(lab, &net.node, &(net.service("web", "tcp", 80, &[1]) + &echo))?;
        // As a machine does whose card was exchanged or whose address moved: it says so by ARP.
        let hosts = [&net.backends[0], &net.client];
        hosts
            .iter()
            .try_for_each(|host| host.sysctl("net/ipv4/conf/eth0/arp_notify", "1"))?;

        let transfers = Transfers::start(&net.client, LISTEN, 50)?;
        let mut flow = UdpFlow::open(&net.client, LISTEN)?;
        flow.ask()?;
        let mut flow = flow.patience(Duration::from_millis(50))?;
        for (host, address) in hosts.iter().zip(["02:00:00:00:be:ef", "02:00:00:00:c1:1e"]) {
            host.ip(&format!("link set eth0 address {address}"))?;
            until(SOON, || flow.ask()).with_context(|| format!("after the change of {}", host.role()))?;
        }
        let outcome = transfers.finish();
        assert_eq!(
            (outcome.complete.get("b1"), outcome.broken.len()),
            (Some(&50), 0),
            "{outcome:?}"
        );
        Ok(())
    });
}
