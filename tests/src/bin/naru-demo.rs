//! Naru at work in a lab of its own: one node, three backends, a client with live traffic, and what to try.
//!
//! Everything runs in namespaces that it makes and removes, by Ctrl-C, too. Tested by tests/it/lab/demo.rs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lb_tests::lab::{Lab, Load, Naru, Nginx, Running, Topology, VIP, built};

const CONFIG: &str = include_str!("../../../config/demo.toml");
const BACKENDS: [&str; 3] = ["web-a", "web-b", "web-c"];
const LISTEN: SocketAddr = SocketAddr::new(VIP, 80);
const REFRESH: Duration = Duration::from_secs(1);
/// Two clients with this pause after each answer make about 100 requests a second.
const CLIENTS: u32 = 2;
const PAUSE: Duration = Duration::from_millis(20);

/// Shows Naru at work in network namespaces of its own.
#[derive(Parser)]
struct Arguments {
    /// End after so many seconds; without it Ctrl-C does.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match demo(arguments.seconds.map(Duration::from_secs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("naru-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(duration: Option<Duration>) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root, to make network namespaces: cargo xtask run"
    );
    let signals = Signals::block().context("block signals")?;
    let lab = Lab::new()?;
    let shown = show(&lab, duration, &signals);
    if shown.is_err() {
        lab.show_logs();
    }
    shown
}

fn show(lab: &Lab, duration: Option<Duration>, signals: &Signals) -> Result<()> {
    println!("setting up: a client, a node with naru, three nginx, each in a network namespace of its own");
    let net = Topology::with_backends(lab, &BACKENDS)?;
    let _servers = Nginx::on_each(lab, &net)?;
    let mut naru = Naru::run(lab, &net.node, CONFIG)?;
    let load = Load::one_each(CLIENTS).pause(PAUSE).start(&net.client, LISTEN)?;

    let terminal = io::stdout().is_terminal();
    let advice = advice(&net, &naru)?;
    if !terminal {
        println!("{advice}");
    }
    let begun = Instant::now();
    let mut before = 0;
    while !signals.wait(REFRESH) && duration.is_none_or(|duration| begun.elapsed() < duration) {
        naru.still_runs()?;
        let traffic = traffic(&load, &mut before);
        if terminal {
            // From the top of a cleared screen.
            print!("\x1b[H\x1b[J{}\n{traffic}\n\n{advice}\n", naru.tell(&["status"])?);
        } else {
            println!("{}  {traffic}", one_line(&naru)?);
        }
        io::stdout().flush()?;
    }
    println!("removing the lab");
    Ok(())
}

/// What the client sees.
fn traffic(load: &Running, before: &mut u64) -> String {
    let tally = load.tally();
    let answers = tally.answers();
    let errors: u64 = tally.errors.values().sum();
    let mut text = format!("client: {answers} answers, {}/s, {errors} errors", answers - *before);
    for name in BACKENDS {
        let _ = write!(text, "  {name} {:.0} %", tally.share(name));
    }
    *before = answers;
    text
}

/// The status for a log: a line.
fn one_line(naru: &Naru) -> Result<String> {
    let status = naru.status()?;
    let mut text = String::new();
    for service in status["services"].as_array().into_iter().flatten() {
        let word = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        let _ = write!(text, "{} {}", word(&service["name"]), word(&service["state"]));
        for backend in service["backends"].as_array().into_iter().flatten() {
            let (name, state) = (word(&backend["name"]), word(&backend["state"]));
            let _ = write!(text, "  {name} {state}, {} new flows", backend["new_flows"]);
        }
    }
    Ok(text)
}

/// Commands to copy, and what each shows.
fn advice(net: &Topology, naru: &Naru) -> Result<String> {
    let program = built("naru").or_else(|_| built("naru-under-test"))?;
    let program = program.display();
    let pins = naru.pins();
    let client = net.client.name();
    Ok(format!(
        "In another terminal, as root:

  export NARU_SOCKET={socket}
  {program} status                 what is served, by whom, and what is wrong
  {program} flows --backend web-a  the flow table
  {program} drain web/web-a        no new flows for web-a; undrain ends that
  {program} weight web/web-a 6     another share for web-a

  $EDITOR {config}
                                   change a weight and save: applied within a second

  bpftool map dump pinned {pins}/backends
                                   what the kernel holds, by name
  ip netns exec {client} curl -s http://{LISTEN}/
                                   one request more

Ctrl-C ends the demo and removes everything.",
        socket = naru.socket().display(),
        config = naru.config_path().display(),
        pins = pins.display(),
    ))
}

/// SIGINT and SIGTERM as something to wait for, so that every owner is dropped in order.
struct Signals(libc::sigset_t);

impl Signals {
    /// Before any thread: they inherit the mask. Programs started later do not.
    fn block() -> io::Result<Self> {
        // SAFETY: an all-zero sigset_t is a valid place for sigemptyset to write to.
        let mut set = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours and outlives the calls; the signal numbers are valid.
        let refused = unsafe {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
        };
        if refused == 0 {
            Ok(Self(set))
        } else {
            Err(io::Error::from_raw_os_error(refused))
        }
    }

    /// Whether one came within that time.
    fn wait(&self, within: Duration) -> bool {
        let within = libc::timespec {
            tv_sec: within.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        // SAFETY: both point to live values; no information about the signal is asked for.
        unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), &within) > 0 }
    }
}
