//! Everybody who asks: a prober for each backend, and others for the occasion while it is waiting.
//!
//! Begins what it is told to, ends what nobody wants to know any more; decides neither.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lb_common::abi::BackendId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::warn;

use super::{Deadlines, Prober};
use crate::core::health::observation::{Failure, Observation, Outcome, Phase};
use crate::core::health::{Launch, Target};

#[derive(Default)]
pub struct Crew {
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
    pub fn gather() -> Self {
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
        Self::default()
    }

    pub fn begin(&mut self, launch: Launch, target: &Arc<Target>) {
        let check = &target.check;
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
            let Some(first) = self.tasks.join_next_with_id().await else {
                return std::future::pending().await;
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
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::core::config::{Check, Protocol};
    use crate::io::probes;

    fn target(address: SocketAddr) -> Arc<Target> {
        probes::target(address, Check::implied(Protocol::Tcp).unwrap())
    }

    fn launch(backend: BackendId, number: u64) -> Launch {
        Launch { backend, number }
    }

    #[tokio::test]
    async fn results_come_with_their_number_and_who_is_gone_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = target(listener.local_addr().unwrap());
        // 198.18.0.0/15 is for tests of this kind: nobody answers.
        let nowhere = target("198.18.255.254:9".parse().unwrap());
        let mut crew = Crew::gather();
        crew.begin(launch(2, 7), &nowhere);
        crew.retain(|id| id == 1);
        crew.begin(launch(1, 8), &here);
        crew.begin(launch(1, 9), &here);
        let mut seen = BTreeMap::new();
        while seen.len() < 3 {
            let more = timeout(Duration::from_secs(5), crew.seen()).await.unwrap();
            seen.extend(
                more.into_iter()
                    .map(|(launch, observation)| (launch.number, observation)),
            );
        }
        assert!(matches!(seen[&8].outcome, Outcome::Up(_)) && matches!(seen[&9].outcome, Outcome::Up(_)));
        assert!(crew.posts[&1].idle.is_some() && crew.under_way.is_empty());
        assert!(!seen[&7].is_evidence() || !seen[&7].is_answer(), "{:?}", seen[&7]);
    }
}
