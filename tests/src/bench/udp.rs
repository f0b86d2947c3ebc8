//! Frames of one core: the smallest UDP frames through each contender, by number of flows.
//!
//! Generator, load balancer and sink all run on one CPU, so a figure is the cost of the whole way; what a contender
//! itself costs shows in the comparison with the bare redirect. Received frames count, sent ones do not.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_common::wire::{Be32, Ether};
use lb_tests_bpf::{Redirect, SINK_PORTS};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Options;
use super::chain::{CLIENT_MAC, CLIENTS_MAC, Chain, LISTEN, server_address, server_mac, server_port, server_side_mac};
use super::contender::{Contender, Running, Service};
use super::figures::{self, Row, median};
use super::traffic::{FRAME_LEN, Programs, Sample, Until, stream};
use crate::lab::{Lab, Namespace};

const FLOWS: [u32; 3] = [100, 50_000, 1_000_000];
const CONTENDERS: [Contender; 3] = [Contender::Redirect, Contender::Naru, Contender::Nftables];
/// A million flows need more source ports than one backend address offers.
const BACKENDS: u8 = 64;
const FIRST_SOURCE: u32 = u32::from_be_bytes([198, 18, 1, 2]);
const DEFAULT_SECONDS: u64 = 2;

struct Rig<'a> {
    contender: Contender,
    chain: &'a Chain,
    programs: Programs,
    cpu: usize,
    /// The client's interface.
    ifindex: u32,
    _running: Running<'a>,
}

pub fn run(lab: &Lab, options: &Options) -> Result<()> {
    let _conntrack = Conntrack::enlarge()?;
    let chains = CONTENDERS.map(|contender| Chain::new(lab, contender.name(), 1, BACKENDS));
    let chains = chains.into_iter().collect::<Result<Vec<_>>>()?;
    let cpu = last_cpu()?;
    let rigs = CONTENDERS
        .iter()
        .zip(&chains)
        .map(|(contender, chain)| rig(lab, *contender, chain, cpu));
    let mut rigs = rigs.collect::<Result<Vec<_>>>()?;
    let duration = Duration::from_secs(options.seconds.unwrap_or(DEFAULT_SECONDS));
    for flows in FLOWS {
        println!(
            "\nudp, {} byte frames, {flows} flows, CPU {cpu} only, {duration:?} each",
            FRAME_LEN + 4
        );
        print!("{}", one_table(&mut rigs, flows, options.runs, duration)?);
    }
    Ok(())
}

fn one_table(rigs: &mut [Rig<'_>], flows: u32, runs: u32, duration: Duration) -> Result<String> {
    for rig in &mut *rigs {
        rig.warm(flows)?;
    }
    let mut samples = vec![Vec::new(); rigs.len()];
    for _ in 0..runs {
        for (rig, samples) in rigs.iter_mut().zip(&mut samples) {
            samples.push(rig.measure(flows, duration)?);
        }
    }
    let base = nanoseconds(&samples[0]);
    let rows: Vec<Row> = rigs
        .iter()
        .zip(&samples)
        .map(|(rig, samples)| row(rig.contender, samples, base))
        .collect();
    let bases = [Contender::Redirect, Contender::Nftables].map(Contender::name);
    Ok(figures::table(
        &rows,
        ("Mpps", 1e6),
        &bases,
        &["ns/frame", "over redirect", "lost"],
    ))
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

fn rig<'a>(lab: &Lab, contender: Contender, chain: &'a Chain, cpu: usize) -> Result<Rig<'a>> {
    let mut programs = chain.xdp_ends("swallow", "sink")?;
    match contender {
        Contender::Redirect => {
            let ether = Ether::new(server_mac(1), server_side_mac(1));
            let ifindex = interface(&chain.lb, &server_port(1))?;
            programs.set_redirect(Redirect { ether, ifindex })?;
            programs.attach(&chain.lb, "redirect", "clients")?;
        }
        // Frames from XDP enter a veth only where a program or GRO receives them; GRO would cost nftables more.
        Contender::Nftables => {
            programs.attach(&chain.lb, "pass", "clients")?;
            programs.attach(&chain.lb, "pass", &server_port(1))?;
        }
        _ => {}
    }
    let ifindex = interface(&chain.client, "eth0")?;
    let running = contender.start(lab, &chain.lb, &service())?;
    Ok(Rig {
        contender,
        chain,
        programs,
        cpu,
        ifindex,
        _running: running,
    })
}

impl Rig<'_> {
    /// Makes every flow known, in both directions: its first frames cost more than all that follow.
    fn warm(&mut self, flows: u32) -> Result<()> {
        self.send(flows, true, Until::Sent(2 * u64::from(flows))).map(|_| ())
    }

    fn measure(&mut self, flows: u32, duration: Duration) -> Result<Sample> {
        self.send(flows, false, Until::Elapsed(duration))
    }

    fn send(&mut self, flows: u32, answered: bool, until: Until) -> Result<Sample> {
        let ether = Ether::new(CLIENTS_MAC, CLIENT_MAC);
        let first_source = Be32::new(FIRST_SOURCE);
        let stream = stream(ether, self.ifindex, first_source, service().listen, flows, answered);
        self.programs.set_stream(stream)?;
        let sample = self.chain.client.inside(|| {
            pin(self.cpu)?;
            self.programs.send(until, self.cpu)
        });
        sample?.with_context(|| format!("measure {}", self.contender.name()))
    }
}

fn service() -> Service {
    let (port, backend_port) = SINK_PORTS;
    Service {
        protocol: "udp",
        listen: SocketAddrV4::new(LISTEN, port),
        backends: (1..=BACKENDS)
            .map(|index| SocketAddrV4::new(server_address(1, index), backend_port))
            .collect(),
        max_flows: 1 << 20,
    }
}

fn interface(namespace: &Namespace, name: &str) -> Result<u32> {
    let text = namespace.stdout("ip", &["-o", "link", "show", name])?;
    let (index, _) = text.split_once(':').context("read the interface index")?;
    Ok(index.parse()?)
}

/// The first CPU has most of the machine's other work.
fn last_cpu() -> Result<usize> {
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

/// The connection table, which all namespaces share: as large as it is set up for a million flows; as it was on Drop.
struct Conntrack {
    before: [String; 2],
}

impl Conntrack {
    const FILES: [&str; 2] = [
        "/proc/sys/net/netfilter/nf_conntrack_buckets",
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ];
    /// Two entries a flow, and half of it left empty.
    const SIZE: &str = "4194304";

    fn enlarge() -> Result<Self> {
        let before = Self::FILES.map(|file| std::fs::read_to_string(file).with_context(|| format!("read {file}")));
        let [buckets, max] = before;
        let before = [buckets?, max?];
        for file in Self::FILES {
            std::fs::write(file, Self::SIZE).with_context(|| format!("write {file}"))?;
        }
        Ok(Self { before })
    }
}

impl Drop for Conntrack {
    fn drop(&mut self) {
        for (file, before) in Self::FILES.iter().zip(&self.before) {
            if let Err(error) = std::fs::write(file, before) {
                eprintln!("{file} stays at {}: {error}", Self::SIZE);
            }
        }
    }
}
