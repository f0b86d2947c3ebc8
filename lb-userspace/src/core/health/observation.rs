//! What one check of a backend saw: how far it got, what it found, and how long that took.
//!
//! Words only; what several of them together mean is for `judge`. Made by `io::probes`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::config::Role;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub outcome: Outcome,
    /// Where it ended: the step that failed, or the last one.
    pub phase: Phase,
    /// From the first packet, or the start of the program, to the end.
    pub latency: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It can take what the service is for.
    Up(Facts),
    /// It answers well and is not the one to use now: another role, or too far behind. Says why.
    Standby(String, Facts),
    Failed(Failure),
}

/// The steps of a check, in their order. Not every kind has every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Ours alone: a file to read, a socket to open. Failing here says nothing about the backend.
    #[default]
    Prepare,
    Connect,
    Tls,
    Login,
    /// Sending the request, and waiting for the answer to begin.
    Request,
    /// The rest of the answer.
    Answer,
    /// Asking a database.
    Query,
    /// A program of the operator's at work.
    Run,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A sentence without the code, such as `connection refused`.
    pub what: String,
    pub code: Option<Code>,
}

/// What somebody can look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    Errno(i32),
    /// The status of a HTTP answer.
    Status(u16),
    /// The SQLSTATE of PostgreSQL, the error number of MySQL.
    Sql(String),
    Exit(i32),
    Signal(i32),
}

/// What a database tells about itself beside its role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub role: Option<Role>,
    /// Of PostgreSQL: of two primaries, the one with the higher timeline was promoted later.
    pub timeline: Option<u32>,
    /// How far a replica is behind.
    pub lag: Option<Duration>,
}

impl Observation {
    /// Whether the backend's host has let us hear from it: even a refusal took both ways.
    pub fn is_answer(&self) -> bool {
        match &self.outcome {
            Outcome::Up(_) | Outcome::Standby(..) => true,
            // What a program of the operator's met is not known.
            Outcome::Failed(_) if matches!(self.phase, Phase::Prepare | Phase::Run) => false,
            Outcome::Failed(failure) if self.phase == Phase::Connect => {
                matches!(failure.code, Some(Code::Errno(ECONNREFUSED | ECONNRESET)))
            }
            Outcome::Failed(_) => true,
        }
    }

    /// Whether nothing came back: neither a connection nor an error.
    pub fn is_silence(&self) -> bool {
        let waited = matches!(&self.outcome, Outcome::Failed(failure) if failure.code.is_none());
        self.phase == Phase::Connect && waited
    }

    /// Whether no connection came about because the network says that there is no way.
    pub fn is_unreachable(&self) -> bool {
        let Outcome::Failed(failure) = &self.outcome else {
            return false;
        };
        self.phase == Phase::Connect && matches!(failure.code, Some(Code::Errno(_))) && !self.is_answer()
    }

    /// Whether the backend's host is heard just now. A check that waited in vain for more than a connection tells of the
    /// time when it began.
    pub fn is_word(&self) -> bool {
        let waited = matches!(&self.outcome, Outcome::Failed(failure) if failure.code.is_none());
        self.is_answer() && !waited
    }

    /// Whether a server refused who asked: asking again changes nothing until somebody puts it right, and each time the
    /// server writes it into its log.
    pub fn is_denied(&self) -> bool {
        let Outcome::Failed(Failure {
            code: Some(Code::Sql(code)),
            ..
        }) = &self.outcome
        else {
            return false;
        };
        self.phase == Phase::Login && DENIALS.contains(&code.as_str())
    }

    /// Whether flows to it may come to nothing: it failed, or has just taken another role.
    pub fn is_trouble(&self, is_news: bool) -> bool {
        match self.outcome {
            Outcome::Up(_) => false,
            Outcome::Standby(..) => is_news,
            Outcome::Failed(_) => self.is_evidence(),
        }
    }

    /// Whether it says anything about the backend.
    pub fn is_evidence(&self) -> bool {
        self.phase != Phase::Prepare || !matches!(self.outcome, Outcome::Failed(_))
    }
}

/// A wrong password, and a user who may not come from here: of PostgreSQL, then of MySQL and MariaDB.
const DENIALS: [&str; 5] = ["28P01", "28000", "1045", "1698", "1130"];
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;

impl Failure {
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            code: None,
        }
    }

    pub fn coded(what: impl Into<String>, code: Code) -> Self {
        Self {
            what: what.into(),
            code: Some(code),
        }
    }
}

/// `up (primary, timeline 3)`, `standby: is a replica`, `connect failed: connection refused (errno 111)`.
impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Up(facts) => write!(f, "up{facts}"),
            Outcome::Standby(why, facts) => write!(f, "standby: {why}{facts}"),
            Outcome::Failed(failure) => write!(f, "{} failed: {failure}", self.phase),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Login => "login",
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Query => "query",
            Self::Run => "run",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.code.as_ref().map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "errno {errno}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Sql(code) => write!(f, "code {code}"),
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.map(|role| match role {
            Role::Primary => "primary".to_owned(),
            Role::Replica => "replica".to_owned(),
        });
        let timeline = self.timeline.map(|timeline| format!("timeline {timeline}"));
        let lag = self.lag.map(|lag| format!("lag {:.1}s", lag.as_secs_f64()));
        let facts: Vec<String> = [role, timeline, lag].into_iter().flatten().collect();
        if facts.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", facts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(phase: Phase, code: Option<Code>) -> Observation {
        let what = "connection refused".to_owned();
        Observation {
            outcome: Outcome::Failed(Failure { what, code }),
            phase,
            latency: Duration::from_millis(1),
        }
    }

    #[test]
    fn a_refusal_is_an_answer_and_silence_is_none() {
        let refused = failed(Phase::Connect, Some(Code::Errno(ECONNREFUSED)));
        assert!(refused.is_answer() && refused.is_evidence());
        assert_eq!(refused.to_string(), "connect failed: connection refused (errno 111)");
        assert!(!failed(Phase::Connect, None).is_answer());
        assert!(failed(Phase::Tls, None).is_answer());
        let unreachable = failed(Phase::Connect, Some(Code::Errno(101)));
        assert!(unreachable.is_unreachable() && !unreachable.is_answer() && unreachable.is_evidence());
        assert!(!refused.is_unreachable() && !failed(Phase::Connect, None).is_unreachable());
        assert!(!failed(Phase::Prepare, None).is_evidence());
    }

    #[test]
    fn who_is_denied_need_not_ask_again_at_once() {
        let denied = |phase, code: &str| failed(phase, Some(Code::Sql(code.to_owned()))).is_denied();
        assert!(denied(Phase::Login, "28P01") && denied(Phase::Login, "1045"));
        assert!(!denied(Phase::Login, "57P03"), "it starts up");
        assert!(!denied(Phase::Login, "53300"), "it is full");
        assert!(!denied(Phase::Query, "28P01"));
        assert!(!failed(Phase::Login, None).is_denied());
    }

    #[test]
    fn facts_are_told_with_the_outcome() {
        let facts = Facts {
            role: Some(Role::Replica),
            timeline: Some(3),
            lag: Some(Duration::from_millis(1500)),
        };
        let standby = Observation {
            outcome: Outcome::Standby("is a replica".to_owned(), facts),
            phase: Phase::Query,
            latency: Duration::from_millis(1),
        };
        assert_eq!(
            standby.to_string(),
            "standby: is a replica (replica, timeline 3, lag 1.5s)"
        );
    }
}
