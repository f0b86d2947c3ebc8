//! Cases in the lab: each is an outcome that a user notices.

mod alarms;
mod bad_input;
mod databases;
mod demo;
mod devices;
mod dissected;
mod disturbed;
mod dns;
mod failover;
mod false_alarms;
mod files;
mod first_steps;
mod fitness;
mod flood;
mod flows;
mod handover;
mod harness;
mod health;
mod hostile;
mod hostile_adverts;
mod interop;
mod ipv6;
mod jumbo;
mod junk;
mod keys;
mod large_file;
mod lifecycle;
mod lost_backends;
mod mariadb;
mod modes;
mod names;
mod narrow;
mod nobody_up;
mod operator;
mod own_faults;
mod ownership;
mod ownership_changes;
mod ports;
mod postgres;
mod programs;
mod recursors;
mod reload;
mod scarce;
mod steering;
mod sysctls;
mod traffic;
mod virtual_mac;
mod virtual_mac_changes;
mod ways;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::lab::{Naru, Outcome, Tally, VIP, VIP6, until};
use serde_json::Value;

/// What a user is promised for a change of any kind.
const SOON: Duration = Duration::from_secs(1);

/// Where the service of most cases listens; the backends listen elsewhere, so that ports are translated.
const LISTEN: SocketAddr = SocketAddr::new(VIP, 80);
const LISTEN6: SocketAddr = SocketAddr::new(VIP6, 80);

/// `[service]` text for one listen, the backends named by their addresses.
fn service_at(name: &str, protocol: &str, mode: &str, listen: SocketAddr, backends: &[SocketAddr]) -> String {
    let backends: Vec<_> = backends.iter().map(SocketAddr::to_string).collect();
    format!(
        "[service.{name}]\nlisten = \"{listen}\"\nprotocol = {protocol:?}\nmode = {mode:?}\nbackends = {backends:?}\n\n"
    )
}

/// `services[name]` of a status.
fn service<'a>(status: &'a Value, name: &str) -> Result<&'a Value> {
    named(&status["services"], name)
}

fn backend<'a>(status: &'a Value, service_name: &str, name: &str) -> Result<&'a Value> {
    named(&service(status, service_name)?["backends"], name)
}

fn named<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let items = list.as_array().with_context(|| format!("{list} is not a list"))?;
    items
        .iter()
        .find(|item| item["name"] == name)
        .with_context(|| format!("{name} is missing in {list}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn generation(naru: &Naru) -> Result<u64> {
    Ok(number(&naru.status()?["config"]["generation"]))
}

/// Waits for a newer configuration than `before`; a second is all it may take.
fn applied_after(naru: &Naru, before: u64) -> Result<()> {
    until(SOON, || {
        let status = naru.status()?;
        ensure!(
            number(&status["config"]["generation"]) > before,
            "not applied: {}",
            status["config"]
        );
        Ok(())
    })
}

#[track_caller]
fn assert_clean(tally: &Tally, answers: u64) {
    assert_eq!((tally.answers(), tally.errors.len()), (answers, 0), "{tally:?}");
}

#[track_caller]
fn assert_unbroken(outcome: &Outcome, transfers: usize) {
    let complete: usize = outcome.complete.values().sum();
    assert_eq!((complete, outcome.broken.len()), (transfers, 0), "{outcome:?}");
}

/// Each share within `points` percentage points of what the weights say.
#[track_caller]
fn assert_shares(tally: &Tally, weights: &[(&str, u16)], points: f64) {
    let sum: u16 = weights.iter().map(|(_, weight)| weight).sum();
    for (name, weight) in weights {
        let expected = 100.0 * f64::from(*weight) / f64::from(sum);
        let found = tally.share(name);
        assert!(
            (found - expected).abs() <= points,
            "{name}: {found:.1} %, not {expected:.1} %: {tally:?}"
        );
    }
}

/// Checks are connections, too: of these backends there is one, when naru starts.
fn checked_once(service: &str) -> String {
    let once = "check = \"once\"\n[check.once]\ntype = \"tcp\"\nevery = \"1d\"\n[backend.";
    service.replacen("[backend.", once, 1)
}
