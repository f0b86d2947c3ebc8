//! Runs the programs that say whether this node is fit to have shared addresses, each again and again.
//!
//! What follows from an exit code is for `core::vrrp`.

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::programs::{Run, place};
use crate::core::vrrp::track::Program;

pub struct Programs {
    running: Vec<(Program, JoinHandle<()>)>,
    sender: UnboundedSender<(Program, bool)>,
    outcomes: UnboundedReceiver<(Program, bool)>,
}

impl Default for Programs {
    fn default() -> Self {
        let (sender, outcomes) = unbounded_channel();
        Self {
            running: Vec::new(),
            sender,
            outcomes,
        }
    }
}

impl Programs {
    /// These and no others.
    pub fn run(&mut self, wanted: &[Program]) {
        self.running.retain(|(program, task)| {
            let stays = wanted.contains(program);
            if !stays {
                task.abort();
            }
            stays
        });
        for program in wanted {
            if !self.running.iter().any(|(running, _)| running == program) {
                let task = tokio::spawn(again_and_again(program.clone(), self.sender.clone()));
                self.running.push((program.clone(), task));
            }
        }
    }

    /// Whether one ended well. Cancel safe.
    pub async fn ended(&mut self) -> (Program, bool) {
        match self.outcomes.recv().await {
            Some(outcome) => outcome,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for (_, task) in &self.running {
            task.abort();
        }
    }
}

async fn again_and_again(program: Program, outcomes: UnboundedSender<(Program, bool)>) {
    loop {
        // Waiting for others is no failure.
        let place = place().await;
        let ended = timeout(program.timeout, ends_well(&program.command, place)).await;
        if outcomes.send((program.clone(), ended == Ok(true))).is_err() {
            return;
        }
        sleep(program.every).await;
    }
}

async fn ends_well(command: &[String], place: OwnedSemaphorePermit) -> bool {
    let Ok(mut run) = Run::start(command, &[], &[], place).await else {
        return false;
    };
    run.finish().await.is_ok_and(|(status, _)| status.success())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn program(script: &str) -> Program {
        Program {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            every: Duration::from_millis(1),
            timeout: Duration::from_millis(300),
            fall: 1,
            rise: 1,
        }
    }

    #[tokio::test]
    async fn each_is_run_again_and_again_as_long_as_it_is_wanted() {
        let mut programs = Programs::default();
        for (script, well) in [("exit 0", true), ("exit 1", false), ("sleep 60", false)] {
            programs.run(&[program(script)]);
            let mut seen = 0;
            while seen < 2 {
                let (of, ended) = programs.ended().await;
                // The one before may have ended once more.
                if of == program(script) {
                    assert_eq!(ended, well, "{script}");
                    seen += 1;
                }
            }
        }
        programs.run(&[]);
        assert!(programs.running.is_empty());
    }
}
