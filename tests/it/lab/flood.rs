//! A SYN flood costs the connections that there are nothing, and new ones next to nothing.

use lb_tests::lab::*;

use super::*;

#[test]
fn a_syn_flood_breaks_nothing() {
    case(|lab| {
        let (seconds, transfers) = sized((3, 200), (10, 1000));
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let established = Transfers::start(&net.client, LISTEN, transfers)?;

        let duration = Duration::from_secs(seconds);
        let flood = SynFlood::start(&net, LISTEN, duration)?;
        let load = Load::one_each(4).start(&net.client, LISTEN)?;
        until_true(duration * 2, "the flood does not end", || Ok(flood.is_over()))?;
        let sent = flood.finish()?;
        let new = load.stop();
        let failed: u64 = new.errors.values().sum();
        // Where the load balancer does not keep up its card's queue is full, and the rest is lost before it.
        let status = naru.status()?;
        let opened = |name| Ok::<_, anyhow::Error>(number(&backend(&status, "web", name)?["new_flows"]));
        let opened = opened("b1")? + opened("b2")? - new.answers();
        assert!(opened > 10_000, "{opened} flows of {sent} SYNs");
        assert!(
            new.answers() > 100 && failed * 100 < new.answers(),
            "{sent} SYNs, {new:?}"
        );

        assert_eq!(established.running(), transfers);
        assert_unbroken(&established.finish(), transfers);
        Ok(())
    });
}

/// One that leaves the node's own checks no room. What carries data is not reset for that.
#[test]
fn a_syn_flood_that_costs_the_node_its_checks_resets_nothing() {
    case(|lab| {
        let (seconds, transfers) = sized((5, 100), (20, 100));
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let service = net.service("web", "tcp", 80, &[1, 1]);
        let naru = Naru::run(
            lab,
            &net.node,
            &service.replacen("protocol", "on_down = \"reset\"\nprotocol", 1),
        )?;
        let established = Transfers::start(&net.client, LISTEN, transfers)?;

        let duration = Duration::from_secs(seconds);
        let flood = SynFlood::start(&net, LISTEN, duration)?;
        net.node.cut_off()?;
        until_true(duration * 2, "the flood does not end", || Ok(flood.is_over()))?;
        net.node.join()?;
        note(&format!("{} SYNs; {}", flood.finish()?, naru.tell(&["events"])?));
        let events: Value = serde_json::from_str(&naru.tell(&["events", "--json"])?)?;
        let events = events.as_array().context("a list of events")?;
        assert!(events.iter().all(|event| event["to"] != "down"), "{events:?}");
        assert_eq!(established.running(), transfers);
        assert_unbroken(&established.finish(), transfers);
        Ok(())
    });
}
