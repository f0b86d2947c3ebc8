//! A virtual MAC on a host that is not as it should be, or is changed: its interfaces, its settings, the file.

use std::time::Instant;

use lb_tests::lab::*;

use super::ownership::{EVENTUALLY, GRACE, Pair, addresses, config, has_role, lost_at_most};
use super::ownership_changes::{instance, reloaded};
use super::virtual_mac::{MAC_BYTES, twins, with_mac};
use super::*;

fn interfaces(node: &Namespace) -> Result<String> {
    node.stdout("ip", &["-br", "address", "show"])
}

/// Name of the interface of the IPv4 section.
fn own(node: &Namespace) -> Result<String> {
    Ok(format!("naru4-51-{:x}", node.link("eth0")?.0))
}

#[test]
fn what_a_killed_daemon_left_is_removed_at_its_next_start() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let mut naru = Naru::run(lab, &net.a, &with_mac(&net, "a", 150))?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        let own = own(&net.a)?;
        ensure!(interfaces(&net.a)?.contains(&own));
        ensure!(!addresses(&net.a)?.contains("198.18.0.100"));
        naru.kill9()?;
        ensure!(interfaces(&net.a)?.contains(&own));
        naru.save(&config(&net, "a", 150))?;
        naru.start()?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        ensure!(!interfaces(&net.a)?.contains("naru"), "{}", interfaces(&net.a)?);
        ensure!(addresses(&net.a)?.contains("198.18.0.100"));
        Ok(())
    });
}

#[test]
fn a_reload_moves_the_address_to_the_mac_and_back() {
    case(|lab| {
        let net = twins(lab, 2)?;
        let pair = Pair::start_with(lab, &net, &config(&net, "a", 150), &config(&net, "b", 100))?;
        let mac = Twins::mac(&net.a)?;
        for (from, to) in [
            ("id = 51", "id = 51\nvirtual_mac = true"),
            ("virtual_mac = true", "virtual_mac = false"),
        ] {
            let begun = Instant::now();
            for naru in [&pair.b, &pair.a] {
                reloaded(naru, from, to)?;
            }
            pair.caller.lost_for(begun, EVENTUALLY)?;
            let (_, lost) = pair.caller.since(begun);
            lost_at_most(GRACE, lost, to)?;
            has_role(&pair.a, "master")?;
        }
        let owners = pair.watch.owners();
        ensure!(owners == [mac, MAC_BYTES, mac], "{owners:02x?}");
        ensure!(!interfaces(&net.a)?.contains("naru") && !interfaces(&net.b)?.contains("naru"));
        let told = instance(&pair.a)?;
        ensure!(told.get("virtual_mac").is_none(), "{told}");
        Ok(())
    });
}

#[test]
fn what_somebody_does_to_the_interface_is_put_right() {
    case(|lab| {
        let net = twins(lab, 2)?;
        let pair = Pair::start_with(lab, &net, &with_mac(&net, "a", 150), &with_mac(&net, "b", 100))?;
        let own = own(&net.a)?;
        for deed in ["addr del 198.18.0.100/24 dev", "link set down dev", "link del dev"] {
            let fault = Instant::now();
            net.a.ip(&format!("{deed} {own}"))?;
            lost_at_most(GRACE, pair.caller.lost_for(fault, EVENTUALLY)?, deed)?;
            until(EVENTUALLY, || has_role(&pair.a, "master"))?;
            until_true(EVENTUALLY, "the address", || {
                Ok(interfaces(&net.a)?.contains("198.18.0.100"))
            })?;
        }
        Ok(())
    });
}

/// It comes later, goes, is taken by something else, and is free again.
#[test]
fn an_instance_without_a_place_for_its_mac_says_why() {
    case(|lab| {
        let net = twins(lab, 1)?;
        let _servers = net.serve(lab)?;
        net.a.ip("link set eth0 down")?;
        let text = with_mac(&net, "a", 150).replace("\"eth0\"", "\"late0\"");
        let naru = Naru::run(lab, &net.a, &text)?;
        let caller = Caller::start(&net.client, LISTEN)?;
        let fault_is = |words: &str| {
            until(EVENTUALLY, || {
                let told = instance(&naru)?;
                ensure!(
                    told["fault"].as_str().is_some_and(|fault| fault.contains(words)),
                    "{told}"
                );
                Ok(())
            })
        };
        fault_is("late0 is missing")?;
        for _ in 0..2 {
            let _pass = net.plug(&net.a, "late0", "198.18.0.13/24")?;
            net.a.sysctl("net/ipv4/conf/late0/arp_ignore", "1")?;
            caller.heard("b1", Instant::now(), EVENTUALLY)?;
            until(EVENTUALLY, || has_role(&naru, "master"))?;
            net.a.ip("link del late0")?;
            fault_is("late0 is missing")?;
        }
        let _pass = net.plug(&net.a, "late1", "198.18.0.13/24")?;
        net.a.ip(
            "link add taken type bridge\nlink set late1 master taken\nlink set late1 down\nlink set late1 name late0\n\
             link set late0 up",
        )?;
        fault_is("on late0: the interface below belongs to a bridge, a bond or the like")?;
        net.a.ip("link set late0 nomaster")?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        net.a.ip(
            "link del late0\nlink set eth0 up\nlink add late0 link eth0 type macvlan\nlink set late0 up\n\
             addr add 198.18.0.13/24 dev late0",
        )?;
        fault_is("late0 is itself a macvlan")
    });
}

#[test]
fn a_host_that_spoils_the_mac_is_told() {
    case(|lab| {
        let net = Twins::new(lab, 1)?;
        let naru = Naru::run(lab, &net.a, &with_mac(&net, "a", 150))?;
        until(EVENTUALLY, || has_role(&naru, "master"))?;
        let warnings = || -> Result<String> { Ok(naru.status()?["warnings"].to_string()) };
        let told = warnings()?;
        for words in [
            "eth0 answers by ARP for 198.18.0.100 with its own MAC, beside the virtual one; set net.ipv4.conf.eth0.arp_ignore to 1",
            "set net.ipv4.conf.eth0.arp_announce to 2",
        ] {
            ensure!(told.contains(words), "{told}");
        }
        // As it says.
        let watch = ArpWatch::start(&net.watcher, VIP)?;
        let answers = |mac: [u8; 6]| until_true(EVENTUALLY, "an answer", || Ok(watch.owners().contains(&mac)));
        answers(Twins::mac(&net.a)?)?;
        answers(MAC_BYTES)?;
        net.a.sysctl("net/ipv4/conf/eth0/arp_ignore", "1")?;
        net.a.sysctl("net/ipv4/conf/eth0/arp_announce", "2")?;
        let told = warnings()?;
        ensure!(!told.contains("MAC"), "{told}");
        drop(watch);
        let watch = ArpWatch::start(&net.watcher, VIP)?;
        until_true(EVENTUALLY, "an answer", || Ok(!watch.owners().is_empty()))?;
        ensure!(watch.owners() == [MAC_BYTES], "{:02x?}", watch.owners());
        Ok(())
    });
}
