//! A flood of SYNs from clients that do not exist, as fast as one CPU makes them.
//!
//! Whoever answers one gets no further: the client's host takes no packet for an address that it does not have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, include_bytes_aligned};
use lb_tests_bpf::{Flood, SYN_WORDS};

use super::Topology;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab-xdp"));

/// The clients' addresses: 198.19.0.0/16.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const FRAME_LEN: usize = 60;
/// Fits the ring of a veth, so that nothing is lost before the load balancer.
const BATCH: u32 = 128;
/// Of one run; between two of them the clock is looked at.
const FRAMES: u32 = 1 << 15;

/// One that is under way.
pub struct SynFlood {
    thread: JoinHandle<Result<u64>>,
}

impl SynFlood {
    /// From the client's link to `listen`, for so long.
    pub fn start(net: &Topology, listen: SocketAddr, duration: Duration) -> Result<Self> {
        // The way back to the clients that do not exist.
        net.node.ip(&format!("route add {FIRST_SOURCE}/16 via 198.18.0.2"))?;
        let mut ebpf = Ebpf::load(OBJECT).context("load the lab's BPF programs")?;
        let mut map: Array<&mut MapData, Flood> = ebpf.map_mut("FLOOD").context("find map FLOOD")?.try_into()?;
        map.set(0, flood(net, listen)?, 0).context("set FLOOD")?;
        let program: &mut Xdp = ebpf
            .program_mut("flood")
            .context("find BPF program flood")?
            .try_into()?;
        program.load().context("load BPF program flood")?;
        let thread = net.client.inside(|| thread::spawn(move || send(&ebpf, duration)))?;
        Ok(Self { thread })
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// How many SYNs it was.
    pub fn finish(self) -> Result<u64> {
        self.thread.join().expect("the flood does not panic")
    }
}

fn send(ebpf: &Ebpf, duration: Duration) -> Result<u64> {
    let program: &Xdp = ebpf.program("flood").context("find BPF program flood")?.try_into()?;
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < duration {
        let options = TestRunOptions {
            data_in: Some(&[0; FRAME_LEN]),
            repeat: FRAMES,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        program.test_run(options).context("run the flood")?;
        sent += u64::from(FRAMES);
    }
    Ok(sent)
}

fn flood(net: &Topology, listen: SocketAddr) -> Result<Flood> {
    let IpAddr::V4(address) = listen.ip() else {
        bail!("the flood is of IPv4 only");
    };
    let ((ifindex, from), (_, to)) = (net.client.link("eth0")?, net.node.link("clients")?);
    let mut bytes = [0; SYN_WORDS * 4];
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
    bytes[12..18].copy_from_slice(&[0x08, 0x00, 0x45, 0, 0, 40]);
    bytes[22..24].copy_from_slice(&[64, 6]);
    bytes[30..34].copy_from_slice(&address.octets());
    bytes[36..38].copy_from_slice(&listen.port().to_be_bytes());
    // Length of the header and SYN; a window.
    bytes[46..50].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);

    let word = |offset: usize| u32::from(u16::from_ne_bytes([bytes[offset], bytes[offset + 1]]));
    let ip_sum = (14..34).step_by(2).map(word).sum();
    let pseudo = [6_u16.to_be(), 20_u16.to_be()];
    let tcp_sum = (30..54).step_by(2).map(word).sum::<u32>() + pseudo.map(u32::from).iter().sum::<u32>();
    let (words, _) = bytes.as_chunks::<4>();
    let mut header = [0; SYN_WORDS];
    for (word, bytes) in header.iter_mut().zip(words) {
        *word = u32::from_ne_bytes(*bytes);
    }
    Ok(Flood {
        header,
        ip_sum,
        tcp_sum,
        first_source: FIRST_SOURCE.to_bits(),
        ifindex,
    })
}
