//! Saving another configuration: applied within a second, without breaking a connection, or refused as a whole.

use std::collections::BTreeSet;
use std::fs;

use lb_tests::lab::*;

use super::*;

const TRANSFERS: usize = 200;

#[test]
fn new_weights_are_applied_at_once_and_break_no_transfer() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 2, 3]))?;
        let transfers = Transfers::start(&net.client, LISTEN, TRANSFERS)?;

        for (from, to) in [
            ("b1 = 1, b2 = 2, b3 = 3", "b1 = 3, b2 = 2, b3 = 1"),
            ("b1 = 3", "b1 = 0"),
        ] {
            let before = generation(&naru)?;
            naru.edit(from, to)?;
            applied_after(&naru, before)?;
        }
        let status = naru.status()?;
        let weight = |name| Ok::<_, anyhow::Error>(number(&backend(&status, "web", name)?["effective_weight"]));
        assert_eq!((weight("b1")?, weight("b2")?, weight("b3")?), (0, 2, 1));
        let tally = Load::one_each(8).requests(3000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 3000);
        assert_shares(&tally, &[("b1", 0), ("b2", 2), ("b3", 1)], 4.0);

        assert_eq!(transfers.running(), TRANSFERS);
        let outcome = transfers.finish();
        assert_unbroken(&outcome, TRANSFERS);
        Ok(())
    });
}

#[test]
fn a_removed_backend_finishes_what_it_has() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1, 1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 60)?;
        let on_b3 = number(&backend(&naru.status()?, "web", "b3")?["new_flows"]);
        assert!(on_b3 > 0, "no transfer went to b3");

        let before = generation(&naru)?;
        naru.save(
            &net.service("web", "tcp", 80, &[1, 1, 1])
                .replace(", \"b3\"]", "]")
                .replace(", b3 = 1", ""),
        )?;
        applied_after(&naru, before)?;
        let tally = Load::one_each(4).requests(1000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 1000);
        assert_eq!(tally.by_backend.keys().collect::<Vec<_>>(), ["b1", "b2"]);

        assert_eq!(transfers.running(), 60);
        let outcome = transfers.finish();
        assert_unbroken(&outcome, 60);
        assert_eq!(outcome.complete["b3"] as u64, on_b3, "{outcome:?}");
        until_true(Duration::from_secs(5), "b3 is still shown", || {
            Ok(backend(&naru.status()?, "web", "b3").is_err())
        })?;
        Ok(())
    });
}

#[test]
fn reloads_cost_nobody_an_error_and_leave_nothing() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let all = net.service("web", "tcp", 80, &[1, 2, 3]);
        let two = all.replace(", \"b3\"]", "]").replace(", b3 = 3", "");
        let naru = Naru::run(lab, &net.node, &all)?;
        let transfers = Transfers::start(&net.client, LISTEN, 30)?;
        let single = Load::one_each(2).start(&net.client, LISTEN)?;
        let kept = Load::keep_alive(2).start(&net.client, LISTEN)?;

        // What is made once and kept is there after the first two.
        let mut held = None;
        for (number, text) in [&two, &all].into_iter().cycle().take(sized(50, 1000)).enumerate() {
            let before = generation(&naru)?;
            // In place, so that the watcher may meet a file without its end.
            naru.save(text)?;
            naru.tell(&["reload"])?;
            assert!(generation(&naru)? > before, "naru reload does not wait");
            if number == 1 {
                held = Some(Held::by(&net, &naru)?);
            }
        }
        until(SOON, || {
            let (before, now) = (held.as_ref().context("too few reloads")?, Held::by(&net, &naru)?);
            ensure!(now.is_no_more_than(before), "held {before:?} at first, {now:?} at last");
            Ok(())
        })?;
        let (single, kept) = (single.stop(), kept.stop());
        assert!(
            single.errors.is_empty() && kept.errors.is_empty(),
            "{single:?} {kept:?}"
        );
        assert_eq!(single.by_backend.len(), 3, "{single:?}");
        let outcome = transfers.finish();
        assert_unbroken(&outcome, 30);
        Ok(())
    });
}

/// All that keeps a map or a program in the kernel: the daemon's open files, the pins, and maps of maps and programs.
#[derive(Debug)]
struct Held {
    files: usize,
    pins: BTreeSet<String>,
    slot_tables: usize,
    stages: usize,
}

impl Held {
    /// A call that was just being answered may have been an open file before.
    fn is_no_more_than(&self, before: &Self) -> bool {
        let others = |held: &Self| (held.pins.clone(), held.slot_tables, held.stages);
        self.files <= before.files && others(self) == others(before)
    }

