//! Everybody who asks: a prober for each backend, and others for the occasion while it is waiting. One who knocks for
//! all checks by TCP.
//!
//! Begins what it is told to, ends what nobody wants to know any more; decides neither.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use lb_common::abi::BackendId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::warn;

use super::knocks::Knocks;
use super::{Deadlines, Prober};
use crate::core::config::Ask;
use crate::core::health::observation::{Failure, Observation, Outcome, Phase};
use crate::core::health::{Launch, Target};

pub struct Crew {
    knocks: Knocks,
    posts: BTreeMap<BackendId, Post>,
    tasks: JoinSet<(Prober, Observation)>,
    under_way: HashMap<Id, UnderWay>,
}

/// Where one backend is asked from.
struct Post {
    target: Arc<Target>,
    /// Waits for the next question.
    idle: Option<Prober>,
}

type Ended = Result<(Id, (Prober, Observation)), JoinError>;

struct UnderWay {
    launch: Launch,
    handle: AbortHandle,
}

impl Crew {
    /// Checks hold many files open for a moment each.
    pub fn gather() -> io::Result<Self> {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current < maximum
            && let Err(error) = setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: maximum,
                    maximum,
                },
            )
        {
            warn!(%error, "cannot raise the limit of open files; many checks at once may not be made");
        }
        Ok(Self {
            knocks: Knocks::new()?,
            posts: BTreeMap::new(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
        })
    }

    pub fn begin(&mut self, launch: Launch, target: &Arc<Target>) {
        let check = &target.check;
        if matches!(check.ask, Ask::Tcp) {
            // It may have been asked otherwise before a reload, and keep a connection.
            self.posts.remove(&launch.backend);
            let patience = check.connect_timeout.min(check.timeout);
            return self.knocks.begin(launch, target.asked_at(), patience);
        }
        let post = self.posts.entry(launch.backend).or_insert_with(|| Post::new(target));
        if post.target != *target {
            *post = Post::new(target);
        }
        let mut prober = post.idle.take().unwrap_or_else(|| Prober::new(Arc::clone(target)));
        let (connect, whole) = (check.connect_timeout, check.timeout);
        let handle = self.tasks.spawn(async move {
            // What it waits for its turn here is not the backend's fault.
            let deadlines = Deadlines::from_now(connect, whole);
            let observation = prober.probe(deadlines).await;
            (prober, observation)
        });
        self.under_way.insert(handle.id(), UnderWay { launch, handle });
    }

    /// Ends what is under way to those that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(BackendId) -> bool) {
        self.knocks.retain(&wanted);
        self.posts.retain(|id, _| wanted(*id));
        for under_way in self.under_way.values() {
            if !wanted(under_way.launch.backend) {
                under_way.handle.abort();
            }
        }
    }

    /// All that have a result; at least one. Cancel safe.
    pub async fn seen(&mut self) -> Vec<(Launch, Observation)> {
        let mut seen = Vec::new();
        while seen.is_empty() {
            let first = tokio::select! {
                answers = self.knocks.seen() => return answers,
                Some(first) = self.tasks.join_next_with_id() => first,
            };
            seen.extend(self.back(first));
            while let Some(next) = self.tasks.try_join_next_with_id() {
                seen.extend(self.back(next));
            }
        }
        seen
    }

    fn back(&mut self, ended: Ended) -> Option<(Launch, Observation)> {
        let (id, prober, observation) = match ended {
            Ok((id, (prober, observation))) => (id, Some(prober), observation),
            Err(error) => {
                // Whoever panicked or was ended is not seen again; the judge waits for a result all the same.
                let what = format!("the check broke off: {error}");
                let outcome = Outcome::Failed(Failure::new(what));
                let observation = Observation {
                    outcome,
                    phase: Phase::Prepare,
                    latency: std::time::Duration::ZERO,
                };
                (error.id(), None, observation)
            }
        };
        let UnderWay { launch, .. } = self.under_way.remove(&id)?;
        if let (Some(post), Some(prober)) = (self.posts.get_mut(&launch.backend), prober) {
            post.take_back(prober);
        }
        Some((launch, observation))
    }
}

impl Post {
    fn new(target: &Arc<Target>) -> Self {
        Self {
            target: Arc::clone(target),
            idle: None,
        }
    }

    /// One that was sent elsewhere, before a reload, is no use here.
    fn take_back(&mut self, prober: Prober) {
        if prober.is_for(&self.target) {
            self.idle.get_or_insert(prober);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::core::config::{Check, Protocol};
    use crate::io::probes;

    fn launch(backend: BackendId, number: u64) -> Launch {
        Launch { backend, number }
    }

    #[tokio::test]
    async fn results_come_with_their_number_and_who_is_gone_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked_by = |ask| {
            let mut check = Check::implied(Protocol::Tcp).unwrap();
            (check.ask, check.timeout) = (ask, Duration::from_secs(5));
            probes::target(address, check)
        };
        let run = |command: &[&str]| asked_by(Ask::Exec(command.iter().map(|&word| word.to_owned()).collect()));
        let mut crew = Crew::gather().unwrap();
        crew.begin(launch(2, 7), &run(&["/bin/sleep", "60"]));
        crew.retain(|id| id == 1);
        let well = run(&["/bin/true"]);
        crew.begin(launch(1, 8), &well);
        crew.begin(launch(1, 9), &well);
        crew.begin(launch(3, 10), &asked_by(Ask::Tcp));
        let mut seen = BTreeMap::new();
        while seen.len() < 4 {
            let more = timeout(Duration::from_secs(4), crew.seen()).await.unwrap();
            seen.extend(
                more.into_iter()
                    .map(|(launch, observation)| (launch.number, observation)),
            );
        }
        assert!(
            (8..=10).all(|number| matches!(seen[&number].outcome, Outcome::Up(_))),
            "{seen:?}"
        );
        assert!(crew.posts[&1].idle.is_some() && crew.under_way.is_empty());
        assert!(!seen[&7].is_evidence() || !seen[&7].is_answer(), "{:?}", seen[&7]);
        crew.begin(launch(1, 11), &asked_by(Ask::Tcp));
        assert!(crew.posts.is_empty());
    }
}
