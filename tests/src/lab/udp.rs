//! UDP: a server that answers each datagram with its name before it, and a client that counts the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::topology::backend_addresses;
use super::{BIG_FILE, Namespace, Tally, Topology};

const LOOK_UP: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(1);
/// What `ask` sends: a frame takes it, in all modes.
const LARGEST: usize = 1400;
/// A datagram at all.
const LONGEST: usize = 1 << 16;

/// Answers until it is dropped.
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace
            .inside(|| UdpSocket::bind(address))?
            .with_context(|| format!("bind UDP {address}"))?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let stop = Arc::new(AtomicBool::new(false));
        let name = namespace.role().to_owned();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || echo(&socket, &name, &stop)
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// On each backend of the network, at both of its addresses.
    pub fn on_each(net: &Topology) -> Result<Vec<Self>> {
        let addresses = net.backends.iter().zip(0..).flat_map(|(backend, index)| {
            let of_family = move |address| Self::start(backend, address);
            backend_addresses(index).map(of_family)
        });
        addresses.collect()
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn echo(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut question = vec![0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        // Timeouts, and ICMP errors about answers nobody waited for.
        let Ok((length, from)) = socket.recv_from(&mut question) else {
            continue;
        };
        let answer = [name.as_bytes(), b" ", &question[..length]].concat();
        let _ = socket.send_to(&answer, from);
    }
}

/// One client's socket: a flow, as far as the load balancer knows.
pub struct UdpFlow {
    socket: UdpSocket,
    asked: usize,
}

impl UdpFlow {
    pub fn open(namespace: &Namespace, target: SocketAddr) -> Result<Self> {
        namespace.inside(|| Self::to(target))?
    }

    fn to(target: SocketAddr) -> Result<Self> {
        let any: IpAddr = if target.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, asked: 0 })
    }

    /// Waits so long for an answer.
    pub fn patience(self, patience: Duration) -> Result<Self> {
        self.socket.set_read_timeout(Some(patience))?;
        Ok(self)
    }

    /// Sends a datagram of another size each time; the name of the backend whose answer was whole.
    pub fn ask(&mut self) -> Result<String> {
        self.ask_with(8 + self.asked * 97 % LARGEST)
    }

    /// As `ask`, of so many bytes.
    pub fn ask_with(&mut self, size: usize) -> Result<String> {
        let mut question = self.asked.to_be_bytes().to_vec();
        question.extend(BIG_FILE.iter().skip(self.asked).take(size - question.len()));
        self.asked += 1;
        self.socket.send(&question).context("send")?;
        let mut answer = vec![0; LONGEST];
        loop {
            let length = self.socket.recv(&mut answer).context("receive")?;
            let split = answer[..length]
                .iter()
                .position(|byte| *byte == b' ')
                .context("an answer without a name")?;
            let (name, echoed) = answer[..length].split_at(split);
            if echoed[1..] == question {
                return Ok(String::from_utf8_lossy(name).into_owned());
            }
            // One that nobody waits for any more may come late.
            let number = echoed[1..].first_chunk().map(|bytes| usize::from_be_bytes(*bytes));
            ensure!(
                number.is_some_and(|number| number + 1 < self.asked),
                "another answer than to what was asked"
            );
        }
    }
}

/// Asks `count` times on each of so many flows, one flow after the other. A flow must be answered by one and the same
/// backend.
pub fn udp_exchange(namespace: &Namespace, target: SocketAddr, flows: usize, count: usize) -> Result<Tally> {
    namespace.inside(|| {
        let mut tally = Tally::default();
        for _ in 0..flows {
            let mut flow = UdpFlow::to(target)?;
            let mut first = None;
            for _ in 0..count {
                let answer = flow.ask().and_then(|backend| {
                    let first = first.get_or_insert_with(|| backend.clone());
                    ensure!(*first == backend, "answered by {backend}, before by {first}");
                    Ok(backend)
                });
                tally.add(answer);
            }
        }
        Ok(tally)
    })?
}
