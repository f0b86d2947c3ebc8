//! Adverts that are wrong, or of strangers: they move nothing, and each cause is counted.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use lb_tests::lab::*;
use lb_userspace::core::vrrp::packet::Version;

use super::ownership::{EVENTUALLY, Pair, config, has_role, paired};
use super::*;

pub(super) const ID: u8 = 51;
pub(super) const OF_A: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 11);
pub(super) const OF_B: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 12);
pub(super) const OF_STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
pub(super) const INTERVAL: Duration = Duration::from_millis(30);
/// Of each kind that is wrong.
pub(super) const EACH: u64 = 5;

pub(super) type Causes = BTreeMap<String, u64>;

/// By instance, and at last for nobody.
pub(super) fn refused(naru: &Naru) -> Result<(BTreeMap<String, Causes>, Causes)> {
    let told = naru.vrrp()?;
    let causes = |value: &Value| serde_json::from_value::<Causes>(value.clone());
    let instances = told["instances"].as_array().context("a list of instances")?;
    let by_instance = instances.iter().map(|one| {
        Ok((
            one["name"].as_str().context("a name")?.to_owned(),
            causes(&one["refused"])?,
        ))
    });
    Ok((by_instance.collect::<Result<_>>()?, causes(&told["refused"])?))
}

fn counts(causes: &[&str]) -> Causes {
    causes.iter().map(|cause| ((*cause).to_owned(), EACH)).collect()
}

/// What each has done so far of its own accord.
fn moves(pair: &Pair) -> Result<Vec<Value>> {
    let moves = [&pair.a, &pair.b].map(|naru| {
        let told = naru.vrrp()?;
        let instances = told["instances"].as_array().context("a list of instances")?;
        let claims: Vec<_> = instances.iter().map(|one| one["claims_in_vain"].clone()).collect();
        Ok(serde_json::json!([told["transitions"], claims]))
    });
    moves.into_iter().collect()
}

/// What their beginning made clients wait for is over.
pub(super) fn calm(pair: &Pair) -> Result<(Instant, Vec<Value>)> {
    pair.caller.lost_for(Instant::now(), EVENTUALLY)?;
    until(EVENTUALLY, || has_role(&pair.a, "master"))?;
    until(EVENTUALLY, || has_role(&pair.b, "backup"))?;
    Ok((Instant::now(), moves(pair)?))
}

/// Nothing has moved since, and clients noticed nothing.
pub(super) fn nothing_moved(pair: &Pair, (since, before): &(Instant, Vec<Value>)) -> Result<()> {
    let lost = pair.caller.lost_for(*since, EVENTUALLY)?;
    let now = moves(pair)?;
    ensure!(now == *before, "{now:?}, before {before:?}");
    ensure!(lost.is_zero(), "calls were lost for {lost:?}");
    Ok(())
}

/// The same but for that.
fn with(forged: &Forged, change: impl FnOnce(&mut Forged)) -> Forged {
    let mut forged = forged.clone();
    change(&mut forged);
    forged
}

/// Replaces two bytes and keeps the sum right.
fn replace(payload: &mut [u8], at: usize, with: [u8; 2]) {
    let word = |payload: &[u8], at: usize| u32::from(u16::from_be_bytes([payload[at], payload[at + 1]]));
    let before = word(payload, at);
    payload[at..at + 2].copy_from_slice(&with);
    // RFC 1624, eqn. 3.
    let mut sum = (!word(payload, 6) & 0xffff) + (!before & 0xffff) + word(payload, at);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    payload[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn adverts_that_are_wrong_move_nothing_and_are_counted_by_cause() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let password = lab.folder().join("vrrp-password");
        fs::write(&password, "mellon\n")?;
        let old = |name, priority| {
            let text = config(&net, name, priority);
            format!(
                "{text}\n[vrrp.old]\ninterface = \"eth0\"\nid = 52\nversion = 2\npriority = {priority}\n\
                 password_file = {password:?}\naddresses = [\"198.18.0.101/24\"]\n"
            )
        };
        let pair = Pair::start_with(lab, &net, &old("a", 150), &old("b", 100))?;
        // In version 2 this takes as long as a master may be silent.
        until(EVENTUALLY, || {
            let told = pair.a.status()?;
            let old = named(&told["vrrp"], "old")?;
            ensure!(old["role"] == "master", "{old}");
            Ok(())
        })?;
        let begun = calm(&pair)?;
        let stranger = Stranger::at(&net.watcher)?;

        let right = Forged::new(OF_STRANGER, Version::V3, ID, 200, INTERVAL);
        let of_main = [
            ("TTL not 255", with(&right, |it| it.ttl = 254)),
            (
                "another version",
                Forged::new(OF_STRANGER, Version::V2, ID, 200, Duration::from_secs(1)),
            ),
            ("wrong checksum", with(&right, |it| it.payload[6] ^= 1)),
            ("truncated", with(&right, |it| it.payload.truncate(7))),
            (
                "fewer addresses than it says",
                with(&right, |it| it.payload.truncate(8)),
            ),
            ("trailing bytes", with(&right, |it| it.payload.extend([0; 4]))),
            ("no address", with(&right, |it| replace(&mut it.payload, 2, [200, 0]))),
            ("interval zero", with(&right, |it| replace(&mut it.payload, 4, [0, 0]))),
        ];
        let of_old = [
            (
                "wrong authentication",
                Forged::new(OF_STRANGER, Version::V2, 52, 200, Duration::from_secs(1)),
            ),
            (
                "another version",
                Forged::new(OF_STRANGER, Version::V3, 52, 200, Duration::from_secs(1)),
            ),
        ];
        let of_nobody = [
            ("unknown id", Forged::new(OF_STRANGER, Version::V3, 77, 200, INTERVAL)),
            (
                "not an advertisement",
                with(&right, |it| replace(&mut it.payload, 0, [0x32, ID])),
            ),
            (
                "another version",
                with(&right, |it| replace(&mut it.payload, 0, [0x41, ID])),
            ),
            ("truncated", with(&right, |it| it.payload.truncate(1))),
        ];
        let all = of_main.iter().chain(&of_old).chain(&of_nobody);
        for (_, forged) in all {
            for _ in 0..EACH {
                stranger.say(forged)?;
            }
        }
        let expected = [("main", causes(&of_main)), ("old", causes(&of_old))];
        let expected: BTreeMap<_, _> = expected.map(|(name, causes)| (name.to_owned(), causes)).into();
        for naru in [&pair.a, &pair.b] {
            until(SOON, || {
                let (by_instance, by_nobody) = refused(naru)?;
                ensure!(by_instance == expected, "{by_instance:?}, expected {expected:?}");
                ensure!(by_nobody == causes(&of_nobody), "{by_nobody:?}");
                Ok(())
            })?;
        }
        nothing_moved(&pair, &begun)
    });
}

