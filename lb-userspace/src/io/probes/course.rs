//! The course of one check: how far it is, and until when it may go on.
//!
//! Also opens its connection, so that every kind tells of it in the same words.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout_at};

use super::metered::Metered;
use crate::core::health::observation::{Code, Failure, Phase};

/// What an error means that is ours: too many files, no memory, no port, no permission.
const OURS: [i32; 8] = [
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::ENOBUFS,
    libc::EADDRNOTAVAIL,
    libc::EACCES,
    libc::EPERM,
    libc::EAFNOSUPPORT,
];

const LONGEST_WORDS: usize = 200;

#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    pub connect: Instant,
    pub whole: Instant,
}

#[derive(Debug)]
pub struct Course {
    pub deadlines: Deadlines,
    phase: Phase,
}

impl Deadlines {
    pub fn from_now(connect: Duration, whole: Duration) -> Self {
        let now = Instant::now();
        Self {
            connect: now + connect.min(whole),
            whole: now + whole,
        }
    }
}

impl Course {
    pub fn new(deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            phase: Phase::Prepare,
        }
    }

    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// For a first attempt, as long as a connection may take but no more than half of what is left; a connection
    /// that is opened after it has its own time from then on.
    pub fn spend_half(&mut self) -> Instant {
        let now = Instant::now();
        let left = self.deadlines.whole - now;
        let connecting = self.deadlines.connect - now;
        let end = now + connecting.min(left / 2);
        self.deadlines.connect = (end + connecting).min(self.deadlines.whole);
        end
    }

    /// For a talk that brings `most_bytes`: what is sent is sent at once. Enters `Phase::Connect`; a failure of our own takes that back.
    pub async fn connect(&mut self, address: SocketAddr, most_bytes: usize) -> Result<Metered, Failure> {
        self.enter(Phase::Connect);
        let connect = async {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_nodelay(true)?;
            socket.connect(address).await
        };
        match timeout_at(self.deadlines.connect, connect).await {
            Ok(Ok(stream)) => Ok(Metered::new(stream, most_bytes)),
            Ok(Err(error)) => {
                if is_ours(&error) {
                    self.enter(Phase::Prepare);
                }
                Err(failure(&error))
            }
            Err(_) => Err(Failure::new("no answer in time")),
        }
    }
}

/// It says nothing about who was asked.
pub fn is_ours(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| OURS.contains(&errno))
}

/// The words of the system without its number, which is told as the code.
pub fn failure(error: &io::Error) -> Failure {
    let Some(errno) = error.raw_os_error() else {
        return Failure::new(error.to_string());
    };
    let words = error.to_string();
    let words = words.split(" (os error").next().unwrap_or_default().to_lowercase();
    Failure::coded(words, Code::Errno(errno))
}

/// What somebody else said, fit for one line of a log.
pub fn words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut words: String = plain.take(LONGEST_WORDS).collect();
    words.truncate(words.trim_end().len());
    words
}
