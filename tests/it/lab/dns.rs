//! Backends that have names, with a real name server whose zone an administrator changes.
//!
//! The promise is the life of the record and 0.2 s; the bounds here are for a busy machine, and what it took is printed.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Instant, SystemTime};

use lb_tests::lab::*;

use super::health::{PATIENCE, took};
use super::*;

/// Where the name server is: beside the client.
pub const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 2));
/// The life of the records, and what a busy machine may need beyond.
const BOUND: Duration = Duration::from_secs(3);

/// `app.example` is these backends, in both families.
fn app(places: &[usize]) -> String {
    let record = |place: &usize| {
        let (ipv4, ipv6) = (backend_address(*place).ip(), backend_address6(*place).ip());
        format!("app 1 A {ipv4}\napp 1 AAAA {ipv6}\n")
    };
    places.iter().map(record).collect()
}

pub fn web(listen: SocketAddr, backends: &str) -> String {
    format!(
        "[service.web]\nlisten = \"{listen}\"\nbackends = [{backends}]\n[backend.app]\nhost = \"app.example:8080\"\n"
    )
}

fn asking(server: &Knot<'_>, services: &str) -> String {
    asking_at(server.address(), services)
}

pub fn asking_at(server: SocketAddr, services: &str) -> String {
    format!("[dns]\nservers = [\"{server}\"]\n{services}")
}

/// Clients were served by all of these, one after another. A busy machine takes a while to check a new one.
pub fn assert_served_by(caller: &Caller, backends: &[Namespace], since: Instant) -> Result<()> {
    for backend in backends {
        caller.heard(backend.role(), since, PATIENCE)?;
    }
    let (answered, lost) = caller.since(since);
    assert!(lost < 2 * SOON, "{answered:?}, and nobody for {lost:?}");
    Ok(())
}

/// The addresses of `web/app` that take new flows.
pub fn serving(naru: &Naru) -> Result<Vec<String>> {
    let status = naru.status()?;
    let backends = service(&status, "web")?["backends"].as_array().context("a list")?;
    let up = backends
        .iter()
        .filter(|one| one["name"] == "app" && one["state"] == "up");
    let mut addresses: Vec<String> = up.filter_map(|one| Some(one["address"].as_str()?.to_owned())).collect();
    addresses.sort();
    Ok(addresses)
}

pub fn wait_until_served_by(naru: &Naru, addresses: &[SocketAddr]) -> Result<()> {
    let mut wanted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    wanted.sort();
    until(PATIENCE, || {
        let serving = serving(naru)?;
        ensure!(serving == wanted, "{serving:?} serve, not {wanted:?}");
        Ok(())
    })
}

#[test]
fn a_name_moves_when_its_record_ends_and_breaks_nothing() {
    for (listen, address) in [
        (LISTEN, backend_address as fn(usize) -> SocketAddr),
        (LISTEN6, backend_address6),
    ] {
        case(|lab| {
            let net = Topology::new(lab, 2)?;
            let _nginx = Nginx::on_each(lab, &net)?;
            let mut names = Knot::start(lab, &net.client, SERVER, &app(&[0]))?;
            let naru = Naru::run(lab, &net.node, &asking(&names, &web(listen, "\"app\"")))?;
            wait_until_served_by(&naru, &[address(0)])?;
            let transfers = Transfers::start(&net.client, listen, 20)?;
            let load = Load::one_each(2).start(&net.client, listen)?;
            for place in [1, 0, 1] {
                let changed = SystemTime::now();
                names.serve(&app(&[place]))?;
                let took = took(&naru, "app", "draining", changed)?;
                eprintln!("from the change of the record until its old address drained: {took:?}");
                assert!(took < BOUND, "{took:?}");
                wait_until_served_by(&naru, &[address(place)])?;
                let tally = Load::one_each(2).requests(200).start(&net.client, listen)?.finish();
                assert_clean(&tally, 200);
                assert_eq!(
                    tally.by_backend.get(&format!("b{}", place + 1)),
                    Some(&200),
                    "{tally:?}"
                );
            }
            let tally = load.stop();
            assert_eq!(tally.errors.len(), 0, "{tally:?}");
            assert_eq!(transfers.running(), 20);
            assert_unbroken(&transfers.finish(), 20);
            Ok(())
        });
    }
}

