//! Runs wrk, and reads what it prints.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Namespace;

/// Each thread talks to its own target, or all to the only one.
const SCRIPT: &str = "local count = 0
function setup(thread)
   thread.addr = wrk.lookup(targets[count % #targets + 1], port)[1]
   count = count + 1
end
";

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub per_second: f64,
    pub median: Duration,
    pub p99: Duration,
    /// Connections that failed, requests that had no answer in time or a bad one.
    pub errors: u64,
}

pub struct Wrk<'a> {
    pub client: &'a Namespace,
    /// All of one port.
    pub targets: &'a [SocketAddrV4],
    pub threads: usize,
    pub connections: usize,
    pub keep_alive: bool,
}

impl Wrk<'_> {
    pub fn run(&self, folder: &Path, seconds: u64) -> Result<Sample> {
        let target = self.targets.first().context("find a target")?;
        let names: Vec<_> = self
            .targets
            .iter()
            .map(|target| format!("\"{}\"", target.ip()))
            .collect();
        let script = folder.join(format!("{}.lua", self.client.role()));
        fs::write(
            &script,
            format!(
                "targets = {{ {} }}\nport = \"{}\"\n{SCRIPT}",
                names.join(", "),
                target.port()
            ),
        )?;

        let (threads, connections, url) = (
            format!("-t{}", self.threads),
            format!("-c{}", self.connections),
            format!("http://{target}/"),
        );
        let (seconds, script) = (format!("-d{seconds}s"), script.to_string_lossy());
        let mut arguments = vec!["--latency", &threads, &connections, &seconds, "-s", &script];
        if !self.keep_alive {
            arguments.extend(["-H", "Connection: close"]);
        }
        arguments.push(&url);
        let text = self.client.stdout("wrk", &arguments)?;
        parse(&text).with_context(|| format!("read what wrk printed:\n{text}"))
    }
}

fn parse(text: &str) -> Result<Sample> {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .map(str::trim)
    };
    let latency = |share: &str| {
        after(share)
            .and_then(duration)
            .with_context(|| format!("find latency {share}"))
    };
    let sample = Sample {
        per_second: after("Requests/sec:").context("find requests/sec")?.parse()?,
        median: latency("50%")?,
        p99: latency("99%")?,
        errors: [after("Socket errors:"), after("Non-2xx or 3xx responses:")]
            .into_iter()
            .flatten()
            .map(numbers)
            .sum(),
    };
    ensure!(sample.per_second > 0.0, "no request was answered");
    Ok(sample)
}

fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(char::is_alphabetic)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}

fn numbers(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Running 2s test @ http://198.18.1.254:80/
  3 threads and 48 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.01ms  502.00us  12.35ms   80.00%
    Req/Sec    16.02k     1.00k   18.00k    70.00%
  Latency Distribution
     50%  950.00us
     75%    1.20ms
     90%    1.62ms
     99%    2.35ms
  96012 requests in 2.00s, 15.20MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
Requests/sec:  47998.12
Transfer/sec:      7.60MB
";

    #[test]
    fn reads_what_wrk_prints() {
        let sample = parse(PRINTED).unwrap();
        assert_eq!(sample.per_second, 47998.12);
        assert_eq!(sample.median, Duration::from_micros(950));
        assert_eq!(sample.p99, Duration::from_micros(2350));
        assert_eq!(sample.errors, 4);
    }

    #[test]
    fn a_run_without_an_answer_is_no_figure() {
        assert!(parse(&PRINTED.replace("47998.12", "0.00")).is_err());
    }
}