fn causes(table: &[(&str, Forged)]) -> Causes {
    counts(&table.iter().map(|(cause, _)| *cause).collect::<Vec<_>>())
}

/// Right in every respect but for who says them: with peers, nobody else is heard.
#[test]
fn right_adverts_of_strangers_move_nothing_where_there_are_peers() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let peer =
            |text: &str, other: Ipv4Addr| text.replace("id = 51\n", &format!("id = 51\npeers = [\"{other}\"]\n"));
        let a = peer(&config(&net, "a", 150), OF_B);
        let b = peer(&config(&net, "b", 100), OF_A);
        let pair = Pair::start_with(lab, &net, &a, &b)?;
        let begun = calm(&pair)?;
        let stranger = Stranger::at(&net.watcher)?;

        let long = Duration::from_millis(40_950);
        let flood = sized(2_000, 200_000);
        let of = |priority, interval| Forged::new(OF_STRANGER, Version::V3, ID, priority, interval);
        let (mut to_a, mut to_b) = (0, 0);
        for (count, priority, interval) in [(EACH, 200, long), (flood, 0, INTERVAL), (flood, 255, INTERVAL)] {
            let forged = of(priority, interval);
            for forged in [forged.clone().to(&net.a, OF_A)?, forged.to(&net.b, OF_B)?] {
                (0..count).try_for_each(|_| stranger.say(&forged))?;
            }
            (to_a, to_b) = (to_a + count, to_b + count);
        }
        // Somebody who says to be the other, but to everybody.
        let impostor = Forged::new(OF_B, Version::V3, ID, 255, INTERVAL);
        (0..EACH).try_for_each(|_| stranger.say(&impostor))?;

        for (naru, sent) in [(&pair.a, to_a), (&pair.b, to_b)] {
            until(EVENTUALLY, || {
                let (by_instance, by_nobody) = refused(naru)?;
                let main = by_instance.get("main").context("the instance")?;
                let strangers = main.get("not from a peer").copied().unwrap_or_default();
                // What a flood leaves no room for is not heard at all.
                ensure!(
                    (EACH..=sent).contains(&strangers) && by_nobody.is_empty(),
                    "{main:?} of {sent}"
                );
                Ok(())
            })?;
        }
        for naru in [&pair.a, &pair.b] {
            let told = format!("{OF_STRANGER} is not heard: it is not among the peers");
            ensure!(naru.log().matches(&told).count() == 1, "not told, or again and again");
        }
        until(SOON, || {
            let (by_instance, _) = refused(&pair.a)?;
            ensure!(by_instance["main"]["another destination"] == EACH, "{by_instance:?}");
            Ok(())
        })?;
        nothing_moved(&pair, &begun)
    });
}

/// A backup that heard a resignation would take over within milliseconds.
#[test]
fn a_stranger_cannot_resign_for_the_master() {
    paired(|_, net, pair| {
        let begun = calm(pair)?;
        let stranger = Stranger::at(&net.watcher)?;
        let resigns = Forged::new(OF_STRANGER, Version::V3, ID, 0, INTERVAL);
        for _ in 0..sized(500, 50_000) {
            stranger.say(&resigns)?;
        }
        until(SOON, || {
            let (by_instance, _) = refused(&pair.b)?;
            let count = by_instance["main"].get("resignation of another than the master");
            ensure!(count.is_some(), "{by_instance:?}");
            Ok(())
        })?;
        nothing_moved(pair, &begun)
    });
}
