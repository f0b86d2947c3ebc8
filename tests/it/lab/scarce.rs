//! The host has no more to give: no thread can be made, no privilege is had beyond those that the docs name.

use lb_tests::lab::*;

use super::*;

/// So many that their slot tables would be worth threads of their own.
const SERVICES: u16 = 40;

fn many_services(net: &Topology) -> String {
    let services = (0..SERVICES).map(|number| {
        let backends: Vec<_> = (0..net.backends.len()).map(backend_address).collect();
        let listen = SocketAddr::new(VIP, 80 + number);
        service_at(&format!("web{number}"), "tcp", "nat", listen, &backends)
    });
    services.collect()
}

#[test]
fn without_a_thread_to_be_had_the_daemon_goes_on() {
    case(|lab| {
        let limit = FewTasks::new(lab)?;
        let net = Topology::new(lab, 2)?;
        let mut nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::run(lab, &net.node, &many_services(&net))?;
        limit.take_in(naru.process_id().context("naru runs")?)?;
        limit.allow_no_more()?;

        drop(nginx.remove(0));
        let last = format!("web{}", SERVICES - 1);
        let lost = backend_address(0).to_string();
        until(SOON * 3, || {
            let status = naru.status()?;
            ensure!(backend(&status, &last, &lost)?["state"] == "down", "{status}");
            Ok(())
        })?;
        let tally = Load::one_each(2).requests(100).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 100);
        // What an operator says is written down all the same.
        naru.tell(&["drain", &format!("web0/{}", backend_address(1))])?;
        until_true(SOON, "nothing is written", || Ok(naru.record().exists()))?;
        naru.still_runs()
    });
}

#[test]
fn a_start_without_a_thread_to_be_had_is_refused() {
    case(|lab| {
        let limit = FewTasks::new(lab)?;
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::new(lab, &net.node, &many_services(&net))?;
        let words = limit.words_before();
        let command = || naru.daemon_command_behind("sh", &words.each_ref().map(String::as_str));

        limit.allow(1)?;
        let refused = naru.run_to_end_as(command()?)?;
        assert_eq!(refused.code, Some(3), "{}", refused.log);
        for word in ["start a thread", "pids.max", "nothing is changed"] {
            assert!(refused.log.contains(word), "{word:?} is not in {}", refused.log);
        }
        assert!(!refused.log.contains("panicked"), "{}", refused.log);

        // Three are enough: two that read files at once, and one for the counters of drivers.
        limit.allow(4)?;
        let daemon = Process::spawn(&mut command()?)?;
        naru.adopt(daemon)?;
        let tally = Load::one_each(2).requests(100).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 100);
        Ok(())
    });
}

/// The slot tables of the earlier daemon are found again.
#[test]
fn the_privileges_that_the_docs_name_are_enough() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::new(lab, &net.node, &net.service("web", "tcp", 80, &[3, 1]))?;
        let only = "-all,+net_admin,+net_raw,+bpf,+perfmon";
        let arguments = [format!("--bounding-set={only}"), format!("--inh-caps={only}")];
        let arguments = arguments.each_ref().map(String::as_str);
        let start = |naru: &mut Naru| {
            let daemon = Process::spawn(&mut naru.daemon_command_behind("setpriv", &arguments)?)?;
            naru.adopt(daemon)
        };
        start(&mut naru)?;
        let transfers = Transfers::start(&net.client, LISTEN, 20)?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;
        let tables = slot_tables(&net, &naru)?;

        // Nothing is to be known of backends but what the maps say.
        naru.kill9()?;
        start(&mut naru)?;
        assert_eq!(slot_tables(&net, &naru)?, tables, "other tables than before");
        naru.tell(&["drain", "web/b1"])?;
        assert_ne!(slot_tables(&net, &naru)?, tables, "a change finds no table");

        let tally = load.stop();
        assert!(tally.errors.is_empty(), "{tally:?}");
        assert_unbroken(&transfers.finish(), 20);
        Ok(())
    });
}

/// By service, the number of its table in the kernel.
fn slot_tables(net: &Topology, naru: &Naru) -> Result<String> {
    let pin = naru.pins().join("slots").display().to_string();
    net.node.stdout("bpftool", &["-j", "map", "dump", "pinned", &pin])
}
