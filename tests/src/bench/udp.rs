//! Frames of one core: the smallest UDP frames through each contender, by number of flows.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::conntrack::Conntrack;
use super::contender::Contender;
use super::rig::{self, Clients, FIRST_CLIENT};
use super::traffic::{FRAME_LEN, Until};
use crate::lab::Lab;

const FLOWS: [u32; 3] = [100, 50_000, 1_000_000];
const CONTENDERS: [Contender; 3] = [Contender::Redirect, Contender::Naru, Contender::Nftables];
const DEFAULT_SECONDS: u64 = 2;

/// Both directions translated.
pub fn nat(lab: &Lab, options: &Options) -> Result<()> {
    let _conntrack = Conntrack::enlarge()?;
    run(
        lab,
        options,
        &CONTENDERS,
        &[Contender::Redirect, Contender::Nftables],
        &FLOWS,
    )
}

/// Servers answer by themselves; what comes in leaves by the same link.
pub fn dsr(lab: &Lab, options: &Options) -> Result<()> {
    let contenders = [Contender::Transmit, Contender::NaruDsrL2, Contender::NaruDsrIpip];
    run(lab, options, &contenders, &[Contender::Transmit], &FLOWS)
}

fn run(lab: &Lab, options: &Options, contenders: &[Contender], bases: &[Contender], flows: &[u32]) -> Result<()> {
    let chains = rig::chains(lab, contenders)?;
    let mut rigs = rig::rigs(lab, contenders, &chains)?;
    let duration = Duration::from_secs(options.seconds.unwrap_or(DEFAULT_SECONDS));
    for &flows in flows {
        println!(
            "\n{} byte frames of UDP, {flows} flows, one CPU, {duration:?} each",
            FRAME_LEN + 4
        );
        let clients = Clients {
            first: FIRST_CLIENT,
            flows,
        };
        rigs.iter_mut().try_for_each(|rig| rig.warm(clients))?;
        let samples = rig::in_turns(&mut rigs, options.runs, |rig, _| {
            rig.measure(clients, Until::Elapsed(duration))
        })?;
        print!("{}", rig::table(&rigs, &samples, ("Mpps", 1e6), bases));
    }
    Ok(())
}
