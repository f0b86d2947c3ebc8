//! A service that has nobody up: its names are followed within `min_ttl`, and a reload that empties one says so.

use std::thread;
use std::time::Instant;

use lb_tests::lab::*;

use super::dns::{SERVER, asking_at, wait_until_served_by, web};
use super::health::PATIENCE;
use super::*;

const NAME: &str = "app.example";
/// `min_ttl` and a check, and what a busy machine may need beyond; without the rule it is 2.6 and 5 s.
const BOUND: Duration = Duration::from_millis(2500);

fn backend_state(naru: &Naru, name: &str) -> Result<String> {
    Ok(backend(&naru.status()?, "web", name)?["state"].to_string())
}

/// The name is all there is, and its record says 30 s.
#[test]
fn a_record_that_changes_long_after_the_death_is_followed_in_a_second() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let server = NameServer::start(&net.client, SERVER, false)?;
        let lead_to = |place: usize| {
            let record = Record::address(backend_address(place).ip(), 30);
            server.answer(NAME, Manner::Records(vec![record]));
        };
        lead_to(0);
        let naru = Naru::run(lab, &net.node, &asking_at(server.address(), &web(LISTEN, "\"app\"")))?;
        for (from, to, later) in [(0, 1, 4), (1, 0, 8)] {
            wait_until_served_by(&naru, &[backend_address(from)])?;
            net.backends[from].cut_off()?;
            until_true(PATIENCE, "it is up though it is cut off", || {
                Ok(backend_state(&naru, "app")?.contains("down"))
            })?;
            let asked = server.asked(NAME);
            thread::sleep(Duration::from_secs(later));
            let asked = server.asked(NAME) - asked;
            lead_to(to);
            let changed = Instant::now();
            wait_until_served_by(&naru, &[backend_address(to)])?;
            let took = changed.elapsed();
            eprintln!("changed {later} s after the death, {asked} questions meanwhile, followed after {took:?}");
            assert!(took < BOUND, "{took:?}");
            // One a second, a tenth sooner at most, and the few of the beginning.
            assert!(asked <= later * 10 / 9 + 4, "{asked} questions in {later} s");
            net.backends[from].join()?;
        }
        Ok(())
    });
}

#[test]
fn a_reload_that_leaves_nobody_is_applied_and_warns() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        net.backends[1].cut_off()?;
        until_true(PATIENCE, "b2 is up though it is cut off", || {
            Ok(backend_state(&naru, "b2")?.contains("down"))
        })?;
        let before = number(&naru.status()?["config"]["generation"]);

        naru.edit("b1 = 1", "b1 = 0")?;
        let reload = naru.cli(&["reload"])?;
        let warning = String::from_utf8_lossy(&reload.stderr).into_owned();
        assert_eq!(reload.status.code(), Some(0), "{warning}");
        for words in [
            "naru reload: warning: service \"web\": nobody is up since the new file, so new flows are refused: ",
            "b1 at 198.18.1.11:8080 is draining (weight 0); ",
            "b2 at 198.18.1.12:8080 is down (",
        ] {
            assert!(warning.contains(words), "{words:?} is not in {warning}");
        }
        let status = naru.status()?;
        assert!(number(&status["config"]["generation"]) > before, "{status}");
        assert!(naru.tell(&["events"])?.contains("nobody is up since the new file"));
        let log = naru.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains("nobody is up")).collect();
        assert!(told.len() == 1 && told[0].contains("WARN"), "{told:?}");

        naru.edit("b1 = 0", "b1 = 1")?;
        let reload = naru.cli(&["reload"])?;
        assert_eq!((reload.status.code(), reload.stderr.len()), (Some(0), 0));
        Ok(())
    });
}