#[test]
fn a_name_server_that_is_away_takes_nothing_away() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let services = web(LISTEN, &format!("\"app\", \"{}\"", backend_address(2)));
        let services = format!("[dns]\nservers = [\"{SERVER}:53\"]\n{services}");
        let naru = Naru::run(lab, &net.node, &services)?;
        assert_eq!(backend(&naru.status()?, "web", "app")?["state"], "unresolved");
        let tally = Load::one_each(2).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);
        assert_eq!(tally.by_backend.get("b3"), Some(&200), "{tally:?}");

        let names = Knot::start(lab, &net.client, SERVER, &app(&[0, 1]))?;
        let both = [backend_address(0), backend_address(1)];
        wait_until_served_by(&naru, &both)?;
        // Half for the name, and half of that for each of its addresses.
        let tally = Load::one_each(4).requests(2000).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 2000);
        assert_shares(&tally, &[("b1", 1), ("b2", 1), ("b3", 2)], 4.0);

        drop(names);
        until(PATIENCE, || {
            let warnings = naru.status()?["warnings"].to_string();
            ensure!(warnings.contains("keeping its addresses"), "{warnings}");
            Ok(())
        })?;
        assert_eq!(serving(&naru)?, both.map(|address| address.to_string()));
        let tally = Load::one_each(4).requests(400).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 400);
        let events = naru.tell(&["events"])?;
        assert!(
            events.contains("web/app: app.example: 198.18.1.11, 198.18.1.12 from now on"),
            "{events}"
        );
        Ok(())
    });
}

/// In a mount namespace of its own it has a resolv.conf of its own, which may change while it runs.
fn run_with<'lab>(resolv_conf: &Path, lab: &Lab, node: &'lab Namespace, config: &str) -> Result<Naru<'lab>> {
    let mount = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", resolv_conf.display());
    let mut naru = Naru::new(lab, node, config)?;
    let mut daemon = naru.daemon_command_behind("unshare", &["--mount", "sh", "-c", &mount, "sh"])?;
    naru.adopt(Process::spawn(&mut daemon)?)?;
    Ok(naru)
}

#[test]
fn the_name_servers_of_the_system_are_asked() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let _names = Knot::start(lab, &net.client, SERVER, &app(&[0]))?;
        let file = lab.folder().join("resolv.conf");
        fs::write(&file, "nameserver 198.18.0.9\n")?;
        let naru = run_with(&file, lab, &net.node, &web(LISTEN, "\"app\""))?;
        assert_eq!(backend(&naru.status()?, "web", "app")?["state"], "unresolved");

        fs::write(&file, format!("nameserver {SERVER}\n"))?;
        wait_until_served_by(&naru, &[backend_address(0)])?;
        let tally = Load::one_each(2).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);
        Ok(())
    });
}

/// As resolv.conf(5) has it; and what fails is not passed over.
#[test]
fn a_short_name_is_looked_for_in_the_search_list_of_the_system() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let [one, other] = [0, 1].map(backend_address);
        let records = format!("app.prod 1 A {}\napp.test 1 A {}\n", one.ip(), other.ip());
        let _names = Knot::start(lab, &net.client, SERVER, &records)?;
        let file = lab.folder().join("resolv.conf");
        let search = |list: &str| fs::write(&file, format!("nameserver {SERVER}\nsearch {list}\n"));
        search("prod.example test.example")?;
        let web = web(LISTEN, "\"app\", \"app.:8080\"").replace("app.example", "app");
        let naru = run_with(&file, lab, &net.node, &web)?;
        wait_until_served_by(&naru, &[one])?;
        let told = naru.tell(&["dns"])?;
        assert!(told.contains("found as app.prod.example"), "{told}");
        // The server knows of no such zone, and that is no search.
        let absolute = backend(&naru.status()?, "web", "app.:8080")?["reason"].clone();
        assert_eq!(absolute, format!("{SERVER}:53: REFUSED"));

        let caller = Caller::start(&net.client, LISTEN)?;
        let began = Instant::now();
        search("none.example test.example")?;
        wait_until_served_by(&naru, &[other])?;
        search("elsewhere prod.example")?;
        until(PATIENCE, || {
            let warnings = naru.status()?["warnings"].to_string();
            let told = format!("app: app.elsewhere: {SERVER}:53: REFUSED; keeping its address");
            ensure!(warnings.contains(&told), "{warnings}");
            Ok(())
        })?;
        assert_eq!(serving(&naru)?, [other.to_string()]);
        search("prod.example")?;
        wait_until_served_by(&naru, &[one])?;
        assert_served_by(&caller, &net.backends, began)?;
        let events = naru.tell(&["events"])?;
        assert!(
            events.contains("web/app: app: stands for app.test.example from now on"),
            "{events}"
        );
        Ok(())
    });
}

