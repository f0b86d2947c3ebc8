//! The daemon dies, comes back, is started twice: the kernel goes on forwarding all the while.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use lb_tests::lab::*;

use super::*;

#[test]
fn a_killed_daemon_is_not_missed() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 50)?;
        let kept = Load::keep_alive(4).start(&net.client, LISTEN)?;
        let single = Load::one_each(2).start(&net.client, LISTEN)?;
        let going_on = || {
            let (kept_before, single_before) = (kept.tally().answers(), single.tally().answers());
            until(Duration::from_secs(3), || {
                ensure!(
                    kept.tally().answers() > kept_before + 300,
                    "kept connections stand still"
                );
                ensure!(
                    single.tally().answers() > single_before + 300,
                    "new connections stand still"
                );
                Ok(())
            })
        };
        going_on()?;
        let before = naru.status()?;
        let picture = kernel_picture(&net, &naru)?;

        naru.kill9()?;
        going_on()?;
        naru.start()?;
        going_on()?;

        assert_same(&picture, &kernel_picture(&net, &naru)?);
        let after = naru.status()?;
        for name in ["b1", "b2"] {
            for counter in ["new_flows", "packets", "bytes"] {
                let of = |status| Ok::<_, anyhow::Error>(number(&backend(status, "web", name)?[counter]));
                assert!(
                    of(&after)? > of(&before)?,
                    "{name} {counter}: {} then {}",
                    of(&before)?,
                    of(&after)?
                );
            }
        }
        assert!(number(&after["flows"]["active"]) >= 50, "{after}");
        // An orderly end is no reason to stop, either.
        naru.restart()?;
        going_on()?;
        assert_same(&picture, &kernel_picture(&net, &naru)?);

        let (kept, single) = (kept.stop(), single.stop());
        assert!(
            kept.errors.is_empty() && single.errors.is_empty(),
            "{kept:?} {single:?}"
        );
        let outcome = transfers.finish();
        assert_unbroken(&outcome, 50);
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_the_same_pins_is_refused() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let text = net.service("web", "tcp", 80, &[1]);
        let mut naru = Naru::run(lab, &net.node, &text)?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;

        // Its own run folder, so that only the pins are in its way.
        let second = lab.folder().join("second.toml");
        let run_folder = lab.folder().join("second");
        fs::write(
            &second,
            format!(
                "{text}\n[node]\nrun_dir = {run_folder:?}\npin_dir = {:?}\n",
                naru.pin_folder()
            ),
        )?;
        let refused = naru.cli(&["run", "--config", &second.display().to_string()])?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{said}");
        assert!(said.contains(&naru.pin_folder().display().to_string()), "{said}");

        naru.still_runs()?;
        assert_eq!(naru.status()?["services"].as_array().map(Vec::len), Some(1));
        let answers = load.tally().answers();
        until_true(SOON, "traffic stands still", || {
            Ok(load.tally().answers() > answers + 100)
        })?;
        let tally = load.stop();
        assert!(tally.errors.is_empty(), "{tally:?}");
        Ok(())
    });
}

/// As after an update: what runs was started by a naru whose maps look otherwise.
#[test]
fn pins_of_another_layout_are_refused_and_serve_on() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 10)?;
        naru.stop()?;
        let other = naru.pin_folder().join("v1");
        fs::rename(naru.pins(), &other)?;

        let refused = naru.run_to_end()?;
        assert_eq!(refused.code, Some(3), "{}", refused.log);
        let folder = other.display().to_string();
        for word in ["another layout", "goes on", &format!("rm -r {folder}")] {
            assert!(refused.log.contains(word), "{word:?} is not in {}", refused.log);
        }
        assert!(!naru.pins().exists(), "the refused start left its folder");
        assert_unbroken(&transfers.finish(), 10);

        fs::remove_dir_all(&other)?;
        naru.start()?;
        until_true(SOON, "the new layout does not serve", || {
            Ok(matches!(net.client.inside(|| get(LISTEN, "/")), Ok(Ok(_))))
        })
    });
}

#[test]
fn a_program_that_cannot_be_loaded_leaves_the_older_one() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 10)?;
        naru.stop()?;
        let before = programs_of_links(&net, &naru)?;
        // The kernel has no such map for this program.
        let pin = naru.pins().join("verdicts");
        let kept = naru.pins().join("kept");
        fs::rename(&pin, &kept)?;
        let path = pin.display().to_string();
        let make = "map create PATH type array key 4 value 4 entries 1 name VERDICTS".replace("PATH", &path);
        net.node.stdout("bpftool", &Vec::from_iter(make.split(' ')))?;

        let refused = naru.run_to_end()?;
        assert_eq!(refused.code, Some(3), "{}", refused.log);
        assert!(refused.log.contains(&path), "{}", refused.log);
        assert_eq!(programs_of_links(&net, &naru)?, before);

        fs::rename(&kept, &pin)?;
        naru.start()?;
        assert_unbroken(&transfers.finish(), 10);
        Ok(())
    });
}

fn programs_of_links(net: &Topology, naru: &Naru) -> Result<Vec<u64>> {
    let program = |link: &String| {
        let shown = net.node.stdout("bpftool", &["-j", "link", "show", "pinned", link])?;
        Ok(number(&serde_json::from_str::<Value>(&shown)?["prog_id"]))
    };
    links(naru)?.iter().map(program).collect()
}

#[track_caller]
pub(super) fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let names = before.keys().chain(after.keys());
    let changed: BTreeSet<&String> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

/// What must be the same after a restart: the pinned maps and links by their numbers, and the numbers of backends and
/// services in them. The program may be a newer one, and with it its stages.
pub(super) fn kernel_picture(net: &Topology, naru: &Naru) -> Result<BTreeMap<String, String>> {
    let mut picture = BTreeMap::new();
    for pin in fs::read_dir(naru.pins())? {
        let pin = pin?;
        let name = pin.file_name().to_string_lossy().into_owned();
        if pin.file_type()?.is_dir() {
            continue;
        }
        let path = pin.path().display().to_string();
        let bpftool = |kind, what| net.node.stdout("bpftool", &["-j", kind, what, "pinned", &path]);
        let shown: Value = serde_json::from_str(&bpftool("map", "show").or_else(|_| bpftool("link", "show"))?)?;
        if name != "stages" {
            picture.insert(format!("{name} id"), shown["id"].to_string());
        }
        if ["backends", "services"].contains(&name.as_str()) {
            picture.insert(name, bpftool("map", "dump")?);
        }
    }
    ensure!(picture.len() >= 10, "too few pins: {:?}", picture.keys());
    Ok(picture)
}

pub(super) fn links(naru: &Naru) -> Result<Vec<String>> {
    let pins = fs::read_dir(naru.pins())?;
    let paths = pins.map(|pin| Ok(pin?.path().display().to_string()));
    let paths: Vec<String> = paths.collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.contains("/link-")).collect())
}
