//! Runs the programs that are to hear of each change of role: one after the other, in the order of the changes.
//!
//! Each gets the change as JSON, and some time; then it is killed, and the next one has its turn. Of each instance the
//! newest changes wait, whatever hangs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::programs::{Run, place};

const PATIENCE: Duration = Duration::from_secs(10);
/// Of each instance; an older change gives way.
const MOST_WAITING: usize = 8;

pub struct Hooks {
    waiting: Arc<Waiting>,
    task: JoinHandle<()>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    pub instance: String,
    pub command: Vec<String>,
    pub input: String,
}

#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    bell: Notify,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    /// Instances that have lost a call, and have others waiting.
    skipped: BTreeSet<String>,
    /// No more are taken.
    is_closed: bool,
}

impl Hooks {
    pub fn open() -> Self {
        let waiting = Arc::new(Waiting::default());
        Self {
            waiting: waiting.clone(),
            task: tokio::spawn(run(waiting)),
        }
    }

    /// True: too many of this instance wait, and from now on the oldest of them are never told.
    pub fn call(&self, call: Call) -> bool {
        let skips = self.waiting.queue().push(call);
        self.waiting.bell.notify_one();
        skips
    }

    /// Until all have heard, or as long as they may take.
    pub async fn finish(&mut self, within: Duration) {
        self.waiting.queue().is_closed = true;
        self.waiting.bell.notify_one();
        let _too_slow = timeout(within, &mut self.task).await;
    }
}

impl Waiting {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: there will be no more.
    async fn next(&self) -> Option<Call> {
        loop {
            let (next, is_closed) = {
                let mut queue = self.queue();
                (queue.pop(), queue.is_closed)
            };
            if next.is_some() || is_closed {
                return next;
            }
            self.bell.notified().await;
        }
    }
}

impl Queue {
    fn push(&mut self, call: Call) -> bool {
        let of_it = |waiting: &Call| waiting.instance == call.instance;
        let is_full = self.calls.iter().filter(|waiting| of_it(waiting)).count() == MOST_WAITING;
        if let (true, Some(oldest)) = (is_full, self.calls.iter().position(of_it)) {
            self.calls.remove(oldest);
        }
        let skips = is_full && self.skipped.insert(call.instance.clone());
        self.calls.push_back(call);
        skips
    }

    fn pop(&mut self) -> Option<Call> {
        let call = self.calls.pop_front()?;
        if !self.calls.iter().any(|waiting| waiting.instance == call.instance) {
            self.skipped.remove(&call.instance);
        }
        Some(call)
    }
}

async fn run(waiting: Arc<Waiting>) {
    while let Some(Call { command, input, .. }) = waiting.next().await {
        if let Err(why) = one(&command, &input).await {
            warn!(
                program = command.join(" "),
                why, "a program that is to hear of changes of role did not do well"
            );
        }
    }
}

async fn one(command: &[String], input: &str) -> Result<(), String> {
    let run = Run::start(command, &[], input.as_bytes(), place().await);
    let mut run = run.await.map_err(|error| error.to_string())?;
    match timeout(PATIENCE, run.finish()).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, said))) => Err(format!("{status}: {}", String::from_utf8_lossy(&said).trim())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it took longer than {PATIENCE:?}, and was killed")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;

    fn call(instance: &str, script: &str, input: &str) -> Call {
        Call {
            instance: instance.to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            input: input.to_owned(),
        }
    }

    /// A file that calls append their input to, a line each.
    struct Heard(PathBuf);

    impl Heard {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("naru-hooks-{name}-{}", std::process::id())))
        }

        fn call(&self, instance: &str, pause: &str, input: &str) -> Call {
            let script = format!("sleep {pause}; cat >> {0}; echo >> {0}", self.0.display());
            call(instance, &script, input)
        }

        async fn until(&self, expected: &str) {
            let deadline = Instant::now() + Duration::from_secs(10);
            while fs::read_to_string(&self.0).unwrap_or_default() != expected {
                assert!(Instant::now() < deadline, "{:?}", fs::read_to_string(&self.0));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    impl Drop for Heard {
        fn drop(&mut self) {
            let _never_written = fs::remove_file(&self.0);
        }
    }

    /// The slow one first: it is waited for.
    #[tokio::test]
    async fn changes_are_told_in_their_order() {
        let (heard, hooks) = (Heard::new("order"), Hooks::open());
        for (pause, input) in [("0.2", "one"), ("0", "two"), ("0", "three")] {
            assert!(!hooks.call(heard.call("main", pause, input)));
        }
        heard.until("one\ntwo\nthree\n").await;
    }

    /// What another instance has to tell is not lost for it, and neither is the newest.
    #[tokio::test]
    async fn one_that_hangs_costs_the_oldest_changes_and_that_is_said_once() {
        let (heard, hooks) = (Heard::new("hangs"), Hooks::open());
        hooks.call(heard.call("main", "1", "begins"));
        while !hooks.waiting.queue().calls.is_empty() {
            tokio::task::yield_now().await;
        }
        hooks.call(heard.call("other", "0", "other"));
        let said = (0..1000).filter(|number| hooks.call(heard.call("main", "0", &number.to_string())));
        assert_eq!(said.count(), 1);
        assert_eq!(hooks.waiting.queue().calls.len(), MOST_WAITING + 1);
        let newest: String = (1000 - MOST_WAITING..1000)
            .map(|number| format!("{number}\n"))
            .collect();
        heard.until(&format!("begins\nother\n{newest}")).await;
        // Those that come later are told again.
        let said = (0..100).filter(|number| hooks.call(heard.call("main", "0", &number.to_string())));
        assert_eq!(said.count(), 1);
    }

    #[tokio::test]
    async fn who_fails_or_is_not_there_is_told_of() {
        let command = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned);
        let why = one(&command("echo no luck; exit 3"), "{}").await.unwrap_err();
        assert_eq!(why, "exit status: 3: no luck");
        let why = one(&["/nowhere".to_owned()], "{}").await.unwrap_err();
        assert!(why.contains("No such file"), "{why}");
    }
}
