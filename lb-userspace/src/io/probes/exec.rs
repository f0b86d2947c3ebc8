//! A program of the operator's that finds out by itself.
//!
//! It gets NARU_SERVICE, NARU_BACKEND, NARU_ADDRESS and NARU_PORT, and no input. Exit code 0 means up, 10
//! standby, 75 that nothing could be found out, any other down; the first line it prints is the reason.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::Found;
use super::course::{Course, failure, words};
use crate::core::health::observation::{Code, Facts, Failure, Phase};
use crate::core::members::Name;
use crate::io::programs::{Run, place};

const STANDBY: i32 = 10;
/// EX_TEMPFAIL of sysexits.h.
const NOT_CHECKED: i32 = 75;

pub struct Exec {
    command: Vec<String>,
    environment: [(&'static str, String); 4],
}

impl Exec {
    pub fn new(command: &[String], name: &Name, address: SocketAddr) -> Self {
        Self {
            command: command.to_vec(),
            environment: [
                ("NARU_SERVICE", name.service.clone()),
                ("NARU_BACKEND", name.backend.clone()),
                ("NARU_ADDRESS", address.ip().to_string()),
                ("NARU_PORT", address.port().to_string()),
            ],
        }
    }

    pub async fn ask(&mut self, course: &mut Course) -> Result<Found, Failure> {
        course.enter(Phase::Prepare);
        let place = place().await;
        let run = Run::start(&self.command, &self.environment, &[], place).await;
        let mut run = run.map_err(|error| self.cannot_run(&error))?;
        course.enter(Phase::Run);
        let (status, said) = run.finish().await.map_err(|error| failure(&error))?;
        if status.code() == Some(NOT_CHECKED) {
            course.enter(Phase::Prepare);
        }
        found(status, said)
    }

    fn cannot_run(&self, error: &io::Error) -> Failure {
        let Failure { what, code } = failure(error);
        let program = self.command.first().map_or("", String::as_str);
        let what = format!("cannot run {program}: {what}");
        Failure { what, code }
    }
}

fn found(status: ExitStatus, said: Vec<u8>) -> Result<Found, Failure> {
    let line = said
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty());
    let reason = line.map(words).filter(|words| !words.is_empty());
    let or = |otherwise: &str| reason.clone().unwrap_or_else(|| otherwise.to_owned());
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(Found::Up(Facts::default())),
        (Some(STANDBY), _) => Ok(Found::Standby(or("the program says so"), Facts::default())),
        (Some(NOT_CHECKED), _) => Err(Failure::coded(or("nothing found out"), Code::Exit(NOT_CHECKED))),
        (Some(code), _) => Err(Failure::coded(or("the program says so"), Code::Exit(code))),
        (None, Some(signal)) => Err(Failure::coded(or("the program was killed"), Code::Signal(signal))),
        (None, None) => Err(Failure::new(or("the program ended in no known way"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::core::health::observation::{Observation, Outcome};
    use crate::io::probes::{Deadlines, observe};
    use crate::io::programs::{AT_ONCE, KEPT};

    /// By a shell, which the file has to name.
    async fn run(script: &str, within: Duration) -> Observation {
        let name = Name {
            service: "web".to_owned(),
            backend: "a".to_owned(),
        };
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let mut exec = Exec::new(&command, &name, "198.18.1.11:80".parse().unwrap());
        let deadlines = Deadlines::from_now(within, within);
        observe(deadlines, async |course| exec.ask(course).await).await
    }

    async fn told(script: &str) -> String {
        run(script, Duration::from_secs(10)).await.to_string()
    }

    #[tokio::test]
    async fn the_exit_code_is_the_answer_and_the_first_line_the_reason() {
        assert_eq!(told("exit 0").await, "up");
        assert_eq!(told("echo; echo mounted; exit 10").await, "standby: mounted");
        assert_eq!(
            told("echo no such service >&2; exit 3").await,
            "run failed: no such service (exit code 3)"
        );
        assert_eq!(told("exit 1").await, "run failed: the program says so (exit code 1)");
        assert_eq!(
            told("kill -TERM $$").await,
            "run failed: the program was killed (signal 15)"
        );
        let unknown = run("echo no token; exit 75", Duration::from_secs(10)).await;
        assert!(!unknown.is_evidence(), "{unknown}");
        assert_eq!(
            told("echo $NARU_SERVICE $NARU_BACKEND $NARU_ADDRESS $NARU_PORT $HOME; exit 1").await,
            "run failed: web a 198.18.1.11 80 (exit code 1)"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_run_says_nothing_about_the_backend() {
        let name = Name {
            service: "web".to_owned(),
            backend: "a".to_owned(),
        };
        let mut exec = Exec::new(&["/nowhere".to_owned()], &name, "198.18.1.11:80".parse().unwrap());
        let deadlines = Deadlines::from_now(Duration::from_secs(1), Duration::from_secs(1));
        let observation = observe(deadlines, async |course| exec.ask(course).await).await;
        assert!(!observation.is_evidence());
        assert_eq!(
            observation.to_string(),
            "prepare failed: cannot run /nowhere: no such file or directory (errno 2)"
        );
    }

    /// Gone, or a zombie of somebody's.
    fn lives(pid: &str) -> bool {
        fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
    }

    fn dies(pid: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while lives(pid) {
            assert!(Instant::now() < deadline, "process {pid} lives on");
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn children_go_with_it_in_time_and_out_of_time() {
        let file = std::env::temp_dir().join(format!("naru-exec-{}", std::process::id()));
        let child = format!("sleep 60 & echo $! > {}", file.display());
        assert_eq!(told(&child).await, "up");
        dies(&fs::read_to_string(&file).unwrap());

        let begin = Instant::now();
        let late = run(&format!("{child}; wait"), Duration::from_millis(300)).await;
        assert_eq!(late.to_string(), "run failed: no answer in time");
        assert!(begin.elapsed() < Duration::from_secs(5));
        dies(&fs::read_to_string(&file).unwrap());
        fs::remove_file(&file).unwrap();
    }

    /// Neither a session of its own nor a dead parent hides anybody.
    #[tokio::test]
    async fn what_hides_in_sessions_of_its_own_goes_too() {
        let file = std::env::temp_dir().join(format!("naru-exec-sessions-{}", std::process::id()));
        let hide = format!(
            "for i in 1 2 3; do setsid sh -c 'setsid sleep 60 & echo $! >> {0}; sleep 60' & done; \
             while [ \"$(wc -l < {0})\" != 3 ]; do sleep 0.01; done",
            file.display()
        );
        for (script, outcome) in [
            (&*hide, "up"),
            (&format!("{hide}; sleep 60"), "run failed: no answer in time"),
        ] {
            fs::write(&file, "").unwrap();
            assert_eq!(run(script, Duration::from_secs(3)).await.to_string(), outcome);
            let hidden = fs::read_to_string(&file).unwrap();
            assert_eq!(hidden.lines().count(), 3);
            hidden.lines().for_each(dies);
        }
        fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn endless_output_is_read_and_forgotten() {
        let flood = run("head -c 50000000 /dev/zero; exit 4", Duration::from_secs(30)).await;
        let Outcome::Failed(failure) = flood.outcome else {
            panic!("{flood:?}")
        };
        assert_eq!(failure.code, Some(Code::Exit(4)));
        assert!(failure.what.len() <= KEPT, "{}", failure.what.len());
    }

    #[tokio::test]
    async fn only_so_many_run_at_once() {
        let tasks = tokio::task::LocalSet::new();
        let begin = Instant::now();
        let runs: Vec<_> = (0..=AT_ONCE)
            .map(|_| tasks.spawn_local(run("sleep 0.3", Duration::from_secs(20))))
            .collect();
        tasks.await;
        for run in runs {
            let observation = run.await.unwrap();
            assert!(matches!(observation.outcome, Outcome::Up(_)), "{observation}");
        }
        assert!(begin.elapsed() >= Duration::from_millis(600), "{:?}", begin.elapsed());
    }
}
