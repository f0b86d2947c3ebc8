//! `naru dns`: the names of backends, and what name servers say of them.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, one_line, say};
use crate::core::dns::document::{NameStatus, render};
use crate::io::control::Request;

/// Show the names of backends: their addresses, who told them and for how long, what is wrong, and when they are asked
/// about next.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One JSON document, whose fields may be added to and never change their names.
    #[arg(long)]
    json: bool,
}

pub fn run(socket: &Path, Arguments { json }: &Arguments) -> Exit {
    let names: Vec<NameStatus> = match ask("dns", socket, &Request::Dns {}) {
        Ok(names) => names,
        Err(exit) => return exit,
    };
    say(&if *json { one_line(&names) } else { render(&names) })
}
