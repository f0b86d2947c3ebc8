//! `naru events`: what has changed, and why.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, one_line, say};
use crate::core::explain::{Event, render_event};
use crate::io::control::Request;

/// List the last changes of backends and of the node, up to a thousand, oldest first.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One JSON document, whose fields may be added to and never change their names.
    #[arg(long)]
    json: bool,
}

pub fn run(socket: &Path, Arguments { json }: &Arguments) -> Exit {
    let events: Vec<Event> = match ask("events", socket, &Request::Events {}) {
        Ok(events) => events,
        Err(exit) => return exit,
    };
    if *json {
        return say(&one_line(&events));
    }
    let lines: Vec<String> = events.iter().map(render_event).collect();
    say(&match lines.is_empty() {
        true => "nothing has changed since the start".to_owned(),
        false => lines.join("\n"),
    })
}
