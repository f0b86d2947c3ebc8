//! `naru explain SERVICE/BACKEND`: why a backend is as it is.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, one_line, say};
use crate::core::explain::{Explanation, render};
use crate::io::control::{Request, Target};

/// Show why a backend is in its state: its last checks and changes, and who said what about it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(value_name = "SERVICE/BACKEND")]
    target: Target,
    /// One JSON document, whose fields may be added to and never change their names.
    #[arg(long)]
    json: bool,
}

pub fn run(socket: &Path, Arguments { target, json }: Arguments) -> Exit {
    let explained: Explanation = match ask("explain", socket, &Request::Explain { target }) {
        Ok(explained) => explained,
        Err(exit) => return exit,
    };
    say(&if json { one_line(&explained) } else { render(&explained) })
}
