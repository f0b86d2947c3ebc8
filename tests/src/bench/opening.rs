//! New flows of one core: every frame begins one. And what a flow takes of memory.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests_bpf::PORTS_PER_SOURCE;
use serde_json::Value;

use super::Options;
use super::conntrack::Conntrack;
use super::contender::{Contender, Running};
use super::rig::{self, Clients, FIRST_CLIENT, MAX_FLOWS};
use super::traffic::Until;
use crate::lab::{Lab, Naru, stdout};

const CONTENDERS: [Contender; 2] = [Contender::Nftables, Contender::Naru];

pub fn run(lab: &Lab, options: &Options) -> Result<()> {
    let _conntrack = Conntrack::enlarge()?;
    let chains = rig::chains(lab, &CONTENDERS)?;
    let mut rigs = rig::rigs(lab, &CONTENDERS, &chains)?;
    // All rounds together fill three quarters of the table.
    let flows = MAX_FLOWS / 4 * 3 / options.runs;
    println!("\nnew flows of UDP, {flows} in each round, one CPU");
    let samples = rig::in_turns(&mut rigs, options.runs, |rig, round| {
        rig.measure(clients(round, flows), Until::Sent(flows.into()))
    })?;
    print!(
        "{}",
        rig::table(&rigs, &samples, ("million/s", 1e6), &[Contender::Nftables])
    );
    for rig in &rigs {
        if let Running::Naru(naru) = &rig.running {
            println!("  memory: {}", memory_of_naru(naru)?);
        }
    }
    println!(
        "  memory: nftables {} bytes for each flow while it lasts, and buckets",
        conntrack_entry()?
    );
    Ok(())
}

/// Addresses that no round before had.
fn clients(round: u32, flows: u32) -> Clients {
    let addresses = flows / PORTS_PER_SOURCE + 1;
    Clients {
        first: Ipv4Addr::from_bits(FIRST_CLIENT.to_bits() + round * addresses),
        flows,
    }
}

fn memory_of_naru(naru: &Naru) -> Result<String> {
    let bytes = |map: &str| {
        let path = naru.pins().join(map).display().to_string();
        let shown = stdout(Command::new("bpftool").args(["-j", "map", "show", "pinned", &path]))?;
        let shown: Value = serde_json::from_str(&shown)?;
        shown["bytes_memlock"].as_u64().context("find bytes_memlock")
    };
    let each = |bytes: u64| bytes / u64::from(MAX_FLOWS);
    Ok(format!(
        "Naru {} bytes for each flow of IPv4 there is room for, {} for IPv6; taken at the start",
        each(bytes("flows")?),
        each(bytes("flows6")?)
    ))
}

/// By the kernel's list of slabs: name, objects in use, objects, size.
fn conntrack_entry() -> Result<String> {
    let slabs = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
    let line = slabs.lines().find(|line| line.starts_with("nf_conntrack "));
    let size = line.and_then(|line| line.split_whitespace().nth(3));
    Ok(size.context("find nf_conntrack in /proc/slabinfo")?.to_owned())
}
