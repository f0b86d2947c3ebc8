//! What clients and backends notice when a backend leaves: disabled, drained, or gone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lb_tests::lab::*;

use anyhow::bail;

use super::*;

const IDLE: usize = 200;
/// Both services listen on port 80, one in each family.

#[test]
fn idle_connections_are_reset_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &resetting(&net.service("web", "tcp", 80, &[1, 1])))?;
        let (lost, kept) = connect_idle(&net, LISTEN, "b1")?;

        let disabled = Instant::now();
        naru.tell(&["disable", "web/b1"])?;
        for mut connection in lost {
            assert_eq!(end_of(&mut connection)?, ErrorKind::ConnectionReset);
        }
        assert!(disabled.elapsed() < SOON, "after {:?}", disabled.elapsed());
        until_true(SOON, "the backend keeps connections", || {
            Ok(connections(&net.backends[0])? == 0)
        })?;
        for mut connection in kept {
            assert_eq!(connection.who(true)?, "b2");
        }
        let status = naru.status()?;
        assert_eq!(backend(&status, "web", "b1")?["state"], "disabled");
        assert_eq!(backend(&status, "web", "b1")?["reason"], "disabled by root");
        assert_eq!(net.client.inside(|| get(LISTEN, "/"))??, "b2");

        until_true(Duration::from_secs(15), "flows stay in the table", || {
            let flows: Value = serde_json::from_str(&naru.tell(&["flows", "--backend", "b1", "--json"])?)?;
            Ok(flows["flows"].as_array().is_some_and(Vec::is_empty))
        })?;
        naru.tell(&["enable", "web/b1"])?;
        let tally = Load::one_each(4).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);
        assert_eq!(tally.by_backend.len(), 2, "{tally:?}");
        Ok(())
    });
}

#[test]
fn idle_connections_in_ipv6_are_reset_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &resetting(&net.service6("web", "tcp", 80, &[1, 1])))?;
        let (lost, kept) = connect_idle(&net, LISTEN6, "b1")?;

        naru.tell(&["disable", "web/b1-6"])?;
        let disabled = Instant::now();
        for mut connection in lost {
            assert_eq!(end_of(&mut connection)?, ErrorKind::ConnectionReset);
        }
        assert!(disabled.elapsed() < SOON, "after {:?}", disabled.elapsed());
        until_true(SOON, "the backend keeps connections", || {
            Ok(connections(&net.backends[0])? == 0)
        })?;
        for mut connection in kept {
            assert_eq!(connection.who(true)?, "b2");
        }
        Ok(())
    });
}

/// Nobody waits for an answer that will not come.
#[test]
fn busy_clients_lose_an_answer_at_most_and_go_on() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &resetting(&net.service("web", "tcp", 80, &[1, 1])))?;
        let load = Load::keep_alive(16).start(&net.client, LISTEN)?;
        let going_on = |backend: &str| {
            let before = load.tally();
            let answers = |tally: &Tally| tally.by_backend.get(backend).copied().unwrap_or_default();
            until_true(2 * SOON, "clients wait", || {
                Ok(answers(&load.tally()) > answers(&before) + 300)
            })
        };
        going_on("b1")?;
        for (lost, other) in [("web/b1", "b2"), ("web/b2", "b1")] {
            naru.tell(&["disable", lost])?;
            going_on(other)?;
            naru.tell(&["enable", lost])?;
        }
        let tally = load.stop();
        let lost: u64 = tally.errors.values().sum();
        assert!((1..=32).contains(&lost), "{tally:?}");
        assert!(tally.errors.keys().all(|error| error.contains("reset")), "{tally:?}");
        Ok(())
    });
}

