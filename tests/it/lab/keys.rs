//! Nodes that share a key: takeovers go as without, and nobody else is believed, whatever he has heard.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lb_tests::lab::*;
use lb_userspace::core::vrrp::packet::Version;
use lb_userspace::core::vrrp::sealed::Secrets;

use super::hostile_adverts::*;
use super::ownership::{EVENTUALLY, GRACE, Pair, config, has_role};
use super::ownership_changes::instance;
use super::*;

const KEY: &str = "correct horse battery staple";
const OTHER_KEY: &str = "another horse battery staple";

/// Each node has a file of its own.
struct Keys {
    a: PathBuf,
    b: PathBuf,
}

impl Keys {
    fn new(lab: &Lab) -> Result<Self> {
        let [a, b] = ["a", "b"].map(|name| lab.folder().join(format!("vrrp-{name}.key")));
        for file in [&a, &b] {
            fs::write(file, format!("{KEY}\n"))?;
        }
        Ok(Self { a, b })
    }

    fn pair<'lab>(&self, lab: &Lab, net: &'lab Twins) -> Result<Pair<'lab>> {
        let with = |name, priority, file: &Path| {
            let line = key_line(file);
            config(net, name, priority).replace("id = 51\n", &format!("id = 51\n{line}"))
        };
        Pair::start_with(lab, net, &with("a", 150, &self.a), &with("b", 100, &self.b))
    }
}

fn key_line(file: &Path) -> String {
    format!("key_file = {file:?}\n")
}

/// Each knows that the other has the key.
fn acquainted(pair: &Pair) -> Result<()> {
    for (naru, other) in [(&pair.a, OF_B), (&pair.b, OF_A)] {
        let told = instance(naru)?;
        let others = told["acquaintances"].as_array().context("a list")?;
        let addresses: Vec<_> = others.iter().map(|one| one["address"].clone()).collect();
        ensure!(
            told["authenticated"] == true && addresses == [other.to_string()],
            "{told}"
        );
    }
    Ok(())
}

fn count(naru: &Naru, cause: &str) -> Result<u64> {
    let (by_instance, _) = refused(naru)?;
    Ok(by_instance["main"].get(cause).copied().unwrap_or_default())
}

fn repeat(stranger: &Stranger, frames: &[Vec<u8>]) -> Result<()> {
    frames.iter().try_for_each(|frame| stranger.repeat(frame))
}

/// From the stranger, and in the name of each node.
fn forge(stranger: &Stranger, seal: impl Fn(Forged) -> Forged) -> Result<()> {
    for source in [OF_STRANGER, OF_A, OF_B] {
        for priority in [0, 200, 255] {
            let forged = Forged::new(source, Version::V3, ID, priority, INTERVAL);
            (0..EACH).try_for_each(|_| stranger.say(&seal(forged.clone())))?;
        }
    }
    Ok(())
}

#[test]
fn nobody_without_the_key_moves_anything() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let pair = Keys::new(lab)?.pair(lab, &net)?;
        let begun = calm(&pair)?;
        until(EVENTUALLY, || acquainted(&pair))?;
        let stranger = Stranger::at(&net.watcher)?;
        let other = Secrets::read(OTHER_KEY.as_bytes())?;
        forge(&stranger, |forged| forged)?;
        forge(&stranger, |forged| forged.sealed(&other))?;
        // What comes in a node's own name its kernel drops.
        for naru in [&pair.a, &pair.b] {
            for cause in ["not authenticated", "authenticated with another key"] {
                until(SOON, || {
                    let (counted, expected) = (count(naru, cause)?, 6 * EACH);
                    ensure!(counted == expected, "{cause}: {counted}, expected {expected}");
                    Ok(())
                })?;
            }
        }
        let log = pair.b.log();
        for told in [
            "198.18.0.3 is not heard: it has no key",
            "198.18.0.3 is not heard: its key is not among",
        ] {
            ensure!(log.matches(told).count() == 1, "{told}: {log}");
        }
        nothing_moved(&pair, &begun)
    });
}

