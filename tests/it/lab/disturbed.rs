//! Somebody takes away what the daemon has in the kernel, or changes the interfaces under it.

use std::fs;

use lb_tests::lab::*;

use super::lifecycle::{assert_same, kernel_picture, links};
use super::ownership::{EVENTUALLY, addresses, config, has_role};
use super::*;

/// The daemon looks for it 20 times a second; a busy machine is slow.
const AT_ONCE: Duration = Duration::from_millis(400);

fn served(net: &Topology) -> bool {
    matches!(net.client.inside(|| get(LISTEN, "/")), Ok(Ok(_)))
}

/// While the daemon looks away.
fn take_programs_off(node: &Namespace, naru: &Naru) -> Result<()> {
    for path in links(naru)? {
        node.stdout("bpftool", &["link", "detach", "pinned", &path])?;
    }
    Ok(())
}

#[test]
fn a_program_that_somebody_took_off_is_put_back() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        until_true(SOON, "nothing is served at first", || Ok(served(&net)))?;

        naru.pause()?;
        take_programs_off(&net.node, &naru)?;
        assert!(!served(&net), "served without a program");
        naru.resume()?;
        until_true(AT_ONCE, "the program is not put back", || Ok(served(&net)))?;
        assert_eq!(naru.status()?["services"][0]["state"], "up");
        let events = naru.tell(&["events"])?;
        assert!(
            events.contains("somebody has taken the XDP program off clients"),
            "{events}"
        );
        Ok(())
    });
}

#[test]
fn a_program_of_somebody_else_in_place_of_ours_is_told() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1]))?;
        until_true(SOON, "nothing is served at first", || Ok(served(&net)))?;

        naru.pause()?;
        take_programs_off(&net.node, &naru)?;
        let mut theirs = PassProgram::load()?;
        theirs.attach(&net.node, "clients")?;
        naru.resume()?;
        until(AT_ONCE, || {
            let status = naru.status()?;
            ensure!(status["services"][0]["state"] == "down", "{status}");
            ensure!(
                status["warnings"].to_string().contains("XDP program of someone else"),
                "{status}"
            );
            Ok(())
        })?;
        let reload = naru.cli(&["reload"])?;
        assert_eq!(reload.status.code(), Some(1), "{reload:?}");

        drop(theirs);
        until_true(SOON * 2, "nothing is served when they are gone", || Ok(served(&net)))?;
        assert_eq!(naru.status()?["services"][0]["state"], "up");
        Ok(())
    });
}

#[test]
fn a_master_with_a_program_of_somebody_else_gives_the_address_up() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let _servers = net.serve(lab)?;
        let a = Naru::run(lab, &net.a, &config(&net, "a", 150))?;
        until(EVENTUALLY, || has_role(&a, "master"))?;

        a.pause()?;
        take_programs_off(&net.a, &a)?;
        let mut theirs = PassProgram::load()?;
        theirs.attach(&net.a, "eth0")?;
        a.resume()?;
        until(SOON, || has_role(&a, "fault"))?;
        let left = addresses(&net.a)?;
        assert!(!left.contains(&VIP.to_string()), "{left}");

        drop(theirs);
        until(EVENTUALLY, || has_role(&a, "master"))
    });
}

#[test]
fn pins_that_somebody_removed_are_back_within_a_second() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let mut naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let transfers = Transfers::start(&net.client, LISTEN, 30)?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;
        let picture = kernel_picture(&net, &naru)?;
        let are_back = || {
            until(SOON * 2, || {
                let picture = kernel_picture(&net, &naru)?;
                ensure!(naru.pins().join("slot_tables/1").exists(), "no slot table is pinned");
                Ok(picture)
            })
        };

        fs::remove_dir_all(naru.pin_folder())?;
        assert_same(&picture, &are_back()?);
        fs::remove_file(naru.pins().join("flows"))?;
        fs::remove_file(&links(&naru)?[0])?;
        until_true(SOON * 2, "the table of flows is not pinned again", || {
            Ok(naru.pins().join("flows").exists() && links(&naru)?.len() == 2)
        })?;
        assert_same(&picture, &are_back()?);
        let events = naru.tell(&["events"])?;
        assert!(events.contains("somebody has removed pins (flows"), "{events}");

        // The next daemon finds everything, and a second one is still kept away.
        let second = naru.run_to_end()?;
        assert_eq!(second.code, Some(3), "{}", second.log);
        naru.kill9()?;
        naru.start()?;
        assert_same(&picture, &kernel_picture(&net, &naru)?);
        let tally = load.stop();
        assert!(tally.errors.is_empty(), "{tally:?}");
        assert_unbroken(&transfers.finish(), 30);
        Ok(())
    });
}

#[test]
fn flows_outlive_the_interface_they_came_by() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let text = "[node]\ninterfaces = [\"clients\", \"servers\"]\n\n".to_owned()
            + &net.service("web", "tcp", 80, &[1, 1])
            + &net.service6("web6", "tcp", 80, &[1, 1]);
        let naru = Naru::run(lab, &net.node, &text)?;
        let transfers = [LISTEN, LISTEN6].map(|listen| Transfers::start(&net.client, listen, 15));

        // What comes for the addresses while the program is not there is answered by the host.
        let _pass = net.make_clients_again(|| {
            until_true(SOON * 2, "no program on the new interface", || {
                Ok(net.node.stdout("ip", &["link", "show", "clients"])?.contains("xdp"))
            })
        })?;
        until_true(SOON * 2, "nothing is served by the new interface", || Ok(served(&net)))?;
        for transfers in transfers {
            assert_unbroken(&transfers?.finish(), 15);
        }
        let log = naru.log();
        assert!(!log.contains("somebody"), "{log}");
        Ok(())
    });
}

#[test]
fn a_new_name_for_an_interface_disturbs_nobody() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let interfaces = "[node]\ninterfaces = [\"clients\", \"servers\"]\n\n";
        let mut naru = Naru::run(
            lab,
            &net.node,
            &(interfaces.to_owned() + &net.service("web", "tcp", 80, &[1, 1])),
        )?;
        let transfers = Transfers::start(&net.client, LISTEN, 30)?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;

        net.node
            .ip("link set clients name outside\nlink set servers name inside")?;
        until(SOON, || {
            let status = naru.status()?;
            let names: Vec<_> = status["interfaces"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|on| &on["name"])
                .collect();
            ensure!(names == ["outside", "inside"], "{status}");
            ensure!(
                status["warnings"].to_string().contains("is called \\\"inside\\\" now"),
                "{status}"
            );
            Ok(())
        })?;
        naru.edit("\"clients\", \"servers\"", "\"outside\", \"inside\"")?;
        naru.tell(&["reload"])?;
        naru.restart()?;

        let (tally, log) = (load.stop(), naru.log());
        assert!(tally.errors.is_empty(), "{tally:?}");
        assert_unbroken(&transfers.finish(), 30);
        assert!(!log.contains("somebody"), "{log}");
        Ok(())
    });
}
