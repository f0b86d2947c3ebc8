//! What is no reason to take a backend out: packets that are lost now and then, and a node that hears nobody.

use std::time::Instant;

use lb_tests::lab::*;

use super::*;

const CHECKS: &str = "[check.page]\ntype = \"http\"\npath = \"/\"\nhost = \"lab\"\n\n\
    [service.pages]\nlisten = \"198.18.0.100:81\"\nbackends = [\"b2\", \"b1\"]\ncheck = \"page\"\n";

/// Both services up, on both backends.
fn serve<'lab>(lab: &Lab, net: &'lab Topology) -> Result<Naru<'lab>> {
    let naru = Naru::run(lab, &net.node, &(net.service("web", "tcp", 80, &[1, 1]) + CHECKS))?;
    until(Duration::from_secs(10), || all_up(&naru))?;
    Ok(naru)
}

fn all_up(naru: &Naru) -> Result<()> {
    let status = naru.status()?;
    for (service, name) in [("web", "b1"), ("web", "b2"), ("pages", "b1"), ("pages", "b2")] {
        let found = backend(&status, service, name)?;
        ensure!(found["state"] == "up", "{found}");
    }
    Ok(())
}

/// How often any backend has changed its state, or what is said about it.
fn changes(naru: &Naru) -> Result<usize> {
    let events: Value = serde_json::from_str(&naru.tell(&["events", "--json"])?)?;
    let events = events.as_array().context("a list of events")?;
    Ok(events.iter().filter(|event| !event["to"].is_null()).count())
}

fn watch(naru: &Naru, how_long: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < how_long {
        all_up(naru)?;
    }
    Ok(())
}

/// At 5 checks a second and 1 % each way, three in a row are lost once in two days or so.
#[test]
fn lost_packets_take_no_backend_out() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let naru = serve(lab, &net)?;
        let before = changes(&naru)?;
        net.node.lose(1)?;
        net.backends.iter().try_for_each(|backend| backend.lose(1))?;
        watch(&naru, sized(Duration::from_secs(10), Duration::from_secs(600)))?;
        let lost = net.backends.iter().map(Namespace::lost).sum::<Result<u64>>()?;
        note(&format!("{lost} packets were lost on their way to the backends"));
        assert!(lost > 0);
        assert_eq!(changes(&naru)?, before);
        Ok(())
    });
}

/// Each time for long enough to be sure of a backend, were it one that is silent.
#[test]
fn a_node_that_is_cut_off_again_and_again_changes_no_state() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let naru = serve(lab, &net)?;
        let before = changes(&naru)?;
        for _ in 0..sized(3, 30) {
            net.cut_node_off()?;
            until_true(Duration::from_secs(10), "it suspects nobody", || suspects(&naru))?;
            watch(&naru, SOON)?;
            net.join_node()?;
            until_true(Duration::from_secs(10), "it goes on suspecting", || {
                Ok(!suspects(&naru)?)
            })?;
            watch(&naru, SOON)?;
        }
        assert_eq!(changes(&naru)?, before);
        let tally = Load::one_each(4).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);
        Ok(())
    });
}

fn suspects(naru: &Naru) -> Result<bool> {
    Ok(naru.status()?["warnings"].to_string().contains("suspects itself"))
}
