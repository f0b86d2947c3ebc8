//! Asks backends, by the checks of the file: one question in, one `Observation` out.
//!
//! Concludes nothing from it and never asks on its own account: `core::health` says when. Each kind is tested against
//! servers of its file's tests, and in the lab.
//!
//! # The shape of a kind
//! A kind is a file here with a struct that is made by `new(address, &settings)` without effects, and has
//! ```ignore
//! pub async fn ask(&mut self, course: &mut Course) -> Result<Found, Failure>
//! ```
//! It is a variant of `Kind`, which is made from `config::Ask`. What it may rely on, and what it owes:
//! - `course.enter(phase)` before each step: the phase goes into the observation, also when time runs out.
//! - `course.connect(address)` for TCP, which keeps to the shorter deadline of a connection; `tls` for TLS on top.
//! - The whole is ended from outside at `course.deadlines.whole`: the future is then dropped at whatever it waits
//!   for. A kind that keeps a connection takes it out of `self` first and puts it back when the exchange is over, so
//!   that a half-read one is never used again.
//! - A `Prober` is asked one thing at a time. While it is waiting, the confirm burst asks by others made for the
//!   occasion, which therefore begin with fresh connections.
//! - What comes from the backend is read up to a limit that the kind sets, and never trusted.
//! - A connection is closed in order (FIN, or the protocol's own goodbye): half-open checks fill the logs of servers,
//!   and make some of them shut the checker out.
//! - Failing for reasons of our own (a file, no socket) is a failure in `Phase::Prepare`: it says nothing about the
//!   backend.

#[cfg(test)]
mod authority;
mod course;
mod crew;
mod http;
mod tcp;
mod tls;

use std::net::SocketAddr;

use tokio::time::{Instant, timeout_at};

pub use self::course::{Course, Deadlines};
pub use self::crew::Crew;
use self::http::Http;
use self::tcp::Tcp;
use crate::core::config::{Ask, Check};
use crate::core::health::observation::{Facts, Failure, Observation, Outcome};

/// What a kind found when nothing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Up(Facts),
    /// Says why.
    Standby(String, Facts),
}

/// Asks one backend, again and again; holds what is worth keeping between questions.
pub struct Prober {
    backend: SocketAddr,
    check: Check,
    kind: Kind,
}

enum Kind {
    Tcp(Tcp),
    Http(Box<Http>),
}

impl Prober {
    /// `backend` is its address in the service; the check may name another.
    pub fn new(backend: SocketAddr, check: &Check) -> Self {
        let address = SocketAddr::new(
            check.address.unwrap_or(backend.ip()),
            check.port.unwrap_or(backend.port()),
        );
        let kind = match &check.ask {
            Ask::Tcp => Kind::Tcp(Tcp::new(address)),
            Ask::Http(settings) => Kind::Http(Box::new(Http::new(address, settings))),
            Ask::Postgres(_) | Ask::Mysql(_) | Ask::Exec(_) => {
                unreachable!("INVARIANT: core::config::unavailable refuses it")
            }
        };
        Self {
            backend,
            check: check.clone(),
            kind,
        }
    }

    /// Whether it was made for this.
    pub fn is_for(&self, backend: SocketAddr, check: &Check) -> bool {
        self.backend == backend && self.check == *check
    }

    pub async fn probe(&mut self, deadlines: Deadlines) -> Observation {
        let mut course = Course::new(deadlines);
        let begin = Instant::now();
        let ask = async {
            match &mut self.kind {
                Kind::Tcp(tcp) => tcp.ask(&mut course).await,
                Kind::Http(http) => http.ask(&mut course).await,
            }
        };
        let found = timeout_at(deadlines.whole, ask).await;
        let outcome = match found {
            Ok(Ok(Found::Up(facts))) => Outcome::Up(facts),
            Ok(Ok(Found::Standby(why, facts))) => Outcome::Standby(why, facts),
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Failed(Failure::new("no answer in time")),
        };
        Observation {
            outcome,
            phase: course.phase(),
            latency: begin.elapsed(),
        }
    }
}
