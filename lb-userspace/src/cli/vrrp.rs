//! `naru vrrp`, `naru failover` and `naru failback`: who has the shared addresses, and who shall.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, one_line, say};
use crate::core::vrrp::document::{VrrpDocument, render};
use crate::io::control::Request;

/// Show who has the shared addresses: role and priority of each instance, the other node, the last hundred transitions and why,
/// adverts by what became of them.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One JSON document, whose fields may be added to and never change their names.
    #[arg(long)]
    json: bool,
}

/// Let the other node have the addresses: this one gives them up, and takes them again only if nobody else does.
#[derive(Debug, Args)]
pub struct Failover {
    /// Of a [vrrp.NAME]; its group goes with it. Default: all of them.
    name: Option<String>,
}

/// End a failover: this node takes the addresses again, if its priority is the higher one.
#[derive(Debug, Args)]
pub struct Failback {
    /// Of a [vrrp.NAME]; its group goes with it. Default: all of them.
    name: Option<String>,
}

pub fn run(socket: &Path, Arguments { json }: &Arguments) -> Exit {
    let document: VrrpDocument = match ask("vrrp", socket, &Request::Vrrp {}) {
        Ok(document) => document,
        Err(exit) => return exit,
    };
    say(&if *json { one_line(&document) } else { render(&document) })
}

pub fn failover(socket: &Path, Failover { name }: Failover) -> Exit {
    sentence("failover", socket, &Request::Failover { name })
}

pub fn failback(socket: &Path, Failback { name }: Failback) -> Exit {
    sentence("failback", socket, &Request::Failback { name })
}

fn sentence(what: &str, socket: &Path, request: &Request) -> Exit {
    match ask::<String>(what, socket, request) {
        Ok(sentence) => say(&sentence),
        Err(exit) => exit,
    }
}