/// The side that only receives sends no more than acknowledgments.
#[test]
fn transfers_in_one_direction_are_reset_on_both_sides() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let listener = net.backends[0].inside(|| TcpListener::bind(backend_address(0)))??;
        let text = checked_once(&resetting(&net.service("web", "tcp", 80, &[1])));
        let naru = Naru::run(lab, &net.node, &text)?;
        let _by_the_check = listener.accept()?;
        for round in 0..2 {
            let client = net.client.inside(|| TcpStream::connect(LISTEN))??;
            let (server, _) = listener.accept()?;
            let (from, to) = if round == 0 { (client, server) } else { (server, client) };
            let bytes = || Ok::<_, anyhow::Error>(number(&backend(&naru.status()?, "web", "b1")?["bytes"]));
            let before = bytes()?;
            let (sender, receiver) = (flood(from), drink(to));
            until_true(5 * SOON, "nothing flows", || Ok(bytes()? > before + 1_000_000))?;
            naru.tell(&["disable", "web/b1"])?;
            until_true(SOON, "one side goes on", || {
                Ok(sender.is_finished() && receiver.is_finished())
            })?;
            for side in [sender, receiver] {
                let end = side.join().expect("a side does not panic");
                assert!(
                    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&end),
                    "round {round}: {end:?}"
                );
            }
            naru.tell(&["enable", "web/b1"])?;
        }
        Ok(())
    });
}

#[test]
fn without_reset_connections_of_a_disabled_backend_finish() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 20)?;
        naru.tell(&["disable", "web/b1"])?;
        let tally = Load::one_each(4).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);
        assert_eq!(tally.by_backend.get("b2"), Some(&200), "{tally:?}");
        assert_unbroken(&transfers.finish(), 20);
        Ok(())
    });
}

/// A machine that is switched off says nothing. Nor is it asked anything here, once it has been found up.
#[test]
fn clients_of_a_backend_that_has_vanished_are_reset() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let text = checked_once(&resetting(&net.service("web", "tcp", 80, &[1, 1])));
        let naru = Naru::run(lab, &net.node, &text)?;
        let (lost, kept) = connect_idle(&net, LISTEN, "b1")?;

        net.backends[0].ip("link set eth0 down")?;
        net.node.ip("neigh del 198.18.1.11 dev servers")?;
        let vanished = Instant::now();
        for mut connection in lost {
            until(Duration::from_secs(8), || match end_of(&mut connection)? {
                ErrorKind::ConnectionReset => Ok(()),
                other => bail!("{other}"),
            })?;
        }
        // For three seconds it may come back.
        let after = vanished.elapsed();
        assert!(after > Duration::from_secs(2), "{after:?}");
        assert_eq!(backend(&naru.status()?, "web", "b1")?["state"], "down");
        for mut connection in kept {
            assert_eq!(connection.who(true)?, "b2");
        }
        Ok(())
    });
}

#[test]
fn nobody_left_is_refused_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _echo = UdpEcho::on_each(&net)?;
        let udp = |listen, backend| {
            format!("\n[service.udp{listen}]\nlisten = \"{listen}\"\nprotocol = \"udp\"\nbackends = [\"{backend}\"]\n")
                .replace("service.udp198.18.0.100:80", "service.echo")
                .replace("service.udp[2001:db8::100]:80", "service.echo6")
        };
        let text = net.service("web", "tcp", 80, &[1]) + &net.service6("web6", "tcp", 80, &[1]);
        let text = text + &udp(LISTEN, "b1") + &udp(LISTEN6, "b1-6");
        let naru = Naru::run(lab, &net.node, &text)?;
        assert_eq!(net.client.inside(|| get(LISTEN6, "/"))??, "b1");
        assert_eq!(UdpFlow::open(&net.client, LISTEN)?.ask()?, "b1");

        for backend in ["web/b1", "web6/b1-6", "echo/b1", "echo6/b1-6"] {
            naru.tell(&["disable", backend])?;
        }
        for listen in [LISTEN, LISTEN6] {
            let asked = Instant::now();
            let refused = net.client.inside(|| TcpStream::connect(listen))?;
            assert_eq!(
                refused.map_err(|error| error.kind()).err(),
                Some(ErrorKind::ConnectionRefused)
            );
            // By "port unreachable", which the socket hears of.
            let unanswered = UdpFlow::open(&net.client, listen)?.ask().expect_err("nobody answers");
            assert!(format!("{unanswered:#}").contains("refused"), "{unanswered:#}");
            assert!(asked.elapsed() < SOON / 2, "after {:?}", asked.elapsed());
        }
        Ok(())
    });
}

