//! Whether somebody accepts connections: connects, and closes in order. All checks of this kind together.
//!
//! In order: a server that finds a connection reset writes that into its log, five times a second. The FIN itself
//! acknowledges the server's SYN: as it follows at once, an acknowledgement before it would be a packet for nothing.
//!
//! Together, since nothing else is asked as often: with a task, timers and a place in the event loop of its own, a check
//! costs a fifth more. Concludes nothing. Tested here, and in the lab.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use lb_common::abi::BackendId;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_quickack, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::time::Timespec;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::course;
use crate::core::health::Launch;
use crate::core::health::observation::{Facts, Failure, Observation, Outcome, Phase};

/// How many answers the kernel is asked for in one call.
const AT_ONCE: usize = 64;

pub struct Knocks {
    /// An epoll of all sockets that wait for an answer; one that is closed is not in it any more.
    answers: AsyncFd<OwnedFd>,
    /// By the number of the check.
    waiting: BTreeMap<u64, Knock>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Not told yet.
    seen: Vec<(Launch, Observation)>,
}

struct Knock {
    backend: BackendId,
    socket: OwnedFd,
    began: Instant,
    deadline: Instant,
}

impl Knocks {
    pub fn new() -> io::Result<Self> {
        let answers = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            // SAFETY: an OwnedFd is open for as long as it lives, and the AsyncFd is for shared use only.
            answers: unsafe { AsyncFd::register_with_interest(answers, Interest::READABLE) }?,
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            seen: Vec::new(),
        })
    }

    pub fn begin(&mut self, Launch { backend, number }: Launch, address: SocketAddr, patience: Duration) {
        let began = Instant::now();
        let deadline = began + patience;
        match self.knock(number, address) {
            Ok(socket) => {
                let knock = Knock {
                    backend,
                    socket,
                    began,
                    deadline,
                };
                self.waiting.insert(number, knock);
                self.deadlines.insert((deadline, number));
            }
            Err(error) => self.tell(number, backend, failed(&error), began.elapsed()),
        }
    }

    /// Who is not wanted is not waited for, and nothing is told of it.
    pub fn retain(&mut self, wanted: impl Fn(BackendId) -> bool) {
        self.waiting.retain(|_, knock| wanted(knock.backend));
        let waiting = &self.waiting;
        self.deadlines.retain(|(_, number)| waiting.contains_key(number));
    }

    /// All that have a result; at least one. Cancel safe.
    pub async fn seen(&mut self) -> Vec<(Launch, Observation)> {
        while self.seen.is_empty() {
            let deadline = self.deadlines.first().map(|(at, _)| *at);
            tokio::select! {
                // Before they are taken: of those that come meanwhile there is word again.
                ready = self.answers.readable() => ready.expect("the event loop lives").clear_ready(),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            // Before the deadlines: who has answered is not late.
            self.take_answers();
            self.give_up(Instant::now());
        }
        std::mem::take(&mut self.seen)
    }

    fn knock(&self, number: u64, address: SocketAddr) -> io::Result<OwnedFd> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        set_tcp_quickack(&socket, false)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(&self.answers, &socket, EventData::new_u64(number), EventFlags::OUT)?;
        Ok(socket)
    }

    fn take_answers(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(AT_ONCE);
        loop {
            let buffer = spare_capacity(&mut events);
            let waited = epoll::wait(&self.answers, buffer, Some(&Timespec::default()));
            waited.expect("INVARIANT: an epoll has an answer at once");
            let now = Instant::now();
            let were_all = events.len() < AT_ONCE;
            for Event { flags, data, .. } in events.drain(..) {
                self.answered(data.u64(), flags, now);
            }
            if were_all {
                return;
            }
        }
    }

    fn answered(&mut self, number: u64, flags: EventFlags, now: Instant) {
        let Some(knock) = self.waiting.remove(&number) else {
            return;
        };
        self.deadlines.remove(&(knock.deadline, number));
        let found = match flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            true => socket_error(&knock.socket).flatten(),
            false => Ok(()),
        };
        let outcome = match found {
            Ok(()) => (Outcome::Up(Facts::default()), Phase::Connect),
            Err(error) => failed(&error.into()),
        };
        self.tell(number, knock.backend, outcome, now - knock.began);
    }

    fn give_up(&mut self, now: Instant) {
        while let Some(&(_, number)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            if let Some(knock) = self.waiting.remove(&number) {
                let silence = Outcome::Failed(Failure::new("no answer in time"));
                self.tell(number, knock.backend, (silence, Phase::Connect), now - knock.began);
            }
        }
    }

    fn tell(&mut self, number: u64, backend: BackendId, (outcome, phase): (Outcome, Phase), latency: Duration) {
        let observation = Observation {
            outcome,
            phase,
            latency,
        };
        self.seen.push((Launch { backend, number }, observation));
    }
}

