//! The lab itself: its network, servers and clients are sound, before anything is blamed on the load balancer.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context as _, Result};
use lb_tests::lab::*;

use super::{LISTEN, assert_clean, checked_once};

/// Not forwarded by Naru: the client may reach the node only.
#[test]
fn namespaces_have_no_way_out() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        for beyond in [backend_address(0), backend_address6(0)] {
            assert!(net.client.inside(|| get(beyond, "/"))?.is_err());
        }
        Ok(())
    });
}

#[test]
fn clients_and_servers_agree() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let here = SocketAddr::new(VIP, BACKEND_PORT);
        let _nginx = Nginx::start(lab, &net.node, &[here])?;
        let _echo = UdpEcho::start(&net.node, here)?;

        let transfers = Transfers::start(&net.client, here, 20)?;
        let tally = Load::keep_alive(4).requests(1000).start(&net.client, here)?.finish();
        assert_eq!((tally.answers(), tally.errors.len()), (1000, 0), "{tally:?}");
        let tally = Load::one_each(4).requests(500).start(&net.client, here)?.finish();
        assert_eq!((tally.answers(), tally.errors.len()), (500, 0), "{tally:?}");
        let tally = udp_exchange(&net.client, here, 10, 20)?;
        assert_eq!((tally.answers(), tally.errors.len()), (200, 0), "{tally:?}");
        let outcome = transfers.finish();
        assert_eq!((outcome.complete["node"], outcome.broken.len()), (20, 0), "{outcome:?}");
        Ok(())
    });
}

/// As behind a card, whose queue one CPU empties at a time. Where two packets of one connection go up side by side,
/// the server now and then loses its socket between them and resets the client.
#[test]
fn a_server_takes_the_packets_of_a_connection_one_by_one() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _naru = Naru::run(lab, &net.node, &checked_once(&net.service("web", "tcp", 80, &[1])))?;

        // Of two CPUs that each complete a handshake both count it, and one gives up.
        let before = handshakes(&net.backends[0])?;
        let tally = Load::one_each(8).requests(5_000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 5_000);
        assert_eq!(handshakes(&net.backends[0])? - before, 5_000);
        Ok(())
    });
}

fn handshakes(server: &Namespace) -> Result<u64> {
    let counters = server.stdout("nstat", &["-asz", "TcpPassiveOpens"])?;
    let count = counters
        .split_whitespace()
        .skip_while(|word| *word != "TcpPassiveOpens")
        .nth(1);
    Ok(count
        .with_context(|| format!("find the count in {counters:?}"))?
        .parse()?)
}

/// What a client calls a transfer that lived must not hide one that died.
#[test]
fn a_cut_transfer_is_noticed() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let here = SocketAddr::new(VIP, BACKEND_PORT);
        let nginx = Nginx::start(lab, &net.node, &[here])?;
        let transfers = Transfers::start(&net.client, here, 3)?;
        drop(nginx);
        let outcome = transfers.finish();
        assert_eq!((outcome.complete.len(), outcome.broken.len()), (0, 3), "{outcome:?}");
        Ok(())
    });
}

#[test]
fn a_panic_leaves_nothing() {
    if skipped("a_panic_leaves_nothing") {
        return;
    }
    let outcome = thread::spawn(|| {
        case(|lab| {
            let net = Topology::new(lab, 2)?;
            let _nginx = Nginx::on_each(lab, &net)?;
            let _role = lab.namespace("panicking")?;
            panic!("on purpose");
        })
    })
    .join();
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    assert!(!own_namespaces().iter().any(|name| name.ends_with("-panicking")));
}

fn own_namespaces() -> Vec<String> {
    let own = format!("naru-{}-", std::process::id());
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&own)).collect()
}

#[test]
fn what_stays_fails_the_case() {
    if skipped("what_stays_fails_the_case") {
        return;
    }
    let outcome = thread::spawn(|| {
        case(|lab| {
            std::mem::forget(lab.namespace("forgotten")?);
            std::mem::forget(Process::spawn(lab.namespace("gone")?.command("sleep").arg("60"))?);
            std::fs::create_dir(lab.pin_folder("node"))?;
            Ok(())
        })
    })
    .join();
    let message = *outcome.unwrap_err().downcast::<String>().unwrap();
    for part in ["the case left", "(sleep)", "-forgotten", "pins /sys/fs/bpf/naru-lab-"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!own_namespaces().iter().any(|name| name.ends_with("-forgotten")));
}
