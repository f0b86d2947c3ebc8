//! How databases are asked: a connection that is kept for a second, and what its answer means for the role wanted.
//!
//! A hung postmaster still lets old connections be answered, so a fresh one takes the place of the old each second. What
//! is spoken is for `postgres` and `mysql`. Tested in the lab, with real servers.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Found;
use super::course::Course;
use crate::core::config::{self, Role};
use crate::core::health::observation::{Facts, Failure, Phase};
use crate::io::regular_file::read_in_time;

/// How long a connection is asked before a fresh one is opened.
const KEPT: Duration = Duration::from_secs(1);
const LONGEST_PASSWORD: u64 = 4096;
const USER: &str = "naru";

/// What is asked, and what was learnt that outlives a connection.
pub struct Target {
    pub address: SocketAddr,
    pub settings: config::Database,
    /// The server does not know all that is asked, so it is asked for its role only.
    pub knows_role_only: bool,
}

/// A connection that is logged in.
pub trait Session: Sized {
    /// What waits for a server that accepts connections and says nothing, from one check to the next.
    type Waiting: Default;

    async fn open(target: &Target, waiting: &mut Self::Waiting, course: &mut Course) -> Result<Self, Failure>;
    async fn ask(&mut self, target: &mut Target) -> Result<Standing, Failure>;
    /// Whether this refusal says that the server has all the connections it wants.
    fn is_full(failure: &Failure) -> bool;
}

/// What a server says of itself.
#[derive(Debug, PartialEq)]
pub struct Standing {
    pub role: Role,
    pub timeline: Option<u32>,
    /// A replica that has all there is, from a source that is connected.
    pub caught_up: bool,
    /// What a replica takes for its lag: a time since something, too long where nothing happens.
    pub lag: Option<Duration>,
}

pub struct Database<S: Session> {
    target: Target,
    kept: Option<S>,
    waiting: S::Waiting,
    opened: Option<Instant>,
    caught_up: Option<Instant>,
}

impl<S: Session> Database<S> {
    pub fn new(address: SocketAddr, settings: &config::Database) -> Self {
        Self {
            target: Target {
                address,
                settings: settings.clone(),
                knows_role_only: false,
            },
            kept: None,
            waiting: S::Waiting::default(),
            opened: None,
            caught_up: None,
        }
    }

    pub async fn ask(&mut self, course: &mut Course) -> Result<Found, Failure> {
        let standing = self.standing(course).await?;
        Ok(self.found(&standing, Instant::now()))
    }

    async fn standing(&mut self, course: &mut Course) -> Result<Standing, Failure> {
        let mut kept = self.kept.take();
        let is_recent = self.opened.is_some_and(|opened| opened.elapsed() < KEPT);
        if let (Some(session), true) = (&mut kept, is_recent) {
            course.enter(Phase::Query);
            let patience = course.spend_half();
            // A server may close what it does not want to keep, and silence may be that of one process, or of the
            // network: only a fresh connection tells.
            if let Ok(Ok(standing)) = timeout_at(patience, session.ask(&mut self.target)).await {
                self.kept = kept;
                return Ok(standing);
            }
            kept = None;
        }
        let mut session = match (S::open(&self.target, &mut self.waiting, course).await, kept) {
            (Ok(fresh), _) => {
                self.opened = Some(Instant::now());
                fresh
            }
            // It serves those it has: they must not be cut off because there are many.
            (Err(failure), Some(kept)) if S::is_full(&failure) => kept,
            (Err(failure), _) => return Err(failure),
        };
        course.enter(Phase::Query);
        let standing = session.ask(&mut self.target).await?;
        self.kept = Some(session);
        Ok(standing)
    }

    fn found(&mut self, standing: &Standing, now: Instant) -> Found {
        let is_replica = standing.role == Role::Replica;
        let lag = self.lag(standing, now).filter(|_| is_replica);
        let facts = Facts {
            role: Some(standing.role),
            timeline: standing.timeline,
            lag,
        };
        let config::Database { role, max_lag, .. } = &self.target.settings;
        let why = match (role, max_lag, lag) {
            (Some(wanted), _, _) if *wanted != standing.role => match standing.role {
                Role::Primary => "is a primary".to_owned(),
                Role::Replica => "is a replica".to_owned(),
            },
            (_, Some(_), None) if is_replica => "does not tell its lag".to_owned(),
            (_, Some(most), Some(lag)) if lag > *most => format!("is more than {most:?} behind"),
            _ => return Found::Up(facts),
        };
        Found::Standby(why, facts)
    }

