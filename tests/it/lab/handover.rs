//! What clients and backends notice of a connection when its node leaves in order, with a request under way: they are reset, and
//! find the new master at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use lb_tests::lab::*;

use super::ownership::{EVENTUALLY, config, has_role};
use super::*;

/// At adverts every 30 ms: the other's skew, its claim, 20 ms, and a busy machine.
const TOLD: Duration = Duration::from_millis(500);
const CONNECTIONS: usize = 40;

/// One connection: its client waits for an answer, its server for more of the request.
struct Waiting {
    client: TcpStream,
    server: TcpStream,
}

/// A server that takes requests and never answers, in the place of `b1`.
fn silent_server(net: &Twins) -> Result<TcpListener> {
    net.backends[0]
        .inside(|| TcpListener::bind(Twins::backend(0)))?
        .context("listen")
}

fn waiting(net: &Twins, server: &TcpListener) -> Result<Vec<Waiting>> {
    let one = |_| {
        let mut client = net.client.inside(|| TcpStream::connect(LISTEN))??;
        client.write_all(b"GET / HTTP/1.1\r\n")?;
        // Not those of the checks, which say nothing.
        let server = loop {
            let (mut server, _) = server.accept()?;
            server.set_read_timeout(Some(EVENTUALLY))?;
            if server.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0) {
                break server;
            }
        };
        Ok(Waiting { client, server })
    };
    (0..CONNECTIONS).map(one).collect()
}

/// How long after `left` the last end was reset.
fn reset_after(left: Instant, connections: Vec<Waiting>) -> Result<Duration> {
    let ends = connections
        .into_iter()
        .flat_map(|Waiting { client, server }| [("client", client), ("backend", server)]);
    let wait = |(who, mut end): (&'static str, TcpStream)| {
        thread::spawn(move || -> Result<Duration> {
            end.set_read_timeout(Some(EVENTUALLY))?;
            match end.read(&mut [0; 100]) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(left.elapsed()),
                other => anyhow::bail!("the {who} was not reset: {other:?}"),
            }
        })
    };
    let ends: Vec<_> = ends.map(wait).collect();
    let mut last = Duration::ZERO;
    for end in ends {
        last = last.max(end.join().expect("it does not panic")?);
    }
    Ok(last)
}

/// Both ends hear it, and a new connection finds the other node with its first SYN.
fn told(net: &Twins, what: &str, left: Instant, connections: Vec<Waiting>) -> Result<()> {
    let after = reset_after(left, connections)?;
    note(&format!("{what}: the last end was reset after {after:?}"));
    ensure!(after <= TOLD, "{what}: after {after:?}");
    let again = Instant::now();
    let patience = Duration::from_millis(900);
    let connect = |target: &SocketAddr| TcpStream::connect_timeout(target, patience);
    net.client.inside(|| connect(&LISTEN))?.context("connect again")?;
    note(&format!("{what}: connected again within {:?}", again.elapsed()));
    Ok(())
}

fn node_that_leaves_resets_what_it_has(more: &str) {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        for node in net.nodes() {
            node.sysctl("net/ipv4/conf/eth0/arp_ignore", "1")?;
            node.sysctl("net/ipv4/conf/eth0/arp_announce", "2")?;
        }
        let server = silent_server(&net)?;
        let with =
            |name: &str, priority| config(&net, name, priority).replace("id = 51\n", &format!("id = 51\n{more}"));
        let mut a = Naru::run(lab, &net.a, &with("a", 150))?;
        let b = Naru::run(lab, &net.b, &with("b", 100))?;
        let is_master = |naru: &Naru| until(EVENTUALLY, || has_role(naru, "master"));
        is_master(&a)?;

        let connections = waiting(&net, &server)?;
        let left = Instant::now();
        a.tell(&["failover"])?;
        told(&net, "failover", left, connections)?;

        let connections = waiting(&net, &server)?;
        let left = Instant::now();
        a.tell(&["failback"])?;
        told(&net, "a better master", left, connections)?;

        is_master(&a)?;
        let connections = waiting(&net, &server)?;
        let left = Instant::now();
        a.edit("priority = 150", "priority = 50")?;
        told(&net, "a lower priority", left, connections)?;

        is_master(&b)?;
        a.edit("priority = 50", "priority = 150")?;
        is_master(&a)?;
        let connections = waiting(&net, &server)?;
        let left = Instant::now();
        a.stop()?;
        told(&net, "a stop", left, connections)
    });
}

#[test]
fn a_node_that_leaves_resets_what_it_has() {
    node_that_leaves_resets_what_it_has("");
}

#[test]
fn a_node_with_a_virtual_mac_that_leaves_resets_what_it_has() {
    node_that_leaves_resets_what_it_has("virtual_mac = true\n");
}

/// It asks who is better, and is itself: nothing is lost.
#[test]
fn who_is_master_again_at_once_resets_nothing() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let server = silent_server(&net)?;
        let a = Naru::run(lab, &net.a, &config(&net, "a", 150))?;
        let _b = Naru::run(lab, &net.b, &config(&net, "b", 100))?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        let connections = waiting(&net, &server)?;
        let before = generation(&a)?;
        a.edit("priority = 150", "priority = 120")?;
        applied_after(&a, before)?;
        until(EVENTUALLY, || has_role(&a, "master"))?;
        for Waiting { mut client, mut server } in connections {
            server.write_all(b"x")?;
            client.set_read_timeout(Some(EVENTUALLY))?;
            ensure!(client.read(&mut [0; 1])? == 1, "a connection is gone");
        }
        Ok(())
    });
}
