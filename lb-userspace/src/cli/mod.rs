//! The command line: what each command prints and which exit code it ends with.

pub mod check;
pub mod diagnostics;
