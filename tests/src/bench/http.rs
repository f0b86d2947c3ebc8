//! Requests a second of the whole machine: wrk, the contender and three nginx share its cores.
//!
//! Every contender is measured with the veths as XDP needs them; those that use the kernel's stack once more with
//! the offloads that they like best.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Options;
use super::chain::{Chain, LISTEN, server_address};
use super::contender::{Contender, Running, Service, many_connections};
use super::figures::{self, Row, median};
use super::traffic::Programs;
use super::wrk::{Sample, Wrk};
use crate::lab::{Lab, Nginx, get, until};

/// What the veths are set up for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Xdp,
    Stack,
}

const CONTENDERS: [(&str, Contender, Ends); 7] = [
    ("routing", Contender::Routing, Ends::Xdp),
    ("Naru", Contender::Naru, Ends::Xdp),
    ("nftables", Contender::Nftables, Ends::Xdp),
    ("HAProxy", Contender::HaProxy, Ends::Xdp),
    ("routing, offloads", Contender::Routing, Ends::Stack),
    ("nftables, offloads", Contender::Nftables, Ends::Stack),
    ("HAProxy, offloads", Contender::HaProxy, Ends::Stack),
];
const SERVERS: u8 = 3;
const SERVER_PORT: u16 = 8080;
const CONNECTIONS: usize = 48;
const READY_WITHIN: Duration = Duration::from_secs(10);
const DEFAULT_SECONDS: u64 = 3;
/// Enough to fill caches and tables, and to open all connections.
const WARM_SECONDS: u64 = 1;

struct Rig<'a> {
    name: &'static str,
    chain: &'a Chain,
    targets: Vec<SocketAddrV4>,
    _running: Running<'a>,
    _servers: Vec<Nginx>,
    _ends: Option<Programs>,
}

pub fn run(lab: &Lab, options: &Options) -> Result<()> {
    let chains = (0..CONTENDERS.len()).map(|number| Chain::new(lab, &format!("http{number}"), SERVERS, 1));
    let chains = chains.collect::<Result<Vec<_>>>()?;
    let rigs = CONTENDERS
        .into_iter()
        .zip(&chains)
        .map(|(contender, chain)| rig(lab, contender, chain));
    let rigs = rigs.collect::<Result<Vec<_>>>()?;
    let seconds = options.seconds.unwrap_or(DEFAULT_SECONDS);
    for (title, keep_alive) in [("keep-alive", true), ("one connection for each request", false)] {
        println!("\nhttp, {title}, {CONNECTIONS} at a time, {SERVERS} nginx, {seconds} s each");
        print!("{}", one_table(lab, &rigs, keep_alive, options.runs, seconds)?);
    }
    Ok(())
}

fn one_table(lab: &Lab, rigs: &[Rig<'_>], keep_alive: bool, runs: u32, seconds: u64) -> Result<String> {
    let measure = |rig: &Rig<'_>, seconds| {
        let Rig { chain, targets, .. } = rig;
        let threads = usize::from(SERVERS);
        let wrk = Wrk {
            client: &chain.client,
            targets,
            threads,
            connections: CONNECTIONS,
            keep_alive,
        };
        wrk.run(lab.folder(), seconds)
    };
    for rig in rigs {
        measure(rig, WARM_SECONDS)?;
    }
    let mut samples = vec![Vec::new(); rigs.len()];
    for _ in 0..runs {
        for (rig, samples) in rigs.iter().zip(&mut samples) {
            samples.push(measure(rig, seconds)?);
        }
    }
    let rows: Vec<Row> = rigs
        .iter()
        .zip(&samples)
        .map(|(rig, samples)| row(rig.name, samples))
        .collect();
    Ok(figures::table(
        &rows,
        ("requests/s", 1.0),
        &["routing", "nftables", "HAProxy"],
        &["p50 ms", "p99 ms", "errors"],
    ))
}

fn row(name: &'static str, samples: &[Sample]) -> Row {
    let of = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
    Row {
        name,
        samples: of(|sample| sample.per_second),
        more: vec![
            format!("{:.2}", median(&of(|sample| sample.median.as_secs_f64() * 1e3))),
            format!("{:.2}", median(&of(|sample| sample.p99.as_secs_f64() * 1e3))),
            samples.iter().map(|sample| sample.errors).sum::<u64>().to_string(),
        ],
    }
}

fn rig<'a>(lab: &Lab, (name, contender, ends): (&'static str, Contender, Ends), chain: &'a Chain) -> Result<Rig<'a>> {
    let ends = (ends == Ends::Xdp)
        .then(|| chain.xdp_ends("pass", "pass"))
        .transpose()?;
    let addresses = (1..=SERVERS).map(|number| server_address(number, 1));
    let backends: Vec<_> = addresses
        .map(|address| SocketAddrV4::new(address, SERVER_PORT))
        .collect();
    let servers = chain
        .servers
        .iter()
        .zip(&backends)
        .map(|(server, address)| Nginx::start(lab, server, &[(*address).into()]));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    many_connections(&chain.client)?;
    let listen = SocketAddrV4::new(LISTEN, 80);
    let service = Service {
        protocol: "tcp",
        listen,
        backends,
        max_flows: 1 << 18,
    };
    let running = contender.start(lab, &chain.lb, &service)?;
    // Plain routing has no address of its own: the client shares itself out among the servers.
    let targets = if contender == Contender::Routing {
        service.backends
    } else {
        vec![listen]
    };
    for target in &targets {
        until(READY_WITHIN, || chain.client.inside(|| get((*target).into(), "/"))?)
            .with_context(|| format!("start {name}"))?;
    }
    Ok(Rig {
        name,
        chain,
        targets,
        _running: running,
        _servers: servers,
        _ends: ends,
    })
}
