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
