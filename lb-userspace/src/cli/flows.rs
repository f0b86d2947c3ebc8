//! `naru flows`: the flow table, for people and for programs.

use std::path::Path;

use clap::Args;

use super::ask::ask;
use super::{Exit, one_line, say, table};
use crate::io::control::{FlowRow, Flows, Request};

/// List the flows in the kernel's table.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Those of one service only.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Those of one backend only, as `naru status` calls it.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    #[arg(long)]
    json: bool,
}

pub fn run(socket: &Path, Arguments { service, backend, json }: Arguments) -> Exit {
    let flows: Flows = match ask("flows", socket, &Request::Flows { service, backend }) {
        Ok(flows) => flows,
        Err(exit) => return exit,
    };
    if json {
        return say(&one_line(&flows));
    }
    let title = [
        "SERVICE", "BACKEND", "PROTOCOL", "CLIENT", "LISTEN", "SNAT", "ADDRESS", "STATE", "IDLE",
    ];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    rows.extend(flows.flows.into_iter().map(row));
    let mut lines = table::lines(&rows);
    if flows.more > 0 {
        lines.push(format!(
            "and {} more; narrow it down with --service or --backend",
            flows.more
        ));
    }
    say(&lines.join("\n"))
}

fn row(flow: FlowRow) -> Vec<String> {
    vec![
        flow.service.unwrap_or_else(|| "-".to_owned()),
        flow.backend.unwrap_or_else(|| "-".to_owned()),
        flow.protocol,
        flow.client.to_string(),
        flow.listen.to_string(),
        flow.snat.to_string(),
        flow.backend_address.to_string(),
        flow.state,
        format!("{}s", flow.idle_seconds),
    ]
}
