//! The two ends of the UDP bench: a generator that fills one core, and a sink that counts what arrives.
//!
//! The caller brings its thread into the client's namespace and onto one CPU, and decides what stands between.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use lb_common::wire::{Be32, Ether};
use lb_tests_bpf::{ANSWER_ME, HEADER_WORDS, Redirect, Stream, Sunk};

use crate::lab::Namespace;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab-xdp"));

/// The smallest Ethernet frame: 64 bytes with the checksum that a card adds.
pub const FRAME_LEN: usize = 60;
/// Fits the ring of a veth, so that nothing is lost before the load balancer.
const BATCH: u32 = 128;
/// Frames that show how long the others will take.
const FIRST_RUN: u32 = 1 << 17;
const SHORTEST_RUN: u32 = 1 << 14;

/// One load of the lab's programs, with maps of its own.
pub struct Programs {
    ebpf: Ebpf,
}

#[derive(Clone, Copy, Debug)]
pub enum Until {
    Sent(u64),
    Elapsed(Duration),
}

impl Until {
    /// For the next run of the generator, as many as seem to be left: each run also costs the kernel some 30 ms.
    fn frames_left(self, sent: u64, elapsed: Duration) -> Option<u32> {
        let left = match self {
            Self::Sent(frames) => frames.saturating_sub(sent),
            Self::Elapsed(duration) if duration <= elapsed => 0,
            Self::Elapsed(_) if sent == 0 => u64::from(FIRST_RUN),
            Self::Elapsed(duration) => {
                let left = (duration - elapsed).as_secs_f64() / elapsed.as_secs_f64();
                u64::max((left * sent as f64) as u64, u64::from(SHORTEST_RUN))
            }
        };
        u32::try_from(left).ok().filter(|left| *left > 0)
    }
}

/// What one measurement saw.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub sent: u64,
    pub received: u64,
    /// Time on the CPU.
    pub elapsed: Duration,
}

impl Sample {
    pub fn per_second(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64()
    }
}

impl Programs {
    pub fn load() -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("load the lab's BPF programs")?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("load BPF program {name}"))?;
        }
        Ok(Self { ebpf })
    }

    /// Attaches natively, for as long as `self` lives.
    pub fn attach(&mut self, namespace: &Namespace, program: &str, interface: &str) -> Result<()> {
        let xdp: &mut Xdp = self.ebpf.program_mut(program).context("find BPF program")?.try_into()?;
        namespace
            .inside(|| xdp.attach(interface, XdpMode::Driver))?
            .with_context(|| format!("attach BPF program {program} to {interface} in {}", namespace.role()))?;
        Ok(())
    }

    pub fn set_redirect(&mut self, redirect: Redirect) -> Result<()> {
        let mut map: Array<&mut MapData, Redirect> = self.ebpf.map_mut("REDIRECT").context("find map")?.try_into()?;
        map.set(0, redirect, 0).context("set REDIRECT")
    }

    pub fn set_stream(&mut self, stream: Stream) -> Result<()> {
        let mut map: Array<&mut MapData, Stream> = self.ebpf.map_mut("STREAM").context("find map")?.try_into()?;
        map.set(0, stream, 0).context("set STREAM")
    }

    /// Sends from the thread's namespace, on the CPU it is pinned to.
    pub fn send(&self, until: Until, cpu: usize) -> Result<Sample> {
        let before = self.received()?;
        let (mut sent, mut elapsed) = (0, Duration::ZERO);
        while let Some(frames) = until.frames_left(sent, elapsed) {
            elapsed += self.generate(frames)?;
            sent += u64::from(frames);
        }
        let mut received = self.received()?;
        received
            .iter_mut()
            .zip(&before)
            .for_each(|(now, before)| *now -= before);
        let all: u64 = received.iter().sum();
        let here = received.get(cpu).copied().unwrap_or(0);
        ensure!(
            here == all,
            "{} of {all} frames were received on another CPU",
            all - here
        );
        Ok(Sample {
            sent,
            received: all,
            elapsed,
        })
    }

    /// How long the frames took on this CPU by the kernel's count: without the making of the frames' memory, and
    /// without the time in which other processes had the CPU.
    fn generate(&self, frames: u32) -> Result<Duration> {
        let generator: &Xdp = self.ebpf.program("generator").context("find BPF program")?.try_into()?;
        let options = TestRunOptions {
            data_in: Some(&[0; FRAME_LEN]),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        let run = generator.test_run(options).context("run the generator")?;
        // The kernel tells the mean for one frame, in whole nanoseconds.
        Ok(run.duration * frames)
    }

    /// Frames that the sink counted on each CPU.
    fn received(&self) -> Result<Vec<u64>> {
        let map: PerCpuArray<&MapData, Sunk> = self.ebpf.map("SUNK").context("find map")?.try_into()?;
        Ok(map.get(&0, 0)?.iter().map(|sunk| sunk.frames).collect())
    }
}