/// Also over TCP: an answer of so many addresses fits into no datagram.
#[test]
fn what_a_server_says_is_understood() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let many: String = (1..=120).map(|host| format!("many 1 A 198.18.2.{host}\n")).collect();
        let services = "_http._tcp.app 1 SRV 10 5 8080 app\n_http._tcp.app 1 SRV 20 5 8080 alias\n\
                        _http._tcp.alias 1 CNAME _http._tcp.app\n_http._tcp.off 1 SRV 0 0 0 .\n";
        let addresses = "alias 1 CNAME app\nsix 1 AAAA 2001:db8:1::11\n";
        let records = format!("{}{addresses}{many}{services}", app(&[0]));
        let names = Knot::start(lab, &net.client, SERVER, &records)?;
        let names_of_backends = [
            "alias.example",
            "many.example",
            "none.example",
            "six.example",
            "app.elsewhere",
        ];
        let mut backends: Vec<String> = names_of_backends.map(|name| format!("{name}:8080")).into();
        backends.extend(["records", "records-none"].map(str::to_owned));
        let services = format!(
            "[service.web]\nlisten = \"{LISTEN}\"\nbackends = {backends:?}\n\
             [backend.records]\nsrv = \"_http._tcp.alias.example\"\n\
             [backend.records-none]\nsrv = \"_http._tcp.off.example\"\n"
        );
        let naru = Naru::run(lab, &net.node, &asking(&names, &services))?;
        until(PATIENCE, || {
            let status = naru.status()?;
            let reason = |name: &str| {
                let backend = backend(&status, "web", name)?;
                Ok::<_, anyhow::Error>((
                    backend["state"].clone(),
                    backend["reason"].as_str().unwrap_or("").to_owned(),
                ))
            };
            ensure!(reason("alias.example:8080")?.0 == "up", "{status}");
            ensure!(reason("records")?.0 == "up", "{status}");
            for (name, why) in [
                ("none.example:8080", "there is no such name"),
                ("six.example:8080", "has no address of the service's family"),
                ("app.elsewhere:8080", "198.18.0.2:53: REFUSED"),
                ("records-none", "its SRV record says that there is no such service"),
            ] {
                ensure!(
                    reason(name)? == ("unresolved".into(), why.to_owned()),
                    "{name}: {:?}",
                    reason(name)?
                );
            }
            let all = service(&status, "web")?["backends"].as_array().context("a list")?;
            let many = all.iter().filter(|one| one["host"] == "many.example:8080");
            ensure!(many.clone().count() == 120, "{} of 120 addresses", many.count());
            Ok(())
        })
    });
}

/// The daemon comes back, and finds nobody to ask.
#[test]
fn a_restart_without_name_servers_loses_nobody() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let names = Knot::start(lab, &net.client, SERVER, &app(&[0, 1]))?;
        let mut naru = Naru::run(lab, &net.node, &asking(&names, &web(LISTEN, "\"app\"")))?;
        let both = [backend_address(0), backend_address(1)];
        wait_until_served_by(&naru, &both)?;
        drop(names);
        let transfers = Transfers::start(&net.client, LISTEN, 20)?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;
        naru.restart()?;
        wait_until_served_by(&naru, &both)?;
        until(PATIENCE, || {
            let told = naru.tell(&["dns"])?;
            ensure!(
                told.contains("answer   before this start, ") && told.contains("keeping its addresses"),
                "{told}"
            );
            Ok(())
        })?;
        let tally = Load::one_each(4).requests(400).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 400);
        assert_shares(&tally, &[("b1", 1), ("b2", 1)], 8.0);
        let tally = load.stop();
        assert_eq!(tally.errors.len(), 0, "{tally:?}");
        assert_eq!(transfers.running(), 20);
        assert_unbroken(&transfers.finish(), 20);

        // What has changed meanwhile is taken up when somebody tells.
        let _names = Knot::start(lab, &net.client, SERVER, &app(&[2]))?;
        wait_until_served_by(&naru, &[backend_address(2)])
    });
}

/// It was told where to go for five more minutes, and nobody is there.
#[test]
fn a_dead_address_is_left_whatever_its_record_says() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let record = |place: usize| format!("app 300 A {}\n", backend_address(place).ip());
        let mut names = Knot::start(lab, &net.client, SERVER, &record(0))?;
        let naru = Naru::run(lab, &net.node, &asking(&names, &web(LISTEN, "\"app\"")))?;
        for (from, to) in [(0, 1), (1, 0), (0, 1)] {
            wait_until_served_by(&naru, &[backend_address(from)])?;
            let caller = Caller::start(&net.client, LISTEN)?;
            caller.heard(net.backends[from].role(), Instant::now(), PATIENCE)?;
            names.serve(&record(to))?;
            let cut = Instant::now();
            net.backends[from].cut_off()?;
            let lost_for = caller.lost_for(cut, PATIENCE)?;
            eprintln!("cut off, until the last call that was lost: {lost_for:?}");
            assert!(lost_for < BOUND, "{lost_for:?}");
            wait_until_served_by(&naru, &[backend_address(to)])?;
            net.backends[from].join()?;
        }
        Ok(())
    });
}
