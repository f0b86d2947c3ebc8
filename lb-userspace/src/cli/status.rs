//! `naru status`: the document, for people and for programs.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, one_line, say};
use crate::core::status::{Status, render};
use crate::io::control::Request;

/// Show what is served, by whom, and what is wrong.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One JSON document, whose fields may be added to and never change their names.
    #[arg(long)]
    json: bool,
}

pub fn run(socket: &Path, Arguments { json }: &Arguments) -> Exit {
    let status: Status = match ask("status", socket, &Request::Status {}) {
        Ok(status) => status,
        Err(exit) => return exit,
    };
    say(&if *json {
        one_line(&status)
    } else {
        render(&status).trim_end().to_owned()
    })
}