/// A stream from the client's interface `ifindex` to one listen. With `answered`,
/// each frame asks the sink for an answer.
pub fn stream(
    ether: Ether,
    ifindex: u32,
    first_source: Be32,
    listen: SocketAddrV4,
    flows: u32,
    answered: bool,
) -> Stream {
    let (ip_len, udp_len) = ((FRAME_LEN - 14) as u16, (FRAME_LEN - 34) as u16);
    let mut bytes = [0; HEADER_WORDS * 4];
    bytes[..6].copy_from_slice(&ether.destination());
    bytes[6..12].copy_from_slice(&ether.source());
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..16].copy_from_slice(&[0x45, 0]);
    bytes[16..18].copy_from_slice(&ip_len.to_be_bytes());
    bytes[22..24].copy_from_slice(&[64, 17]);
    bytes[30..34].copy_from_slice(&listen.ip().octets());
    bytes[36..38].copy_from_slice(&listen.port().to_be_bytes());
    bytes[38..40].copy_from_slice(&udp_len.to_be_bytes());
    if answered {
        bytes[42..].copy_from_slice(&ANSWER_ME.to_ne_bytes());
    }

    let word = |offset: usize| u32::from(u16::from_ne_bytes([bytes[offset], bytes[offset + 1]]));
    let ip_sum = (14..34).step_by(2).map(word).sum();
    // RFC 768: addresses, protocol and the length a second time; the rest of the payload is zeros.
    let pseudo = [17_u16.to_be(), udp_len.to_be()];
    let udp_sum = (30..44).step_by(2).map(word).sum::<u32>() + pseudo.map(u32::from).iter().sum::<u32>();

    let (words, _) = bytes.as_chunks::<4>();
    let mut header = [0; HEADER_WORDS];
    header
        .iter_mut()
        .zip(words)
        .for_each(|(word, bytes)| *word = u32::from_ne_bytes(*bytes));
    Stream {
        header,
        ip_sum,
        udp_sum,
        first_source: first_source.get(),
        flows,
        ifindex,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u32 {
        let total: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        (total & 0xffff) + (total >> 16)
    }

    fn is_right(sum: u32) -> bool {
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn every_flow_is_another_client_with_right_checksums() {
        let listen = "198.18.1.254:9000".parse().unwrap();
        let ether = Ether::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        for answered in [false, true] {
            let first = Be32::new(u32::from_be_bytes([198, 18, 1, 2]));
            let stream = stream(ether, 7, first, listen, 1_000_000, answered);
            let mut clients = std::collections::BTreeSet::new();
            for flow in (0..1_000_000).step_by(331) {
                let mut frame = stream.header_of(flow).map(u32::to_ne_bytes).concat();
                frame.resize(FRAME_LEN, 0);
                assert!(is_right(sum(&frame[14..34])), "IPv4, flow {flow}");
                let udp_length = (FRAME_LEN - 34) as u32;
                assert!(is_right(sum(&frame[26..]) + 17 + udp_length), "UDP, flow {flow}");
                assert_eq!(frame[30..34], [198, 18, 1, 254]);
                assert_eq!(frame[36..38], 9000_u16.to_be_bytes());
                clients.insert(frame[26..36].to_vec());
            }
            assert_eq!(clients.len(), 1_000_000_usize.div_ceil(331));
        }
    }
}
