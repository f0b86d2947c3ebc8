//! Naru at work in a lab of its own: two nodes that share an address, three backends, a client with live traffic, and what
//! to try: above all to kill the master.
//!
//! Everything runs in namespaces that it makes and removes, by Ctrl-C, too. Tested by tests/it/lab/demo.rs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lb_tests::lab::{Caller, Lab, Naru, Twins, VIP, built};

const CONFIG: &str = include_str!("../../../config/demo.toml");
/// Where the other node's differs.
const OTHERS: [(&str, &str); 2] = [("\"lb-a\"", "\"lb-b\""), ("priority = 150", "priority = 100")];
const BACKENDS: [&str; 3] = ["web-a", "web-b", "web-c"];
const LISTEN: SocketAddr = SocketAddr::new(VIP, 80);
const REFRESH: Duration = Duration::from_secs(1);
/// How soon a key is heard.
const ATTENTION: Duration = Duration::from_millis(50);
/// Calls not older than this are told of.
const RECENT: Duration = Duration::from_secs(10);

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
    println!("setting up: a client, two nodes with naru, three nginx, each in a network namespace of its own");
    let net = Twins::with_backends(lab, &BACKENDS)?;
    let _servers = net.serve(lab)?;
    let other = OTHERS
        .iter()
        .fold(CONFIG.to_owned(), |text, (from, to)| text.replace(from, to));
    let mut pair = Pair {
        nodes: [Naru::run(lab, &net.a, CONFIG)?, Naru::run(lab, &net.b, &other)?],
        dead: None,
    };
    let caller = Caller::start(&net.client, LISTEN)?;
    let keyboard = Keyboard::open();

    let terminal = io::stdout().is_terminal();
    let advice = advice(&net, &pair.nodes[0])?;
    if !terminal {
        println!("{advice}");
    }
    let begun = Instant::now();
    let mut shown: Option<Instant> = None;
    while !signals.wait(ATTENTION) && duration.is_none_or(|duration| begun.elapsed() < duration) {
        let done = match keyboard.key() {
            Some(b'k') => Some(pair.kill_or_revive()?),
            Some(b'f') => Some(pair.fail_over()?),
            Some(b'q') => break,
            _ => None,
        };
        if let Some(done) = &done {
            println!("{done}");
        }
        if done.is_none() && shown.is_some_and(|shown| shown.elapsed() < REFRESH) {
            continue;
        }
        shown = Some(Instant::now());
        let traffic = traffic(&caller);
        if terminal {
            // From the top of a cleared screen.
            print!("\x1b[H\x1b[J{}\n{traffic}\n\n{advice}\n", pair.screen());
        } else {
            println!("{}  {traffic}", pair.line());
        }
        io::stdout().flush()?;
    }
    println!("removing the lab");
    Ok(())
}

/// The nodes, of which one may be dead.
struct Pair<'lab> {
    nodes: [Naru<'lab>; 2],
    dead: Option<usize>,
}

const NAMES: [&str; 2] = ["lb-a", "lb-b"];

impl Pair<'_> {
    /// As their status has it.
    fn role(&self, index: usize) -> String {
        if self.dead == Some(index) {
            return "dead".to_owned();
        }
        let status = self.nodes[index].status();
        let role = status
            .as_ref()
            .ok()
            .and_then(|status| status["vrrp"][0]["role"].as_str());
        role.unwrap_or("silent").to_owned()
    }

    fn master(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|index| self.role(*index) == "master")
    }

    fn kill_or_revive(&mut self) -> Result<String> {
        if let Some(dead) = self.dead.take() {
            self.nodes[dead].start()?;
            return Ok(format!("{} is started again", NAMES[dead]));
        }
        let Some(master) = self.master() else {
            return Ok("there is no master to kill just now".to_owned());
        };
        self.nodes[master].kill9()?;
        self.dead = Some(master);
        Ok(format!("{} is killed (SIGKILL); k starts it again", NAMES[master]))
    }

    fn fail_over(&self) -> Result<String> {
        match self.master() {
            Some(master) => Ok(format!(
                "{}: {}",
                NAMES[master],
                self.nodes[master].tell(&["failover"])?
            )),
            None => Ok("there is no master just now".to_owned()),
        }
    }

    fn line(&self) -> String {
        let roles = (0..self.nodes.len()).map(|index| format!("{} {}", NAMES[index], self.role(index)));
        let mut text = roles.collect::<Vec<_>>().join(", ");
        if let Some(Ok(status)) = self.master().map(|master| self.nodes[master].status()) {
            for backend in status["services"][0]["backends"].as_array().into_iter().flatten() {
                let word = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
                let (name, state) = (word(&backend["name"]), word(&backend["state"]));
                let _ = write!(text, "  {name} {state}, {} new flows", backend["new_flows"]);
            }
        }
        text
    }

    /// What an operator would see of both.
    fn screen(&self) -> String {
        let roles = (0..self.nodes.len()).map(|index| format!("{} {}", NAMES[index], self.role(index)));
        let roles = roles.collect::<Vec<_>>().join(", ");
        let shown = self
            .master()
            .or((0..self.nodes.len()).find(|index| self.dead != Some(*index)));
        let status = shown.map(|index| self.nodes[index].tell(&["status"]).unwrap_or_default());
        format!("{roles}\n\n{}", status.unwrap_or_default())
    }
}

/// What the client sees.
fn traffic(caller: &Caller) -> String {
    let (answered, longest) = caller.since(Instant::now() - RECENT);
    let answers: u64 = answered.values().sum();
    let mut text = format!("client, last {} s: {answers} answers", RECENT.as_secs());
    for name in BACKENDS {
        let share = answered.get(name).copied().unwrap_or_default() as f64 / answers.max(1) as f64;
        let _ = write!(text, "  {name} {:.0} %", share * 100.0);
    }
    match longest {
        Duration::ZERO => text += "  no call was lost",
        longest => {
            let _ = write!(text, "  calls were lost for {} ms", longest.as_millis());
        }
    }
    text
}

/// Commands to copy, and what each shows.
fn advice(net: &Twins, naru: &Naru) -> Result<String> {
    let program = built("naru").or_else(|_| built("naru-under-test"))?;
    let program = program.display();
    let pins = naru.pins();
    let client = net.client.name();
    Ok(format!(
        "Keys: k kills the master, and starts it again; f lets the other node take over; q ends the demo.

In another terminal, as root, of lb-a:

  export NARU_SOCKET={socket}
  {program} status                 what is served, by whom, and what is wrong
  {program} vrrp                   who has the address, and how that came about
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

/// Keys as they are pressed, without Enter.
struct Keyboard {
    keys: Receiver<u8>,
    before: Option<rustix::termios::Termios>,
}

impl Keyboard {
    fn open() -> Self {
        let before = rustix::termios::tcgetattr(io::stdin()).ok();
        if let Some(mut terminal) = before.clone() {
            terminal.local_modes -= rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO;
            // One that does not let itself be set takes keys by the line.
            let _by_line = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &terminal);
        }
        let (sender, keys) = channel();
        thread::spawn(move || {
            let mut key = [0];
            while matches!(io::stdin().read(&mut key), Ok(1)) && sender.send(key[0]).is_ok() {}
        });
        Self { keys, before }
    }

    fn key(&self) -> Option<u8> {
        self.keys.try_recv().ok()
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
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
            tv_nsec: within.subsec_nanos().into(),
        };
        // SAFETY: both point to live values; no information about the signal is asked for.
        unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), &within) > 0 }
    }
}
