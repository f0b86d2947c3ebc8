//! The `naru` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_userspace::cli::main()
}
