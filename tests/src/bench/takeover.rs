//! How long clients are without their address when a node of a pair fails or yields: Naru beside keepalived with HAProxy.
//!
//! By what a client sees that calls every few milliseconds; and by ARP, whether two nodes ever had the address at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Options;
use super::contender::haproxy_with;
use super::figures::{Times, times_table};
use crate::lab::{ArpWatch, Caller, Keepalived, Lab, Namespace, Naru, Process, Twins, VIP, until};

const BACKENDS: usize = 2;
const LISTEN: SocketAddr = SocketAddr::new(VIP, 80);
const PATIENCE: Duration = Duration::from_secs(30);
/// The other two need half a minute a run, and their figures lie close together.
const SLOW_EVERY: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Naru {
        interval_ms: u32,
    },
    /// keepalived as it comes, HAProxy behind it.
    Keepalived,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The machine is gone: nothing of it answers any more.
    NodeKilled,
    /// It lives, and nobody hears it.
    Unplugged,
    /// Its kernel lives on, with the address.
    DaemonKilled,
    DaemonPaused,
    /// Somebody takes the address off its interface.
    AddressRemoved,
    Stopped,
    Failover,
}

impl Contender {
    const ALL: [Self; 3] = [
        Self::Naru { interval_ms: 30 },
        Self::Naru { interval_ms: 10 },
        Self::Keepalived,
    ];

    fn name(self) -> String {
        match self {
            Self::Naru { interval_ms } => format!("Naru, adverts every {interval_ms} ms"),
            Self::Keepalived => "keepalived as it comes, HAProxy".to_owned(),
        }
    }
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::NodeKilled,
        Self::Unplugged,
        Self::DaemonKilled,
        Self::DaemonPaused,
        Self::AddressRemoved,
        Self::Stopped,
        Self::Failover,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::NodeKilled => "node killed",
            Self::Unplugged => "unplugged",
            Self::DaemonKilled => "daemon killed",
            Self::DaemonPaused => "daemon paused",
            Self::AddressRemoved => "address removed",
            Self::Stopped => "stopped",
            Self::Failover => "failover",
        }
    }
}

struct Measured {
    fault: Fault,
    contender: Contender,
    lost: Times,
    /// Runs in which both nodes answered who has the address.
    doubles: u32,
    /// Runs in which it moved more often than the fault was reason for.
    restless: u32,
}

pub fn run(options: &Options) -> Result<()> {
    let all = Fault::ALL
        .iter()
        .flat_map(|fault| Contender::ALL.iter().map(|contender| (*fault, *contender)));
    // keepalived has no word for it.
    let all = all.filter(|pair| *pair != (Fault::Failover, Contender::Keepalived));
    let mut measured: Vec<_> = all
        .map(|(fault, contender)| Measured {
            fault,
            contender,
            lost: Times::default(),
            doubles: 0,
            restless: 0,
        })
        .collect();
    for round in 0..options.runs {
        for Measured {
            fault,
            contender,
            lost,
            doubles,
            restless,
        } in &mut measured
        {
            if *contender == Contender::Keepalived && round % SLOW_EVERY != 0 {
                continue;
            }
            let seen = in_a_lab(|lab| one(lab, *contender, *fault))
                .with_context(|| format!("{}: {}", fault.name(), contender.name()))?;
            eprintln!(
                "  round {}, {}, {}: {} ms",
                round + 1,
                fault.name(),
                contender.name(),
                seen.lost.as_millis()
            );
            lost.add(seen.lost);
            *doubles += u32::from(seen.is_double);
            *restless += u32::from(seen.is_restless);
        }
    }
    let line = |measured: &Measured| {
        let Measured {
            fault,
            contender,
            doubles,
            restless,
            ..
        } = measured;
        let oddities = [(doubles, "two nodes answered by ARP"), (restless, "it moved once more")];
        let oddities = oddities.into_iter().filter(|(runs, _)| **runs > 0);
        let oddities: String = oddities
            .map(|(runs, what)| format!(" ({what} in {runs} runs)"))
            .collect();
        (
            format!("{}: {}{oddities}", fault.name(), contender.name()),
            vec![measured.lost.clone()],
        )
    };
    println!("\nThe master of two nodes fails or yields: the last call that was lost");
    print!(
        "{}",
        times_table(&["lost for"], &measured.iter().map(line).collect::<Vec<_>>())
    );
    Ok(())
}

fn in_a_lab<T>(run: impl FnOnce(&Lab) -> Result<T>) -> Result<T> {
    let lab = Lab::new()?;
    run(&lab).inspect_err(|_| lab.show_logs())
}

struct Seen {
    lost: Duration,
    is_double: bool,
    is_restless: bool,
}