/// Also of nodes that have begun anew since, or are dead.
#[test]
fn recordings_move_nothing_and_takeovers_do() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let recorder = Recorder::start(&net.watcher)?;
        let mut pair = Keys::new(lab)?.pair(lab, &net)?;
        let stranger = Stranger::at(&net.watcher)?;
        let fault = Instant::now();
        pair.a.stop()?;
        let lost = pair.caller.lost_for(fault, EVENTUALLY)?;
        ensure!(
            lost <= GRACE,
            "calls were lost for {lost:?}: the resignation was not believed"
        );
        pair.a.start()?;
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;

        // A resignation, and a master of the highest priority that is no more.
        let begun = calm(&pair)?;
        let (of_a, of_b) = (recorder.of(OF_A), recorder.of(OF_B));
        ensure!(
            of_a.iter().any(|frame| frame[34..37] == [0x31, ID, 0]),
            "a resignation is recorded"
        );
        repeat(&stranger, &of_a)?;
        repeat(&stranger, &of_b)?;
        // What b has said it says in the same session still; that of a is another now.
        for (naru, cause) in [(&pair.a, "replayed"), (&pair.b, "not proven to be new")] {
            until_true(SOON, cause, || Ok(count(naru, cause)? > 0))?;
        }
        nothing_moved(&pair, &begun)?;

        let fault = Instant::now();
        pair.a.kill9()?;
        until(EVENTUALLY, || has_role(&pair.b, "master"))?;
        pair.caller.lost_for(fault, EVENTUALLY)?;
        let (before, counted) = (instance(&pair.b)?, count(&pair.b, "not proven to be new")?);
        repeat(&stranger, &recorder.of(OF_A))?;
        until_true(SOON, "not proven to be new", || {
            Ok(count(&pair.b, "not proven to be new")? > counted)
        })?;
        let told = instance(&pair.b)?;
        ensure!(
            told["role"] == "master" && told["since"] == before["since"],
            "{told}, before {before}"
        );
        Ok(())
    });
}

/// In three steps, each node in its own time; and what becomes of a node without.
#[test]
fn keys_change_without_a_gap_and_a_node_without_is_told_of() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let keys = Keys::new(lab)?;
        let pair = keys.pair(lab, &net)?;
        let begun = calm(&pair)?;
        for step in [
            format!("{KEY}\n{OTHER_KEY}\n"),
            format!("{OTHER_KEY}\n{KEY}\n"),
            format!("{OTHER_KEY}\n"),
        ] {
            for (naru, file) in [(&pair.a, &keys.a), (&pair.b, &keys.b)] {
                fs::write(file, &step)?;
                naru.tell(&["reload"])?;
                until(SOON, || acquainted(&pair))?;
            }
        }
        nothing_moved(&pair, &begun)?;
        ensure!(count(&pair.b, "authenticated with another key")? == 0);

        let line = key_line(&keys.b);
        pair.b.edit(&line, "")?;
        pair.b.tell(&["reload"])?;
        until(EVENTUALLY, || has_role(&pair.b, "master"))?;
        for (naru, cause, told) in [
            (&pair.a, "not authenticated", "198.18.0.12 is not heard: it has no key"),
            (
                &pair.b,
                "authenticated, and there is no key here",
                "198.18.0.11 is not heard: it authenticates what it says",
            ),
        ] {
            until_true(SOON, cause, || Ok(count(naru, cause)? > 0))?;
            until_true(SOON, told, || Ok(naru.log().contains(told)))?;
        }
        pair.b.edit("id = 51\n", &format!("id = 51\n{line}"))?;
        pair.b.tell(&["reload"])?;
        until(EVENTUALLY, || has_role(&pair.b, "backup"))?;
        has_role(&pair.a, "master")
    });
}