    fn by(net: &Topology, naru: &Naru) -> Result<Self> {
        let id = naru.process_id().context("naru does not run")?;
        let pins = fs::read_dir(naru.pins())?.map(|pin| Ok(pin?.file_name().to_string_lossy().into_owned()));
        let elements = |name: &str| -> Result<usize> {
            let pin = naru.pins().join(name).display().to_string();
            let dump = net.node.stdout("bpftool", &["-j", "map", "dump", "pinned", &pin])?;
            Ok(serde_json::from_str::<Vec<Value>>(&dump)?.len())
        };
        Ok(Self {
            files: fs::read_dir(format!("/proc/{id}/fd"))?.count(),
            pins: pins.collect::<Result<_>>()?,
            slot_tables: elements("slots")?,
            stages: elements("stages")?,
        })
    }
}

/// What is not known yet of the new backend is found out while the old one serves.
#[test]
fn a_backend_in_place_of_the_only_one_costs_nobody_an_error() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let only = |index| service_at("web", "tcp", "nat", LISTEN, &[backend_address(index)]);
        let naru = Naru::run(lab, &net.node, &only(0))?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;

        naru.save(&only(1))?;
        naru.tell(&["reload"])?;
        until_true(SOON, "the new backend does not serve", || {
            Ok(load.tally().by_backend.contains_key("b2"))
        })?;
        let tally = load.stop();
        assert_clean(&tally, tally.answers());
        Ok(())
    });
}

#[test]
fn a_service_that_moves_to_another_port_keeps_its_flows() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 30)?;

        naru.edit("198.18.0.100:80", "198.18.0.100:81")?;
        naru.tell(&["reload"])?;
        let moved = Load::one_each(2)
            .requests(200)
            .start(&net.client, SocketAddr::new(VIP, 81))?
            .finish();
        assert_clean(&moved, 200);
        let refused = net.client.inside(|| get(LISTEN, "/"))?;
        assert!(
            refused.is_err_and(|error| format!("{error:#}").contains("refused")),
            "who serves the old port?"
        );

        assert_eq!(transfers.running(), 30);
        let outcome = transfers.finish();
        assert_unbroken(&outcome, 30);
        Ok(())
    });
}

const FIVE_MISTAKES: &str = r#"[service.web]
listen = "198.18.0.100:80"
protocl = "tcp"
backends = ["b1", "b4"]
weights = { b1 = -1 }
idle_timeout = "60"

[backend.b1]
address = "198.18.1.11"
"#;

#[test]
fn a_file_with_five_mistakes_changes_nothing() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        let load = Load::keep_alive(4).start(&net.client, LISTEN)?;
        let before = naru.status()?;

        naru.save(FIVE_MISTAKES)?;
        let path = naru.config_path().display().to_string();
        let check = naru.cli(&["check", &path])?;
        let said = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
        assert_eq!(check.status.code(), Some(1), "{said}");
        let mut places: Vec<_> = said.lines().filter_map(|line| place(line, &path)).collect();
        places.sort();
        assert_eq!(places, [(3, 1), (4, 19), (5, 18), (6, 16), (9, 11)], "{said}");
        for hint in ["did you mean `protocol`", "\"b4\"", "write \"60s\"", "no port"] {
            assert!(said.contains(hint), "{hint} in {said}");
        }

        let told = until(SOON, || {
            let status = naru.status()?;
            ensure!(
                status["config"]["error"].is_string(),
                "status does not tell: {}",
                status["config"]
            );
            Ok(status)
        })?;
        assert!(told["config"]["error"].to_string().contains("naru.toml:"), "{told}");
        assert_eq!(told["config"]["generation"], before["config"]["generation"]);
        let human = naru.tell(&["status"])?;
        assert!(
            human.lines().take(3).any(|line| line.contains("naru.toml")),
            "verdict first: {human}"
        );
        assert_eq!(naru.cli(&["reload"])?.status.code(), Some(1));
        let answers = load.tally().answers();
        until_true(SOON, "traffic stands still", || {
            Ok(load.tally().answers() > answers + 100)
        })?;
        assert!(load.stop().errors.is_empty());

        naru.save(&net.service("web", "tcp", 80, &[2]))?;
        applied_after(&naru, generation_of(&before))?;
        assert!(naru.status()?["config"]["error"].is_null());
        Ok(())
    });
}

/// `PATH:LINE:COLUMN …` at the beginning of a line.
fn place(line: &str, path: &str) -> Option<(u32, u32)> {
    let mut numbers = line
        .trim_start()
        .strip_prefix(path)?
        .strip_prefix(':')?
        .split([':', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn generation_of(status: &Value) -> u64 {
    number(&status["config"]["generation"])
}
