//! How long clients are sent to a server that is gone: Naru beside HAProxy, in turns, by what a client sees.
//!
//! Each run begins with a balancer that has just been started: a server that has fallen often is held down for longer.

use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Options;
use super::chain::{Chain, LISTEN, server_address};
use super::contender::{Running, haproxy_with, naru_with};
use super::figures::{Times, times_table};
use crate::lab::{Caller, Lab, Nginx};

const SERVERS: u8 = 2;
const PORT: u16 = 8080;
const LISTEN_PORT: u16 = 80;
const READY_WITHIN: Duration = Duration::from_secs(20);
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// The slow one takes half a minute a run, and its figures lie close together.
const SLOW_EVERY: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Naru,
    HaProxyOften,
    HaProxyUsual,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Its host answers with a RST.
    Stopped,
    /// Nothing comes from its host any more.
    Silent,
    /// Its host accepts connections, and nobody answers.
    Paused,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Stopped, Self::Silent, Self::Paused];

    const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Silent => "silent",
            Self::Paused => "paused, asked by HTTP",
        }
    }
}

impl Watcher {
    const ALL: [Self; 3] = [Self::Naru, Self::HaProxyOften, Self::HaProxyUsual];

    const fn name(self) -> &'static str {
        match self {
            Self::Naru => "Naru, as it comes",
            Self::HaProxyOften => "HAProxy, inter 200ms fall 3",
            Self::HaProxyUsual => "HAProxy, inter 3s fall 3",
        }
    }

    fn start<'a>(self, lab: &Lab, chain: &'a Chain, fault: Fault) -> Result<Running<'a>> {
        match self {
            Self::Naru => naru_with(lab, &chain.lb, &naru_config(fault)).map(Running::Naru),
            Self::HaProxyOften => haproxy_with(lab, &chain.lb, &haproxy_config(fault, "200ms")).map(Running::Process),
            Self::HaProxyUsual => haproxy_with(lab, &chain.lb, &haproxy_config(fault, "3s")).map(Running::Process),
        }
    }
}

/// What clients noticed of one fault.
struct Noticed {
    lost_for: Duration,
    back_after: Duration,
}

pub fn run(lab: &Lab, options: &Options) -> Result<()> {
    let chain = Chain::new(lab, "detect", SERVERS, 1)?;
    let _ends = chain.xdp_ends("pass", "pass")?;
    let mut servers = (1..=SERVERS)
        .map(|number| serve(lab, &chain, number))
        .collect::<Result<Vec<_>>>()?;
    let mut lines = Vec::new();
    for fault in Fault::ALL {
        let mut seen: Vec<_> = Watcher::ALL
            .map(|watcher| (watcher, Times::default(), Times::default()))
            .into();
        for round in 0..options.runs {
            for (watcher, lost, back) in &mut seen {
                if *watcher == Watcher::HaProxyUsual && round % SLOW_EVERY != 0 {
                    continue;
                }
                let noticed = one(lab, &chain, &mut servers, *watcher, fault)
                    .with_context(|| format!("{} before {}", fault.name(), watcher.name()))?;
                lost.add(noticed.lost_for);
                back.add(noticed.back_after);
            }
        }
        for (watcher, lost, back) in seen {
            lines.push((format!("{}: {}", fault.name(), watcher.name()), vec![lost, back]));
        }
    }
    println!("\nA server is lost: the last call that went to it; it is back: the first that it answered");
    print!("{}", times_table(&["lost for", "back after"], &lines));
    Ok(())
}

fn one(lab: &Lab, chain: &Chain, servers: &mut Vec<Nginx>, watcher: Watcher, fault: Fault) -> Result<Noticed> {
    let running = watcher.start(lab, chain, fault)?;
    let listen = SocketAddr::from(SocketAddrV4::new(LISTEN, LISTEN_PORT));
    let caller = Caller::start(&chain.client, listen)?;
    let lost = chain.servers[1].role();
    for server in &chain.servers {
        caller.heard(server.role(), Instant::now(), READY_WITHIN)?;
    }
    // What it made of its own beginning is over.
    caller.lost_for(Instant::now(), OVER_WITHIN)?;

    let begun = Instant::now();
    match fault {
        Fault::Stopped => drop(servers.pop()),
        Fault::Silent => chain.servers[1].cut_off()?,
        Fault::Paused => servers[1].pause()?,
    }
    let lost_for = caller.lost_for(begun, OVER_WITHIN)?;
    let ended = Instant::now();
    match fault {
        Fault::Stopped => servers.push(serve(lab, chain, SERVERS)?),
        Fault::Silent => chain.servers[1].join()?,
        Fault::Paused => servers[1].resume()?,
    }
    let back_after = caller.heard(lost, ended, OVER_WITHIN)?;
    drop(running);
    Ok(Noticed { lost_for, back_after })
}

fn serve(lab: &Lab, chain: &Chain, number: u8) -> Result<Nginx> {
    let namespace = &chain.servers[usize::from(number) - 1];
    Nginx::start(lab, namespace, &[address(number).into()])
}

fn address(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(server_address(number, 1), PORT)
}

fn naru_config(fault: Fault) -> String {
    let addresses: Vec<_> = (1..=SERVERS).map(|number| address(number).to_string()).collect();
    let mut text = format!("[service.web]\nlisten = \"{LISTEN}:{LISTEN_PORT}\"\nbackends = {addresses:?}\n");
    if fault == Fault::Paused {
        text += "check = \"alive\"\n[check.alive]\ntype = \"http\"\npath = \"/\"\ntimeout = \"300ms\"\n";
    }
    text
}

fn haproxy_config(fault: Fault, inter: &str) -> String {
    let mut text = format!(
        "global\n    maxconn 4096\ndefaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    \
         timeout client 1m\n    timeout server 1m\nlisten web\n    bind {LISTEN}:{LISTEN_PORT}\n"
    );
    if fault == Fault::Paused {
        text += "    option httpchk GET /\n";
    }
    for number in 1..=SERVERS {
        let _ = writeln!(
            text,
            "    server s{number} {} check inter {inter} fall 3",
            address(number)
        );
    }
    text
}
