//! Command line of the bench, which `cargo xtask bench` calls: which measurements, how many rounds, how long each.

use clap::Parser;
use lb_tests::bench::{self, Bench, Options};

/// Measures Naru beside what else could stand in its place, in one run, and prints medians and ratios.
#[derive(Parser)]
#[command(name = "naru-bench")]
struct Arguments {
    /// One of them instead of all.
    name: Option<Bench>,
    /// Rounds; in each round every contender is measured once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long one measurement takes [default: 2 for udp, 3 for http].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { name, runs, seconds } = Arguments::parse();
    bench::run(name, &Options { runs, seconds })
}