/// A client that asks again and again never lets its flow become idle.
#[test]
fn datagrams_leave_a_disabled_backend_at_once_and_a_draining_one_in_time() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _echo = UdpEcho::on_each(&net)?;
        let text = net
            .service("echo", "udp", 80, &[1, 0])
            .replace("protocol", "idle_timeout = \"2s\"\nprotocol");
        let naru = Naru::run(lab, &net.node, &text)?;
        let mut flow = UdpFlow::open(&net.client, LISTEN)?;
        assert_eq!(flow.ask()?, "b1");
        naru.tell(&["weight", "echo/b2", "1"])?;

        naru.tell(&["drain", "echo/b1"])?;
        let drained = Instant::now();
        until_true(Duration::from_secs(4), "it stays with b1", || Ok(flow.ask()? == "b2"))?;
        assert!(
            drained.elapsed() > Duration::from_millis(1500),
            "after {:?}",
            drained.elapsed()
        );

        naru.tell(&["undrain", "echo/b1"])?;
        naru.tell(&["disable", "echo/b2"])?;
        until_true(SOON, "it stays with b2", || Ok(flow.ask()? == "b1"))?;
        Ok(())
    });
}

/// With a table that is gone through at once, however busy the machine is and slow the build.
fn resetting(service: &str) -> String {
    let service = service.replacen("protocol", "on_down = \"reset\"\nprotocol", 1);
    service + "\n[node]\nmax_flows = 4096\n"
}

/// Connections on which nothing happens any more: those of one backend, and the others.
fn connect_idle(net: &Topology, listen: SocketAddr, name: &str) -> Result<(Vec<Connection>, Vec<Connection>)> {
    let connect = || {
        let mut connection = Connection::open(listen)?;
        Ok((connection.who(false)?, connection))
    };
    let connected = net
        .client
        .inside(|| (0..IDLE).map(|_| connect()).collect::<Result<Vec<_>>>())??;
    let (of_it, others): (Vec<_>, Vec<_>) = connected.into_iter().partition(|(backend, _)| backend == name);
    let plain = |connections: Vec<(String, Connection)>| connections.into_iter().map(|(_, own)| own).collect();
    assert!(
        of_it.len() > IDLE / 4 && others.len() > IDLE / 4,
        "{} and {}",
        of_it.len(),
        others.len()
    );
    Ok((plain(of_it), plain(others)))
}

/// How the connection ended, while we only waited.
fn end_of(connection: &mut Connection) -> Result<ErrorKind> {
    let error = connection.read(&mut [0]).expect_err("nothing was asked");
    Ok(error
        .downcast::<std::io::Error>()
        .context("an error of the socket")?
        .kind())
}

/// Established, at a backend's server.
fn connections(backend: &Namespace) -> Result<usize> {
    let listed = backend.stdout("ss", &["-Htn", "state", "established", "sport", "=", ":8080"])?;
    Ok(listed.lines().count())
}

/// Sends without end; how it ended.
fn flood(mut stream: TcpStream) -> JoinHandle<ErrorKind> {
    thread::spawn(move || {
        loop {
            if let Err(error) = stream.write_all(&[7; 65_536]) {
                return error.kind();
            }
        }
    })
}

/// Only receives.
fn drink(mut stream: TcpStream) -> JoinHandle<ErrorKind> {
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return ErrorKind::UnexpectedEof,
                Ok(_) => {}
                Err(error) => return error.kind(),
            }
        }
    })
}
