//! `naru`, as the lab runs it: cargo builds it with the tests, so it is never older than they are.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_userspace::cli::main()
}
