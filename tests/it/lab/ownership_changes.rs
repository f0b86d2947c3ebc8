//! What operators change about shared addresses while clients call: the file, the host's interfaces, what is tracked.

use std::fs;
use std::time::Instant;

use lb_tests::lab::*;

use super::ownership::{EVENTUALLY, GRACE, Pair, addresses, config, has_role, lost_at_most, paired};
use super::*;

/// What tracking may take, clients waiting.
const TRACKED: Duration = Duration::from_millis(300);

/// Nobody was kept waiting meanwhile, and the address stayed where it was.
fn lost_none(pair: &Pair, net: &Twins, since: Instant) -> Result<()> {
    let lost = pair.caller.lost_for(since, EVENTUALLY)?;
    ensure!(lost.is_zero(), "calls were lost for {lost:?}");
    has_role(&pair.a, "master")?;
    has_role(&pair.b, "backup")?;
    pair.owned_by(&[&net.a])
}

pub(super) fn reloaded(naru: &Naru, from: &str, to: &str) -> Result<()> {
    let before = generation(naru)?;
    naru.edit(from, to)?;
    applied_after(naru, before)
}

pub(super) fn instance(naru: &Naru) -> Result<Value> {
    let told = naru.vrrp()?;
    Ok(named(&told["instances"], "main")?.clone())
}

#[test]
fn an_interface_that_appears_later_gets_the_address() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let _servers = net.serve(lab)?;
        net.a.ip("link set eth0 down")?;
        let text = config(&net, "a", 150).replace("\"eth0\"", "\"late0\"");
        let naru = Naru::run(lab, &net.a, &text)?;
        let told = instance(&naru)?;
        ensure!(told["role"] == "fault" && told["fault"] == "late0 is missing", "{told}");
        let shown = naru.tell(&["vrrp"])?;
        ensure!(
            shown.contains("main: fault") && shown.contains("late0 is missing"),
            "{shown}"
        );

        let caller = Caller::start(&net.client, LISTEN)?;
        let _pass = net.plug(&net.a, "late0", "198.18.0.13/24")?;
        let begun = Instant::now();
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        let heard = caller.heard("b1", begun, EVENTUALLY)?;
        note(&format!("a client was heard after {heard:?}"));

        net.a.ip("link del late0")?;
        until(EVENTUALLY, || {
            let told = instance(&naru)?;
            ensure!(told["fault"] == "late0 is missing", "{told}");
            Ok(())
        })?;
        let _pass = net.plug(&net.a, "late0", "198.18.0.13/24")?;
        caller.heard("b1", Instant::now(), EVENTUALLY)?;
        has_role(&naru, "master")
    });
}

#[test]
fn another_priority_or_interval_costs_no_call() {
    paired(|_, net, pair| {
        let begun = Instant::now();
        reloaded(&pair.a, "priority = 150", "priority = 200")?;
        until(SOON, || {
            let told = instance(&pair.b)?;
            ensure!(told["master"]["priority"] == 200, "{told}");
            Ok(())
        })?;
        // One after the other: meanwhile they differ.
        for (naru, from, to) in [
            (&pair.a, "30ms", "60ms"),
            (&pair.b, "30ms", "60ms"),
            (&pair.a, "60ms", "20ms"),
            (&pair.b, "60ms", "20ms"),
            (&pair.b, "priority = 100", "priority = 120"),
        ] {
            reloaded(naru, from, to)?;
        }
        lost_none(pair, net, begun)
    });
}

/// How long all calls were lost after another priority of `a`; when it was applied is not known that exactly.
fn waited(pair: &Pair, what: &str, from: &str, to: &str) -> Result<()> {
    let begun = Instant::now();
    reloaded(&pair.a, from, to)?;
    pair.caller.lost_for(begun, EVENTUALLY)?;
    let (_, lost) = pair.caller.since(begun);
    lost_at_most(GRACE, lost, what)
}

#[test]
fn a_lower_priority_is_an_election() {
    paired(|_, net, pair| {
        waited(pair, "though the best is the same", "priority = 150", "priority = 120")?;
        has_role(&pair.a, "master")?;
        pair.owned_by(&[&net.a])?;
        waited(pair, "for the other", "priority = 120", "priority = 50")?;
        has_role(&pair.b, "master")?;
        waited(pair, "on the way back", "priority = 50", "priority = 150")?;
        has_role(&pair.a, "master")?;
        pair.owned_by(&[&net.a, &net.b, &net.a])
    });
}

