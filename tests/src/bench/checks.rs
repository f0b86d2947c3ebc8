//! What very many checks cost the daemon, and whether each comes in its time, by what the servers see of them.
//!
//! All backends are addresses of one host behind a router, so that no table of neighbours is measured with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt::{self, Timeout};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Options;
use super::chain::{Chain, LISTEN, server_address};
use super::figures::{Times, times_table};
use crate::lab::{Lab, Namespace, Naru};

const PORT: u16 = 8080;
/// Everything in here is the server's.
const ADDRESSES: &str = "198.18.64.0/18";
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 1);
const OF_A_SERVICE: usize = 100;
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_UP: Duration = Duration::from_millis(500);
const DEFAULT_SECONDS: u64 = 10;
const CASES: [(usize, Duration); 2] = [(10_000, Duration::from_secs(1)), (1_000, Duration::from_millis(100))];

pub fn run(lab: &Lab, options: &Options) -> Result<()> {
    let chain = Chain::new(lab, "checks", 1, 1)?;
    let _ends = chain.xdp_ends("pass", "pass")?;
    let server = &chain.servers[0];
    server.ip(&format!("route add local {ADDRESSES} dev lo"))?;
    chain
        .lb
        .ip(&format!("route add {ADDRESSES} via {}", server_address(1, 1)))?;
    let seconds = options.seconds.unwrap_or(DEFAULT_SECONDS);
    let mut lines = Vec::new();
    println!();
    for (backends, every) in CASES {
        let doorman = Doorman::start(server)?;
        let begun = Instant::now();
        let naru = Naru::run(lab, &chain.lb, &config(backends, every))?;
        while let Err(error) = all_up(&naru, backends) {
            ensure!(begun.elapsed() < READY_WITHIN, "{error:#}");
            // To be asked costs time, too.
            thread::sleep(LOOK_UP);
        }
        println!(
            "{backends} backends every {every:?}: all up {:.1} s after the start",
            begun.elapsed().as_secs_f64()
        );

        let process = naru.process_id().context("find naru")?;
        for place in Place::ALL {
            place.take(server, process)?;
            let seen = watch(&doorman, process, seconds, place)?;
            ensure!(seen.len() == backends, "only {} backends were asked", seen.len());
            let mut gaps = Times::default();
            for times in seen.values() {
                times.windows(2).for_each(|two| gaps.add(two[1] - two[0]));
            }
            lines.push((
                format!("{backends} backends every {every:?}, server {}", place.name()),
                vec![gaps],
            ));
        }
    }
    println!("From one check of a backend to the next, which is to be at most a tenth more than its time");
    print!("{}", times_table(&["between"], &lines));
    Ok(())
}

/// Where the kernel works for the server: on whichever core, at the daemon's expense where it sends; or on a core that the
/// daemon does not have, as a server is on a machine of its own.
#[derive(Clone, Copy)]
enum Place {
    Beside,
    Apart,
}

impl Place {
    const ALL: [Self; 2] = [Self::Beside, Self::Apart];

    const fn name(self) -> &'static str {
        match self {
            Self::Beside => "beside",
            Self::Apart => "apart",
        }
    }

    fn take(self, server: &Namespace, naru: u32) -> Result<()> {
        if matches!(self, Self::Beside) {
            return Ok(());
        }
        let cores = sched_getaffinity(None).context("find the cores")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core));
        let (Some(first), Some(second)) = (cores.next(), cores.next()) else {
            bail!("this takes two cores");
        };
        let mut own = CpuSet::new();
        own.set(first);
        sched_setaffinity(Pid::from_raw(naru.cast_signed()), &own).context("pin naru")?;
        let receive = format!("echo {:x} > /sys/class/net/eth0/queues/rx-0/rps_cpus", 1_u64 << second);
        // It shows the network's own part of /sys, which the namespace alone does not.
        let mut command = Command::new("ip");
        let done = command
            .args(["netns", "exec", &server.name(), "sh", "-c", &receive])
            .status();
        ensure!(done.context("run ip")?.success(), "{receive}");
        Ok(())
    }
}

fn watch(doorman: &Doorman, process: u32, seconds: u64, place: Place) -> Result<Seen> {
    drop(doorman.seen());
    let (before, watched) = (cpu_time(process)?, Instant::now());
    // Nothing is waited for: time itself is what is measured.
    thread::sleep(Duration::from_secs(seconds));
    let (after, elapsed) = (cpu_time(process)?, watched.elapsed());
    let seen = doorman.seen();
    let a_second = seen.values().map(Vec::len).sum::<usize>() as f64 / elapsed.as_secs_f64();
    let share = |part: usize| 100.0 * (after[part] - before[part]).as_secs_f64() / elapsed.as_secs_f64();
    println!(
        "  server {}: {a_second:.0} checks a second, {:.0} % of a core; waited for one {:.0} % of the time",
        place.name(),
        share(0),
        share(1)
    );
    Ok(seen)
}

fn config(backends: usize, every: Duration) -> String {
    let addresses: Vec<_> = (FIRST.to_bits()..)
        .take(backends)
        .map(|bits| format!("\"{}:{PORT}\"", Ipv4Addr::from_bits(bits)))
        .collect();
    let mut text = format!(
        "[node]\nmax_flows = 4096\n[check.often]\ntype = \"tcp\"\nevery = \"{}ms\"\n",
        every.as_millis()
    );
    for (number, backends) in (1_u16..).zip(addresses.chunks(OF_A_SERVICE)) {
        let _ = writeln!(
            text,
            "[service.s{number}]\nlisten = \"{LISTEN}:{number}\"\ncheck = \"often\"\nbackends = [{}]",
            backends.join(", ")
        );
    }
    text
}

fn all_up(naru: &Naru<'_>, backends: usize) -> Result<()> {
    let status = naru.status()?;
    let services = status["services"].as_array().context("find the services")?;
    let all = services
        .iter()
        .filter_map(|service| service["backends"].as_array())
        .flatten();
    let up = all.filter(|backend| backend["state"] == "up").count();
    ensure!(up == backends, "{up} are up");
    Ok(())
}

/// On a CPU, in the kernel as well, and waiting for one, so far.
fn cpu_time(process: u32) -> Result<[Duration; 2]> {
    let text = fs::read_to_string(format!("/proc/{process}/schedstat")).context("read schedstat")?;
    let mut nanoseconds = text.split_whitespace().map(str::parse);
    let mut next = || {
        let value = nanoseconds.next().context("read schedstat")??;
        Ok::<_, anyhow::Error>(Duration::from_nanos(value))
    };
    Ok([next()?, next()?])
}

type Seen = BTreeMap<IpAddr, Vec<Instant>>;

/// Lets everybody in, and remembers when which door was knocked at.
struct Doorman {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Doorman {
    fn start(namespace: &Namespace) -> Result<Self> {
        let listener = namespace.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
        // More than std has them come in while a busy machine is elsewhere.
        rustix::net::listen(&listener, 4096)?;
        // It holds for `accept` too.
        sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(LOOK_UP))?;
        let seen = Arc::new(Mutex::new(Seen::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (told, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                let door = listener.accept().and_then(|(stream, _)| stream.local_addr());
                let Ok(door) = door else { continue };
                let mut seen = told.lock().unwrap_or_else(PoisonError::into_inner);
                seen.entry(door.ip()).or_default().push(Instant::now());
            }
        };
        let thread = Some(thread::spawn(work));
        Ok(Self { seen, stop, thread })
    }

    /// Since the last time.
    fn seen(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Doorman {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
