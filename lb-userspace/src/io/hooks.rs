//! Runs the programs that are to hear of each change of role: one after the other, in the order of the changes.
//!
//! Each gets the change as JSON, and some time; then it is killed, and the next one has its turn.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::programs::{Run, place};

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Hooks {
    /// None: no more are taken.
    calls: Option<UnboundedSender<Call>>,
    task: JoinHandle<()>,
}

struct Call {
    command: Vec<String>,
    input: String,
}

impl Hooks {
    pub fn open() -> Self {
        let (calls, called) = unbounded_channel();
        Self {
            calls: Some(calls),
            task: tokio::spawn(run(called)),
        }
    }

    pub fn call(&self, command: &[String], input: String) {
        let command = command.to_vec();
        if let Some(calls) = &self.calls {
            let _ended_with_the_daemon = calls.send(Call { command, input });
        }
    }

    /// Until all have heard, or as long as they may take.
    pub async fn finish(&mut self, within: Duration) {
        self.calls = None;
        let _too_slow = timeout(within, &mut self.task).await;
    }
}

async fn run(mut called: UnboundedReceiver<Call>) {
    while let Some(Call { command, input }) = called.recv().await {
        if let Err(why) = one(&command, &input).await {
            warn!(
                program = command.join(" "),
                why, "a program that is to hear of changes of role did not do well"
            );
        }
    }
}

async fn one(command: &[String], input: &str) -> Result<(), String> {
    let mut run = Run::start(command, &[], input.as_bytes(), place().await).map_err(|error| error.to_string())?;
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
    use std::time::Instant;

    use super::*;

    /// The slow one first: it is waited for.
    #[tokio::test]
    async fn changes_are_told_in_their_order() {
        let file = std::env::temp_dir().join(format!("naru-hooks-{}", std::process::id()));
        let hooks = Hooks::open();
        for (pause, input) in [("0.2", "one"), ("0", "two"), ("0", "three")] {
            let script = format!("sleep {pause}; cat >> {0}; echo >> {0}", file.display());
            hooks.call(&["/bin/sh", "-c", &script].map(str::to_owned), input.to_owned());
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(&file).unwrap_or_default() != "one\ntwo\nthree\n" {
            assert!(Instant::now() < deadline, "{:?}", fs::read_to_string(&file));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::remove_file(&file).unwrap();
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
