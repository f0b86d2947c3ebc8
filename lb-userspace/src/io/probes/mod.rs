//! Asks backends, by the checks of the file: one question in, one `Observation` out.
//!
//! Concludes nothing from it and never asks on its own account: `core::health` says when. Each kind is tested against
//! servers of its file's tests, and in the lab.
//!
//! # The shape of a kind
//! A kind is a file here with a struct that is made by `new(address, &settings)`, or the like, without effects, and has
//! ```text
//! pub async fn ask(&mut self, course: &mut Course) -> Result<Found, Failure>
//! ```
//! It is a variant of `Kind`, which is made from `config::Ask`; only for `tcp`, what most are asked, there is `knocks`
//! instead. What it may rely on, and what it owes:
//! - `course.enter(phase)` before each step: the phase goes into the observation, also when time runs out.
//! - `course.connect(address, most_bytes)` for TCP, which keeps to the shorter deadline of a connection; `tls` for TLS on top.
//! - The whole is ended from outside at `course.deadlines.whole`: the future is then dropped at whatever it waits
//!   for. A kind that keeps a connection takes it out of `self` first and puts it back when the exchange is over, so
//!   that a half-read one is never used again.
//! - A `Prober` is asked one thing at a time. While it is waiting, the confirm burst asks by others made for the
//!   occasion, which therefore begin with fresh connections.
//! - What comes from the backend is never trusted. `Metered` bounds how much comes, and how often: a kind that keeps
//!   its connection renews that for each check.
//! - A connection is closed in order (FIN, or the protocol's own goodbye): half-open checks fill the logs of servers,
//!   and make some of them shut the checker out.
//! - Failing for reasons of our own (a file, no socket) is a failure in `Phase::Prepare`: it says nothing about the
//!   backend.

#[cfg(test)]
mod authority;
mod course;
mod crew;
mod database;
mod exec;
mod http;
mod knocks;
mod metered;
mod mysql;
mod postgres;
mod tls;
mod wire;

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

pub use self::course::{Course, Deadlines};
pub use self::crew::Crew;
use self::database::Database;
use self::exec::Exec;
use self::http::Http;
use self::mysql::Mysql;
use self::postgres::Postgres;
use crate::core::config::Ask;
use crate::core::health::Target;
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
    target: Arc<Target>,
    kind: Kind,
}

/// Handed to a task and back with each question, so no larger than a pointer.
enum Kind {
    Http(Box<Http>),
    Postgres(Box<Database<Postgres>>),
    Mysql(Box<Database<Mysql>>),
    Exec(Box<Exec>),
}

impl Prober {
    pub fn new(target: Arc<Target>) -> Self {
        let Target { name, check, .. } = &*target;
        let address = target.asked_at();
        let kind = match &check.ask {
            Ask::Tcp => unreachable!("INVARIANT: who knocks needs no prober"),
            Ask::Http(settings) => Kind::Http(Box::new(Http::new(address, settings))),
            Ask::Postgres(settings) => Kind::Postgres(Box::new(Database::new(address, settings))),
            Ask::Mysql(settings) => Kind::Mysql(Box::new(Database::new(address, settings))),
            Ask::Exec(command) => Kind::Exec(Box::new(Exec::new(command, name, address))),
        };
        Self { target, kind }
    }

    pub fn is_for(&self, target: &Arc<Target>) -> bool {
        self.target == *target
    }

    pub async fn probe(&mut self, deadlines: Deadlines) -> Observation {
        observe(deadlines, async |course| match &mut self.kind {
            // Boxed: a task has room for the longest of all of these, and most need little.
            Kind::Http(http) => Box::pin(http.ask(course)).await,
            Kind::Postgres(postgres) => Box::pin(postgres.ask(course)).await,
            Kind::Mysql(mysql) => Box::pin(mysql.ask(course)).await,
            Kind::Exec(exec) => Box::pin(exec.ask(course)).await,
        })
        .await
    }
}

/// One question, timed, and ended when it takes too long.
async fn observe(deadlines: Deadlines, ask: impl AsyncFnOnce(&mut Course) -> Result<Found, Failure>) -> Observation {
    let mut course = Course::new(deadlines);
    let begin = Instant::now();
    let outcome = match timeout_at(deadlines.whole, ask(&mut course)).await {
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

/// Whom tests ask.
#[cfg(test)]
fn target(address: std::net::SocketAddr, check: crate::core::config::Check) -> Arc<Target> {
    let name = crate::core::members::Name {
        service: "web".to_owned(),
        backend: "a".to_owned(),
    };
    Arc::new(Target {
        service: 1,
        name,
        address,
        fingerprint: 1,
        check,
    })
}
