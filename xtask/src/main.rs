//! The project's own commands; `cargo xtask` without arguments lists them.
//!
//! Here is only the list: each command is a file of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

mod apt;
mod arch;
mod bench;
mod build;
mod deny;
mod fuzz;
mod lint;
mod packages;
mod privileged;
mod progress;
mod run;
mod schema;
mod setup;
mod test;
mod vm;
mod workspace;

/// The commands of the Naru workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Find, or else install, the compiler and the linker for the XDP program
    Setup,
    /// Build everything
    Build {
        /// Optimised, as for a real host
        #[arg(long)]
        release: bool,
    },
    /// Show a load balancer at work on networks of its own; with --config, run the daemon on this host
    Run {
        /// Serve this configuration on this host
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check the style, the lints, the dependencies and the architecture
    Lint,
    /// Check the rules of the architecture
    Arch,
    /// Run every test
    Test,
    /// Run the packet table: what the XDP program does with each kind of packet
    Packet {
        /// Instead, compare program and host on so many random frames
        #[arg(long, value_name = "N")]
        random: Option<u64>,
    },
    /// Try inputs that reach new code of the data path, VRRP or names on the host, and check that its laws hold
    Fuzz {
        #[arg(default_value = fuzz::TARGETS[0], value_parser = fuzz::TARGETS)]
        what: String,
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// Add what reached new code to the corpus that the tests replay
        #[arg(long)]
        keep: bool,
    },
    /// Run the lab: daemon, servers and clients on networks of their own
    Lab {
        /// Only the cases whose name contains this
        filter: Option<String>,
        /// Run them this many times, whatever fails
        #[arg(long, value_name = "N", default_value_t = 1)]
        repeat: u32,
        /// In their full sizes, which take minutes
        #[arg(long)]
        long: bool,
    },
    /// Run the packet table on other kernels, in virtual machines
    Vm {
        /// Newest of these series that apt has, such as 6.1
        #[arg(value_name = "SERIES", default_values = vm::SERIES)]
        series: Vec<String>,
    },
    /// Measure, beside the alternatives
    Bench {
        /// Only this measurement
        name: Option<String>,
        /// How often each is repeated
        #[arg(long, value_name = "N")]
        runs: Option<u32>,
    },
    /// Write the JSON Schema of the configuration file
    Schema,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Setup => setup::run(),
        Task::Build { release } => build::run(release),
        Task::Run { config } => run::run(config.as_deref()),
        Task::Lint => lint::run(),
        Task::Arch => arch::run(),
        Task::Test => test::all(),
        Task::Packet { random } => test::packet(random),
        Task::Fuzz { what, seconds, keep } => fuzz::run(&what, seconds, keep),
        Task::Lab { filter, repeat, long } => test::lab(filter.as_deref(), repeat, long),
        Task::Vm { series } => vm::run(&series),
        Task::Bench { name, runs } => bench::run(name.as_deref(), runs),
        Task::Schema => schema::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
