//! What an operator does by hand: drain, undrain, weights, and looking into the maps.

use std::fs;

use lb_tests::lab::*;

use super::*;

#[test]
fn drain_undrain_and_weight() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 40)?;

        naru.tell(&["drain", "web/b1"])?;
        assert_eq!(backend(&naru.status()?, "web", "b1")?["state"], "draining");
        let tally = Load::one_each(4).requests(500).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 500);
        assert_eq!(tally.by_backend.get("b2"), Some(&500), "{tally:?}");
        assert_eq!(transfers.running(), 40);

        naru.tell(&["undrain", "web/b1"])?;
        naru.tell(&["weight", "web/b1", "3"])?;
        let status = naru.status()?;
        assert_eq!(backend(&status, "web", "b1")?["state"], "up");
        assert_eq!(backend(&status, "web", "b1")?["effective_weight"], 3);
        let tally = Load::one_each(4).requests(4000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 4000);
        assert_shares(&tally, &[("b1", 3), ("b2", 1)], 4.0);

        let wrong = naru.cli(&["drain", "web/b9"])?;
        assert!(!wrong.status.success());
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("b9"), "{wrong:?}");

        let flows: Value = serde_json::from_str(&naru.tell(&["flows", "--backend", "b1", "--json"])?)?;
        let text = flows.to_string();
        assert!(text.contains("198.18.0.2") && text.contains("198.18.1.11"), "{text}");

        let outcome = transfers.finish();
        assert_unbroken(&outcome, 40);
        Ok(())
    });
}

#[test]
fn what_an_operator_said_holds_after_a_crash_until_the_file_changes() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1, 1]))?;
        naru.tell(&["disable", "web/b1"])?;
        naru.tell(&["weight", "web/b2", "3"])?;
        let said = naru.status()?["overrides"].clone();
        naru.kill9()?;
        naru.start()?;

        let status = naru.status()?;
        assert_eq!(status["overrides"], said);
        assert_eq!(said.as_array().map(Vec::len), Some(2), "{said}");
        assert_eq!(backend(&status, "web", "b1")?["state"], "disabled");
        assert_eq!(backend(&status, "web", "b2")?["effective_weight"], 3);
        let tally = Load::one_each(4).requests(4000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 4000);
        assert_shares(&tally, &[("b1", 0), ("b2", 3), ("b3", 1)], 4.0);
        let explained = naru.tell(&["explain", "web/b2"])?;
        assert!(explained.contains("override weight 3 by root since 20"), "{explained}");

        // The newer word, although no daemon saw it come.
        naru.kill9()?;
        naru.edit("b2 = 1", "b2 = 2")?;
        naru.start()?;
        let status = naru.status()?;
        assert_eq!(backend(&status, "web", "b1")?["state"], "disabled");
        assert_eq!(backend(&status, "web", "b2")?["effective_weight"], 2);
        let events = naru.tell(&["events"])?;
        assert!(
            events.contains("web/b2: weight 3 by root") && events.contains("has ended"),
            "{events}"
        );

        // What cannot be read stops no start.
        naru.kill9()?;
        fs::write(naru.record(), "{ \"format\": 1,")?;
        naru.start()?;
        let status = naru.status()?;
        assert_eq!(backend(&status, "web", "b1")?["state"], "up");
        assert!(status["warnings"].to_string().contains("it is damaged"), "{status}");
        assert!(naru.log().contains("overrides.json.damaged"));

        // Nobody has said anything since: what was lost is still lost.
        naru.restart()?;
        let warnings = naru.status()?["warnings"].to_string();
        assert!(warnings.contains("it is set aside as "), "{warnings}");

        // Nor does a folder that cannot be; what is said holds for now, and the answer tells.
        naru.kill9()?;
        naru.edit("[node]\n", "[node]\nstate_dir = \"/dev/null/naru\"\n")?;
        naru.start()?;
        let answer = naru.tell(&["drain", "web/b1"])?;
        assert!(
            answer.contains("web/b1 is draining") && answer.contains("will not hold after a restart"),
            "{answer}"
        );
        assert!(
            naru.status()?["warnings"]
                .to_string()
                .contains("cannot write /dev/null/naru/overrides.json")
        );
        Ok(())
    });
}

#[test]
fn a_log_for_debugging_tells_of_each_refused_flow() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let text = net.service("web", "tcp", 80, &[1]) + &net.service6("web6", "tcp", 80, &[1]);
        let mut naru = Naru::new(lab, &net.node, &text)?;
        naru.adopt(Process::spawn(naru.daemon_command()?.env("NARU_LOG", "debug"))?)?;
        for backend in ["web/b1", "web6/b1-6"] {
            naru.tell(&["drain", backend])?;
        }
        for (listen, from) in [(LISTEN, "198.18.0.2"), (LISTEN6, "2001:db8::2")] {
            let refused = net.client.inside(|| Connection::open(listen))?;
            assert!(refused.is_err(), "{listen} has nobody to serve it");
            until_true(SOON, "the refusal is not in the log", || {
                let log = naru.log();
                let told = |line: &str| line.contains("no_backend") && line.contains(from);
                Ok(log.lines().any(told))
            })?;
        }
        Ok(())
    });
}

#[test]
fn bpftool_prints_names() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let text = net.service("web", "tcp", 80, &[1]) + "\n[node]\nmax_flows = 1024\n";
        let naru = Naru::run(lab, &net.node, &text)?;
        assert_clean(&Load::one_each(1).requests(10).start(&net.client, LISTEN)?.finish(), 10);

        let net_line = net.node.stdout("bpftool", &["net"])?;
        let interface = net_line
            .lines()
            .find(|line| line.starts_with("clients("))
            .context("no XDP on clients")?;
        let program = interface.split_whitespace().last().context("no program id")?.to_owned();
        let shown = net.node.stdout("bpftool", &["prog", "show", "id", &program])?;
        assert!(shown.contains("name naru"), "{shown}");

        let mut maps = 0;
        for pin in fs::read_dir(naru.pins())? {
            let pin = pin?.path();
            let path = pin.display().to_string();
            let Ok(shown) = net.node.stdout("bpftool", &["map", "show", "pinned", &path]) else {
                continue;
            };
            // The kernel keeps no type information for maps of maps: they show the numbers of the inner ones.
            if shown.contains("_of_maps") {
                continue;
            }
            maps += 1;
            let dump = net.node.stdout("bpftool", &["map", "dump", "pinned", &path])?;
            // Without type information it prints hexadecimal bytes.
            assert!(dump.starts_with('['), "{path}:\n{}", head(&dump));
        }
        assert!(maps >= 5, "{maps} maps");
        for (map, field) in [
            ("backends", "fingerprint"),
            ("services", "port"),
            ("flows", "rewrite"),
            ("flows6", "rewrite"),
        ] {
            let path = naru.pins().join(map).display().to_string();
            let dump = net.node.stdout("bpftool", &["map", "dump", "pinned", &path])?;
            assert!(dump.contains(&format!("\"{field}\":")), "{map}:\n{}", head(&dump));
        }
        Ok(())
    });
}

fn head(text: &str) -> String {
    text.lines().take(20).collect::<Vec<_>>().join("\n")
}