    /// A replica's own word grows while nothing is written, and jumps when it loses its source; but it is no further
    /// behind than the last time it was seen to have everything.
    fn lag(&mut self, standing: &Standing, now: Instant) -> Option<Duration> {
        if standing.caught_up {
            self.caught_up = Some(now);
            return Some(Duration::ZERO);
        }
        let since = self.caught_up.map(|then| now - then);
        [standing.lag, since].into_iter().flatten().min()
    }
}

impl Target {
    pub fn user(&self) -> &str {
        self.settings.user.as_deref().unwrap_or(USER)
    }

    /// Read for each login: a password that is changed in the file is used at once.
    pub async fn password(&self, course: &mut Course) -> Result<Option<Vec<u8>>, Failure> {
        let Some(path) = &self.settings.password_file else {
            return Ok(None);
        };
        course.enter(Phase::Prepare);
        let wrong = |what: String| Failure::new(format!("password_file: {}: {what}", path.display()));
        let password = read_in_time(path, LONGEST_PASSWORD).await;
        let mut password = password.map_err(|error| wrong(error.to_string()))?;
        while password.last().is_some_and(|last| b"\r\n".contains(last)) {
            password.pop();
        }
        Ok(Some(password))
    }

    /// What to put right after a login was refused.
    pub fn where_the_password_is(&self) -> String {
        match &self.settings.password_file {
            Some(path) => format!("is the one in {} right?", path.display()),
            None => "give it one with password_file".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    struct Nobody;

    impl Session for Nobody {
        type Waiting = ();

        async fn open(_: &Target, (): &mut (), _: &mut Course) -> Result<Self, Failure> {
            Err(Failure::new("nobody"))
        }

        async fn ask(&mut self, _: &mut Target) -> Result<Standing, Failure> {
            Err(Failure::new("nobody"))
        }

        fn is_full(_: &Failure) -> bool {
            false
        }
    }

    fn database(role: Option<Role>, max_lag: Option<Duration>) -> Database<Nobody> {
        let settings = config::Database {
            role,
            user: None,
            password_file: None,
            database: None,
            max_lag,
            tls: None,
        };
        Database::new("198.18.0.1:5432".parse().unwrap(), &settings)
    }

    fn replica(caught_up: bool, lag: Option<u64>) -> Standing {
        Standing {
            role: Role::Replica,
            timeline: None,
            caught_up,
            lag: lag.map(Duration::from_secs),
        }
    }

    /// Why it is standby, so many seconds after the first question.
    fn why(database: &mut Database<Nobody>, after: u64, standing: &Standing) -> Option<String> {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        match database.found(standing, *BEGIN + Duration::from_secs(after)) {
            Found::Up(_) => None,
            Found::Standby(why, _) => Some(why),
        }
    }

    #[test]
    fn a_replica_is_no_further_behind_than_when_it_had_everything() {
        let mut database = database(Some(Role::Replica), Some(Duration::from_secs(10)));
        let mut why = |after, caught_up, lag| why(&mut database, after, &replica(caught_up, lag));
        let behind = Some("is more than 10s behind".to_owned());
        assert_eq!(why(0, false, Some(3600)), behind);
        assert_eq!(why(0, false, None), Some("does not tell its lag".to_owned()));
        assert_eq!(why(1, true, Some(3600)), None);
        assert_eq!(why(10, false, Some(3600)), None);
        assert_eq!(why(11, false, None), None);
        assert_eq!(why(12, false, Some(3600)), behind);
        assert_eq!(why(13, false, Some(5)), None);
    }

    #[test]
    fn the_other_role_is_standby_and_no_role_is_any() {
        let primary = Standing {
            role: Role::Primary,
            timeline: Some(3),
            caught_up: false,
            lag: None,
        };
        let limit = Some(Duration::from_secs(1));
        let mut any = database(None, limit);
        assert_eq!(why(&mut any, 0, &primary), None);
        let mut replicas = database(Some(Role::Replica), limit);
        assert_eq!(why(&mut replicas, 0, &primary), Some("is a primary".to_owned()));
        let mut primaries = database(Some(Role::Primary), None);
        assert_eq!(
            why(&mut primaries, 0, &replica(true, None)),
            Some("is a replica".to_owned())
        );
    }
}