fn failed(error: &io::Error) -> (Outcome, Phase) {
    let phase = match course::is_ours(error) {
        true => Phase::Prepare,
        false => Phase::Connect,
    };
    (Outcome::Failed(course::failure(error)), phase)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::core::health::observation::Code;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn launch(number: u64) -> Launch {
        Launch { backend: 1, number }
    }

    async fn knock(address: SocketAddr) -> Observation {
        let mut knocks = Knocks::new().unwrap();
        knocks.begin(launch(7), address, PATIENCE);
        let mut seen = timeout(Duration::from_secs(5), knocks.seen()).await.unwrap();
        assert!(knocks.waiting.is_empty() && knocks.deadlines.is_empty());
        assert_eq!((seen.len(), seen[0].0), (1, launch(7)));
        seen.remove(0).1
    }

    #[tokio::test]
    async fn a_listener_is_up_and_sees_an_orderly_end() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).await.unwrap();
            let observation = knock(listener.local_addr().unwrap()).await;
            assert_eq!(observation.outcome, Outcome::Up(Facts::default()));
            assert_eq!(observation.phase, Phase::Connect);
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn more_at_once_than_are_taken_at_once_are_all_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut knocks = Knocks::new().unwrap();
        // Fewer than its queue has room for.
        let all = 3 * AT_ONCE as u64 / 2;
        for number in 0..all {
            knocks.begin(launch(number), listener.local_addr().unwrap(), Duration::from_secs(5));
        }
        let mut seen = BTreeMap::new();
        while (seen.len() as u64) < all {
            let more = timeout(Duration::from_secs(5), knocks.seen()).await.unwrap();
            seen.extend(more.into_iter().map(|(launch, seen)| (launch.number, seen.outcome)));
        }
        assert!(
            seen.values().all(|outcome| matches!(outcome, Outcome::Up(_))),
            "{seen:?}"
        );
    }

    #[tokio::test]
    async fn nobody_there_is_refused_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let observation = knock(address).await;
        assert_eq!(
            observation.to_string(),
            "connect failed: connection refused (errno 111)"
        );
        assert!(observation.latency < Duration::from_millis(90), "{observation:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_begun_is_told_as_well() {
        // It does not say on which link.
        let observation = knock("[fe80::1]:9".parse().unwrap()).await;
        assert_eq!(observation.to_string(), "connect failed: invalid argument (errno 22)");
    }

    /// A listener whose queue is full leaves further connections without an answer.
    #[tokio::test]
    async fn silence_fails_at_the_deadline() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut silent = None;
        let mut held = Vec::new();
        for _ in 0..8 {
            let connect = tokio::net::TcpStream::connect(address);
            match timeout(Duration::from_millis(50), connect).await {
                Ok(stream) => held.push(stream.unwrap()),
                Err(_) => {
                    silent = Some(knock(address).await);
                    break;
                }
            }
        }
        let silent = silent.expect("the queue is full at last");
        assert_eq!(silent.to_string(), "connect failed: no answer in time");
        assert!(silent.latency >= Duration::from_millis(90), "{silent:?}");
        let Outcome::Failed(failure) = &silent.outcome else {
            panic!("{silent:?}")
        };
        assert!(!matches!(failure.code, Some(Code::Errno(_))));
    }

    #[tokio::test]
    async fn nothing_is_told_of_who_is_not_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut knocks = Knocks::new().unwrap();
        knocks.begin(launch(7), listener.local_addr().unwrap(), PATIENCE);
        knocks.retain(|_| false);
        assert!(timeout(PATIENCE * 2, knocks.seen()).await.is_err());
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
