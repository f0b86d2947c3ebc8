//! Weights that follow real load: a rack beside a cloud, 40 to 60, until the rack has too much.

use lb_tests::lab::*;

use super::*;

/// Above a hundred new connections a second on the rack. Short periods, so that a case need not last minutes.
fn alarm(clear_after: &str) -> String {
    format!(
        "\n[alarm.rack-overload]\nservice = \"web\"\nbackend = \"rack\"\nmetric = \"new_flows\"\nabove = 100\n\
         period = \"1s\"\ndatapoints = \"2 of 3\"\nweights = {{ rack = 0, cloud = 100 }}\n\
         clear_after = \"{clear_after}\"\nramp = \"2s\"\n"
    )
}

#[test]
fn a_hybrid_service_shifts_its_new_connections_while_the_rack_has_too_many() {
    case(|lab| {
        let net = Topology::with_backends(lab, &["rack", "cloud"])?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let text = net.service("web", "tcp", 80, &[40, 60]);
        let naru = Naru::run(lab, &net.node, &text)?;
        let transfers = Transfers::start(&net.client, LISTEN, 40)?;
        let tally = Load::one_each(8).requests(10_000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 10_000);
        assert_shares(&tally, &[("rack", 40), ("cloud", 60)], 2.0);

        let clear_after = Duration::from_secs(sized(3, 30));
        let before = generation(&naru)?;
        naru.save(&(text + &alarm(&format!("{}s", clear_after.as_secs()))))?;
        applied_after(&naru, before)?;
        let load = Load::one_each(8).start(&net.client, LISTEN)?;
        until_state(&naru, "ringing", Duration::from_secs(10))?;

        // All at once: of what begins now nothing reaches the rack.
        let tally = Load::one_each(4).requests(1000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 1000);
        assert_eq!(tally.by_backend.get("cloud"), Some(&1000), "{tally:?}");
        assert_eq!(backend(&naru.status()?, "web", "rack")?["state"], "standby");
        assert_eq!(transfers.running(), 40, "what was there goes on");
        let tally = load.stop();
        assert!(tally.errors.is_empty(), "{tally:?}");

        // Back in steps: on the way the rack has some, and not yet all.
        let weight =
            |status: &Value| Ok::<_, anyhow::Error>(number(&backend(status, "web", "rack")?["effective_weight"]));
        let status = until_state(&naru, "returning", clear_after + Duration::from_secs(10))?;
        assert!((1..40).contains(&weight(&status)?), "{status}");
        let status = until_state(&naru, "quiet", Duration::from_secs(10))?;
        assert_eq!(weight(&status)?, 40);
        let tally = Load::one_each(1).requests(40).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 40);
        assert!(tally.by_backend.contains_key("rack"), "{tally:?}");

        let events = naru.tell(&["events"])?;
        for what in [
            "rings: new_flows of web/rack above 100/s",
            "is over after",
            "is quiet again",
        ] {
            assert_eq!(events.matches(what).count(), 1, "{what}: {events}");
        }
        assert!(naru.log().contains("rings: new_flows of web/rack"));
        assert_unbroken(&transfers.finish(), 40);
        Ok(())
    });
}

/// The status in which it is in this state.
fn until_state(naru: &Naru, state: &str, patience: Duration) -> Result<Value> {
    until(patience, || {
        let status = naru.status()?;
        let alarm = named(&status["alarms"], "rack-overload")?;
        ensure!(alarm["state"] == state, "not {state}: {alarm}");
        Ok(status)
    })
}
