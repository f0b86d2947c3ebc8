//! One contender at work between a generator and a sink, all on one CPU.
//!
//! Generator, load balancer and sink share it, so a figure is the cost of the whole way; what a contender itself costs
//! shows in the comparison with the bare program. Received frames count, sent ones do not.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use lb_common::wire::{Be32, Ether};
use lb_tests_bpf::{Redirect, SINK_PORTS};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::chain::{
    CLIENT_MAC, CLIENTS_MAC, Chain, LISTEN, NEAR_SERVER, NEAR_SERVER_MAC, server_address, server_mac, server_port,
    server_side_mac,
};
use super::contender::{Contender, Running, Service};
use super::figures::{self, Row, median};
use super::traffic::{Programs, Sample, Until, stream};
use crate::lab::{Lab, Namespace};

/// A million flows need more source ports than one backend address offers.
const BACKENDS: u8 = 64;
pub const MAX_FLOWS: u32 = 1 << 20;
/// The first of the clients' addresses.
pub const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
const LISTEN_PORT: u16 = SINK_PORTS.0;

/// Clients of a stream: so many flows, from this address on.
#[derive(Clone, Copy)]
pub struct Clients {
    pub first: Ipv4Addr,
    pub flows: u32,
}

pub struct Rig<'a> {
    pub contender: Contender,
    pub running: Running<'a>,
    chain: &'a Chain,
    programs: Programs,
    cpu: usize,
    /// The client's interface.
    ifindex: u32,
}

/// A chain of its own for each contender.
pub fn chains(lab: &Lab, contenders: &[Contender]) -> Result<Vec<Chain>> {
    let chain = |contender: &Contender| Chain::new(lab, contender.name(), 1, BACKENDS);
    contenders.iter().map(chain).collect()
}

pub fn rigs<'a>(lab: &Lab, contenders: &[Contender], chains: &'a [Chain]) -> Result<Vec<Rig<'a>>> {
    let pairs = contenders.iter().zip(chains);
    pairs
        .map(|(contender, chain)| Rig::new(lab, *contender, chain))
        .collect()
}

impl<'a> Rig<'a> {
    fn new(lab: &Lab, contender: Contender, chain: &'a Chain) -> Result<Self> {
        let client_program = if contender.leaves_by_the_same_link() {
            "returned"
        } else {
            "swallow"
        };
        let mut programs = chain.xdp_ends(client_program, "sink")?;
        match contender {
            Contender::Redirect => {
                let ether = Ether::new(server_mac(1), server_side_mac(1));
                let ifindex = interface(&chain.lb, &server_port(1))?;
                programs.set_redirect(Redirect { ether, ifindex })?;
                programs.attach(&chain.lb, "redirect", "clients")?;
            }
            Contender::Transmit => {
                let ether = Ether::new(NEAR_SERVER_MAC, CLIENTS_MAC);
                programs.set_redirect(Redirect { ether, ifindex: 0 })?;
                programs.attach(&chain.lb, "transmit", "clients")?;
            }
            // Frames from XDP enter a veth only where a program or GRO receives them; GRO would cost nftables more.
            Contender::Nftables => {
                programs.attach(&chain.lb, "pass", "clients")?;
                programs.attach(&chain.lb, "pass", &server_port(1))?;
            }
            _ => {}
        }
        let ifindex = interface(&chain.client, "eth0")?;
        let running = contender.start(lab, &chain.lb, &service(contender))?;
        Ok(Self {
            contender,
            running,
            chain,
            programs,
            cpu: last_cpu()?,
            ifindex,
        })
    }

    /// Makes every flow known, where there are two directions in both: its first frames cost more than all that follow.
    pub fn warm(&mut self, clients: Clients) -> Result<()> {
        let answered = !self.contender.leaves_by_the_same_link();
        let frames = Until::Sent(2 * u64::from(clients.flows));
        self.send(clients, answered, frames).map(|_| ())
    }

    pub fn measure(&mut self, clients: Clients, until: Until) -> Result<Sample> {
        self.send(clients, false, until)
    }

    fn send(&mut self, Clients { first, flows }: Clients, answered: bool, until: Until) -> Result<Sample> {
        let ether = Ether::new(CLIENTS_MAC, CLIENT_MAC);
        let listen = SocketAddrV4::new(LISTEN, LISTEN_PORT);
        let stream = stream(ether, self.ifindex, Be32::from(first), listen, flows, answered);
        self.programs.set_stream(stream)?;
        let sample = self.chain.client.inside(|| {
            pin(self.cpu)?;
            self.programs.send(until, self.cpu)
        });
        sample?.with_context(|| format!("measure {}", self.contender.name()))
    }
}

/// A line for each rig; the first one is what the others' own cost is counted from.
pub fn table(rigs: &[Rig<'_>], samples: &[Vec<Sample>], unit: (&str, f64), bases: &[Contender]) -> String {
    let base = nanoseconds(&samples[0]);
    let rows: Vec<Row> = rigs
        .iter()
        .zip(samples)
        .map(|(rig, samples)| row(rig.contender, samples, base))
        .collect();
    let bases: Vec<_> = bases.iter().map(|base| base.name()).collect();
    let over = format!("over {}", rigs[0].contender.name());
    figures::table(&rows, unit, &bases, &["ns/frame", &over, "lost"])
}

/// In each round every rig once.
pub fn in_turns(
    rigs: &mut [Rig<'_>],
    runs: u32,
    mut measure: impl FnMut(&mut Rig<'_>, u32) -> Result<Sample>,
) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); rigs.len()];
    for round in 0..runs {
        for (rig, samples) in rigs.iter_mut().zip(&mut samples) {
            samples.push(measure(rig, round)?);
        }
    }
    Ok(samples)
}

fn row(contender: Contender, samples: &[Sample], base: f64) -> Row {
    let (sent, received) = samples
        .iter()
        .fold((0, 0), |(sent, received), s| (sent + s.sent, received + s.received));
    let lost = 100.0 * (1.0 - received as f64 / sent as f64);
    let ns = nanoseconds(samples);
    let more = vec![format!("{ns:.0}"), format!("{:+.0}", ns - base), format!("{lost:.2} %")];
    Row {
        name: contender.name(),
        samples: samples.iter().map(Sample::per_second).collect(),
        more,
    }
}

fn nanoseconds(samples: &[Sample]) -> f64 {
    1e9 / median(&samples.iter().map(Sample::per_second).collect::<Vec<_>>())
}

fn service(contender: Contender) -> Service {
    let backends = if contender.leaves_by_the_same_link() {
        vec![SocketAddrV4::new(NEAR_SERVER, LISTEN_PORT)]
    } else {
        (1..=BACKENDS)
            .map(|index| SocketAddrV4::new(server_address(1, index), SINK_PORTS.1))
            .collect()
    };
    Service {
        protocol: "udp",
        listen: SocketAddrV4::new(LISTEN, LISTEN_PORT),
        backends,
        max_flows: MAX_FLOWS,
    }
}

fn interface(namespace: &Namespace, name: &str) -> Result<u32> {
    let text = namespace.stdout("ip", &["-o", "link", "show", name])?;
    let (index, _) = text.split_once(':').context("read the interface index")?;
    Ok(index.parse()?)
}

/// The first CPU has most of the machine's other work.
pub fn last_cpu() -> Result<usize> {
    let cpus = sched_getaffinity(None).context("read the CPU affinity")?;
    (0..CpuSet::MAX_CPU)
        .rev()
        .find(|cpu| cpus.is_set(*cpu))
        .context("find a CPU")
}

fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).context("pin the generator to its CPU")
}