/// Of two addresses in one block the kernel takes the second off with the first.
#[test]
fn addresses_come_and_go_without_the_one_that_stays() {
    const MORE: &str = "addresses = [\"198.18.2.1/24\", \"198.18.2.2/24\", \"198.18.0.100/24\"]";
    paired(|_, net, pair| {
        let begun = Instant::now();
        let has = |wanted: &[&str]| {
            until(SOON, || {
                let shown = addresses(&net.a)?;
                for address in ["198.18.2.1/24", "198.18.2.2/24", "198.18.0.100/24"] {
                    let has = shown.split_whitespace().any(|word| word == address);
                    ensure!(has == wanted.contains(&address), "{address}: {shown}");
                }
                Ok(())
            })
        };
        let steps = [
            ("addresses = [\"198.18.0.100/24\"]", MORE),
            (MORE, "addresses = [\"198.18.2.2/24\", \"198.18.0.100/24\"]"),
            (
                "addresses = [\"198.18.2.2/24\", \"198.18.0.100/24\"]",
                "addresses = [\"198.18.0.100/24\"]",
            ),
        ];
        for (step, wanted) in steps.into_iter().zip([
            &["198.18.2.1/24", "198.18.2.2/24", "198.18.0.100/24"][..],
            &["198.18.2.2/24", "198.18.0.100/24"],
            &["198.18.0.100/24"],
        ]) {
            for naru in [&pair.a, &pair.b] {
                reloaded(naru, step.0, step.1)?;
            }
            has(wanted)?;
        }
        ensure!(!pair.a.log().contains("somebody took"), "it did not know its own doing");
        lost_none(pair, net, begun)
    });
}

/// Somebody gave two pairs on one link the same id.
#[test]
fn a_node_of_another_pair_with_our_id_is_told_of() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let other = config(&net, "b", 100).replace(&format!("{VIP}/24"), "198.18.0.200/24");
        let pair = Pair::start_with(lab, &net, &config(&net, "a", 150), &other)?;
        let told = "198.18.0.11 advertises other addresses with this id";
        until_true(EVENTUALLY, told, || Ok(pair.b.log().contains(told)))?;
        let shown = instance(&pair.b)?;
        ensure!(shown["other_addresses"].as_u64() > Some(1), "{shown}");
        ensure!(pair.b.log().matches(told).count() == 1, "told more than once");
        pair.owned_by(&[&net.a])
    });
}

#[test]
fn a_node_whose_service_is_down_hands_over_and_tells_of_it() {
    case(|lab| {
        let net = Twins::new(lab, 2)?;
        let told = lab.folder().join("roles");
        // One line for each change.
        let script = format!("cat >> {0}; echo >> {0}", told.display());
        let notify = format!("notify = [\"/bin/sh\", \"-c\", {script:?}]\n");
        let track = "track = [{ service = \"web\", weight = -60 }]\n";
        let with = |text: &str| text.replace("id = 51\n", &format!("id = 51\n{track}{notify}"));
        let pair = Pair::start_with(lab, &net, &with(&config(&net, "a", 150)), &config(&net, "b", 100))?;
        let web = service(&pair.a.status()?, "web")?.clone();
        let names = web["backends"].as_array().context("a list of backends")?;
        let names: Vec<_> = names.iter().filter_map(|one| one["name"].as_str()).collect();
        ensure!(names.len() == 2, "{web}");

        let fault = Instant::now();
        for name in &names {
            pair.a.tell(&["disable", &format!("web/{name}")])?;
        }
        lost_at_most(TRACKED, pair.caller.lost_for(fault, EVENTUALLY)?, "on the way over")?;
        has_role(&pair.b, "master")?;
        let shown = instance(&pair.a)?;
        ensure!(
            shown["priority"] == 90 && shown["configured_priority"] == 150,
            "{shown}"
        );

        let well = Instant::now();
        for name in &names {
            pair.a.tell(&["enable", &format!("web/{name}")])?;
        }
        until(EVENTUALLY, || has_role(&pair.a, "master"))?;
        lost_at_most(TRACKED, pair.caller.lost_for(well, EVENTUALLY)?, "on the way back")?;
        pair.owned_by(&[&net.a, &net.b, &net.a])?;

        let roles = [
            ("fault", "backup"),
            ("backup", "master"),
            ("master", "backup"),
            ("backup", "master"),
        ];
        until(EVENTUALLY, || {
            let text = fs::read_to_string(&told)?;
            let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            let changes = lines.iter().map(|line| (line["from"].as_str(), line["to"].as_str()));
            let expected = roles.map(|(from, to)| (Some(from), Some(to)));
            ensure!(changes.eq(expected), "{text}");
            for line in &lines {
                let main = line["instance"] == "main" && line["interface"] == "eth0" && line["id"] == 51;
                ensure!(main && line["addresses"][0] == "198.18.0.100/24", "{line}");
            }
            ensure!(lines.is_sorted_by_key(|line| line["at"].as_str()), "{text}");
            let why = lines[2]["why"].as_str().unwrap_or_default();
            ensure!(why.contains("service \"web\" is down"), "{why}");
            Ok(())
        })
    });
}
