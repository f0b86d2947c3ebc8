//! The bench: Naru and what else could stand in its place, measured in one run, in turns, on the same network.
//!
//! It judges nothing and keeps no figures. What they mean and what they do not: docs/benchmarks.md.

mod chain;
mod checks;
mod conntrack;
mod contender;
mod detect;
mod failover;
mod figures;
mod http;
mod machine;
mod names;
mod opening;
mod rig;
mod takeover;
mod traffic;
mod udp;
mod wrk;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::lab::Lab;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Full NAT of the smallest frames on one core, by number of flows.
    Udp,
    /// The same where servers answer clients themselves.
    Dsr,
    /// New flows on one core, and their memory.
    Open,
    /// Requests through wrk to nginx: keep-alive, and one connection for each request.
    Http,
    /// How long clients are sent to a server that is gone.
    Detect,
    /// How long until writes reach a database that has become the primary.
    Failover,
    /// How long clients are without a shared address when a node of a pair fails or yields.
    Takeover,
    /// How long until clients are sent to where a name leads now.
    Names,
    /// What ten thousand checks a second cost.
    Checks,
}

pub struct Options {
    /// Rounds; in each round every contender is measured once.
    pub runs: u32,
    pub seconds: Option<u64>,
}

/// Runs one bench, or all.
pub fn run(only: Option<Bench>, options: &Options) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the bench makes network namespaces: it needs root"
    );
    let before = machine::Snapshot::take()?;
    println!("{}", machine::describe(options.runs)?);
    let lab = Lab::new()?;
    for bench in Bench::value_variants() {
        let outcome = match bench {
            _ if only.is_some_and(|only| only != *bench) => continue,
            Bench::Udp => udp::nat(&lab, options),
            Bench::Dsr => udp::dsr(&lab, options),
            Bench::Open => opening::run(&lab, options),
            Bench::Http => http::run(&lab, options),
            Bench::Detect => detect::run(&lab, options),
            Bench::Failover => failover::run(options),
            Bench::Takeover => takeover::run(options),
            Bench::Names => names::run(&lab, options),
            Bench::Checks => checks::run(&lab, options),
        };
        outcome.inspect_err(|_| lab.show_logs())?;
    }
    println!("\n{}", before.since()?);
    Ok(())
}
