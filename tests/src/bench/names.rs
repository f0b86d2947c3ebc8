//! How long clients are sent to where a name no longer leads: Naru beside HAProxy, in turns, by what a client sees.
//!
//! The name moves while its old address is alive, or because that is dead; the bench's own name server changes the
//! record at that moment. Each run begins with a balancer that has just been started.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Options;
use super::chain::{Chain, LISTEN, server_address};
use super::contender::{Running, haproxy_with, naru_with};
use super::figures::{Times, times_table};
use crate::lab::{Caller, Lab, Manner, NameServer, Nginx, Record};

const PORT: u16 = 8080;
const LISTEN_PORT: u16 = 80;
const READY_WITHIN: Duration = Duration::from_secs(20);
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// Where the name server is: the client's own address.
const NAME_SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 1));
/// Of records: those of a cluster, and of a load balancer in a cloud, and of who thought of no such day.
const LIVES: [u32; 3] = [1, 5, 300];
/// Those that take half a minute a run.
const SLOW_EVERY: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Follower {
    Naru,
    HaProxy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Alive,
    /// Nothing comes from its host any more.
    Dead,
}

impl Old {
    const ALL: [Self; 2] = [Self::Alive, Self::Dead];

    const fn name(self) -> &'static str {
        match self {
            Self::Alive => "old address alive",
            Self::Dead => "old address dead",
        }
    }
}

impl Follower {
    const ALL: [Self; 2] = [Self::Naru, Self::HaProxy];

    const fn name(self) -> &'static str {
        match self {
            Self::Naru => "Naru, as it comes",
            Self::HaProxy => "HAProxy, check inter 200ms",
        }
    }

    fn start<'a>(self, lab: &Lab, chain: &'a Chain, server: &NameServer) -> Result<Running<'a>> {
        match self {
            Self::Naru => {
                let config = format!(
                    "[dns]\nservers = [\"{}\"]\n[service.web]\nlisten = \"{LISTEN}:{LISTEN_PORT}\"\n\
                     backends = [\"app.example:{PORT}\"]\n",
                    server.address()
                );
                naru_with(lab, &chain.lb, &config).map(Running::Naru)
            }
            Self::HaProxy => haproxy_with(lab, &chain.lb, &haproxy_config(server.address())).map(Running::Process),
        }
    }
}

pub fn run(lab: &Lab, options: &Options) -> Result<()> {
    let chain = Chain::new(lab, "names", 2, 1)?;
    let _ends = chain.xdp_ends("pass", "pass")?;
    let _nginx = [1, 2]
        .map(|number| Nginx::start(lab, &chain.servers[usize::from(number) - 1], &[address(number).into()]))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let server = NameServer::start(&chain.client, NAME_SERVER, true)?;
    let mut lines = Vec::new();
    for (old, life) in Old::ALL.into_iter().flat_map(|old| LIVES.map(|life| (old, life))) {
        for follower in Follower::ALL {
            let mut times = Times::default();
            for round in 0..options.runs {
                let is_slow = old == Old::Alive && life == LIVES[2];
                if is_slow && round % SLOW_EVERY != 0 {
                    continue;
                }
                let took = one(lab, &chain, &server, follower, old, life);
                times.add(took.with_context(|| format!("{}, TTL {life}, {}", old.name(), follower.name()))?);
            }
            lines.push((
                format!("{}, TTL {life} s: {}", old.name(), follower.name()),
                vec![times],
            ));
        }
    }
    println!("\nA name moves: the first call that its new address answered");
    print!("{}", times_table(&["after the move"], &lines));
    Ok(())
}

fn one(lab: &Lab, chain: &Chain, server: &NameServer, follower: Follower, old: Old, life: u32) -> Result<Duration> {
    let leads_to = |number: u8| {
        let record = Record::address(server_address(number, 1).into(), life);
        server.answer("app.example", Manner::Records(vec![record]));
    };
    leads_to(1);
    let running = follower.start(lab, chain, server)?;
    let listen = SocketAddr::from(SocketAddrV4::new(LISTEN, LISTEN_PORT));
    let caller = Caller::start(&chain.client, listen)?;
    caller.heard(chain.servers[0].role(), Instant::now(), READY_WITHIN)?;

    leads_to(2);
    let moved = Instant::now();
    if old == Old::Dead {
        chain.servers[0].cut_off()?;
    }
    let took = caller.heard(chain.servers[1].role(), moved, OVER_WITHIN);
    drop(running);
    if old == Old::Dead {
        chain.servers[0].join()?;
    }
    took
}

fn address(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(server_address(number, 1), PORT)
}

/// As its manual has it, but for checks as often as Naru's.
fn haproxy_config(server: SocketAddr) -> String {
    format!(
        "global\n    maxconn 4096\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1m\n    \
         timeout server 1m\nresolvers lab\n    nameserver one {server}\n    resolve_retries 3\n    timeout resolve 1s\n    \
         timeout retry 1s\n    hold valid 10s\nlisten web\n    bind {LISTEN}:{LISTEN_PORT}\n    \
         server app app.example:{PORT} check inter 200ms fall 3 resolvers lab resolve-prefer ipv4 init-addr none\n"
    )
}