/// What runs on a node; Drop ends it.
enum Node<'a> {
    Naru(Naru<'a>),
    Keepalived { vrrp: Keepalived, _proxy: Process },
}

fn one(lab: &Lab, contender: Contender, fault: Fault) -> Result<Seen> {
    let net = Twins::new(lab, BACKENDS)?;
    let _servers = net.serve(lab)?;
    let mut master = Node::start(lab, contender, &net, &net.a, 150)?;
    has(&net.a, true)?;
    let _backup = Node::start(lab, contender, &net, &net.b, 100)?;
    let caller = Caller::start(&net.client, LISTEN)?;
    caller.heard("b1", Instant::now(), PATIENCE)?;
    let watch = ArpWatch::start(&net.watcher, VIP)?;
    // What both made of their beginning is over.
    caller.lost_for(Instant::now(), PATIENCE)?;

    let begun = Instant::now();
    match fault {
        Fault::NodeKilled => {
            net.cut_off(&net.a)?;
            master.kill()?;
        }
        Fault::Unplugged => net.cut_off(&net.a)?,
        Fault::DaemonKilled => master.kill()?,
        Fault::DaemonPaused => master.pause()?,
        Fault::AddressRemoved => net.a.ip(&format!("addr del {VIP}/24 dev eth0"))?,
        Fault::Stopped => master.stop()?,
        Fault::Failover => master.failover()?,
    }
    let lost = caller.lost_for(begun, PATIENCE)?;
    if fault != Fault::AddressRemoved {
        has(&net.b, true)?;
    }
    let mut owners = watch.owners();
    let moves = owners.len();
    owners.sort_unstable();
    owners.dedup();
    let is_double = watch.answered_twice() > 0;
    let is_restless = !is_double && moves > owners.len();
    if (is_double || is_restless) && contender != Contender::Keepalived {
        lab.show_logs();
    }
    Ok(Seen {
        lost,
        is_double,
        is_restless,
    })
}

fn has(node: &Namespace, has: bool) -> Result<()> {
    until(PATIENCE, || {
        let shown = node.stdout("ip", &["-br", "address", "show", "eth0"])?;
        ensure!(shown.contains(&VIP.to_string()) == has, "{}: {shown}", node.role());
        Ok(())
    })
}

impl<'a> Node<'a> {
    fn start(lab: &Lab, contender: Contender, net: &Twins, node: &'a Namespace, priority: u8) -> Result<Self> {
        match contender {
            Contender::Naru { interval_ms } => {
                let config = format!(
                    "[node]\nmax_flows = 4096\n\n[vrrp.main]\ninterface = \"eth0\"\nid = 51\npriority = {priority}\n\
                     interval = \"{interval_ms}ms\"\naddresses = [\"{VIP}/24\"]\n\n{}",
                    net.service()
                );
                Naru::run(lab, node, &config).map(Self::Naru)
            }
            Contender::Keepalived => {
                node.sysctl("net/ipv4/ip_nonlocal_bind", "1")?;
                Ok(Self::Keepalived {
                    _proxy: haproxy_with(lab, node, &proxy_config())?,
                    vrrp: Keepalived::start(lab, node, &keepalived_config(priority))?,
                })
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        match self {
            Self::Naru(naru) => naru.kill9(),
            Self::Keepalived { vrrp, .. } => vrrp.kill(),
        }
    }

    fn pause(&self) -> Result<()> {
        match self {
            Self::Naru(naru) => naru.pause(),
            Self::Keepalived { vrrp, .. } => vrrp.pause(),
        }
    }

    fn stop(&mut self) -> Result<()> {
        match self {
            Self::Naru(naru) => naru.stop().map(|_| ()),
            Self::Keepalived { vrrp, .. } => vrrp.stop(),
        }
    }

    fn failover(&self) -> Result<()> {
        match self {
            Self::Naru(naru) => naru.tell(&["failover"]).map(|_| ()),
            Self::Keepalived { .. } => unreachable!("not measured"),
        }
    }
}

fn proxy_config() -> String {
    let servers = (0..BACKENDS).map(|index| format!("    server s{index} {} check\n", Twins::backend(index)));
    format!(
        "global\n    maxconn 4096\ndefaults\n    mode tcp\n    balance roundrobin\n    timeout connect 5s\n    \
         timeout client 1m\n    timeout server 1m\nlisten web\n    bind {LISTEN}\n{}",
        servers.collect::<String>()
    )
}

fn keepalived_config(priority: u8) -> String {
    format!(
        "vrrp_instance main {{\n    interface eth0\n    virtual_router_id 51\n    priority {priority}\n    \
         virtual_ipaddress {{\n        {VIP}/24\n    }}\n}}\n"
    )
}
