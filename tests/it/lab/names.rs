//! Names whose answers are bad, many, or gone: what serves goes on, and nobody is asked too often.
//!
//! Name servers here are of the lab's own making, as no real one answers so; `dns` has the real ones.

use std::time::Instant;

use lb_tests::lab::*;

use super::dns::{SERVER, serving, wait_until_served_by};
use super::health::PATIENCE;
use super::*;

const OTHER_SERVER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 3));
/// Times a second: what a datagram that is lost costs comes on top of one question.
const MOST_QUESTIONS: f64 = 6.0;
const RECORDS: &str = "_http._tcp.app.example";

fn good() -> Manner {
    Manner::Records(vec![Record::address(backend_address(0).ip(), 1)])
}

fn asking(servers: &[&NameServer], rest: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|server| server.address().to_string()).collect();
    format!("[dns]\nservers = {servers:?}\n{rest}")
}

fn web_of(names: &[&str]) -> String {
    let backends: Vec<String> = names.iter().map(|name| format!("{name}:8080")).collect();
    format!("[service.web]\nlisten = \"{LISTEN}\"\nbackends = {backends:?}\n")
}

fn wait_until_all(naru: &Naru, names: &[&str], wanted: &str) -> Result<()> {
    until(2 * PATIENCE, || {
        let status = naru.status()?;
        for name in names {
            let backend = backend(&status, "web", &format!("{name}:8080"))?;
            ensure!(backend["state"] == wanted, "{backend}");
        }
        Ok(())
    })
}

/// Until each name was asked about so many times more.
fn wait_for_questions(server: &NameServer, names: &[&str], more: u64) -> Result<()> {
    let before: Vec<u64> = names.iter().map(|name| server.asked(name)).collect();
    until(2 * PATIENCE, || {
        for (name, before) in names.iter().zip(&before) {
            let asked = server.asked(name) - before;
            ensure!(asked >= more, "asked about {name} {asked} times");
        }
        Ok(())
    })
}

fn tell_warnings(naru: &Naru) -> Result<String> {
    Ok(naru.status()?["warnings"].to_string())
}

/// From one of two servers, then from both.
#[test]
fn bad_answers_take_nothing_away() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        net.client.ip(&format!("addr add {OTHER_SERVER}/24 dev eth0"))?;
        // Without TCP: what is cut off stays so.
        let one = NameServer::start(&net.client, SERVER, false)?;
        let other = NameServer::start(&net.client, OTHER_SERVER, false)?;
        let circle = || Manner::Records(vec![Record::alias("circle.example", 1)]);
        let failing: [(&str, Manner); 6] = [
            ("servfail.example", Manner::Code(2)),
            ("refused.example", Manner::Code(5)),
            ("silent.example", Manner::Silent),
            ("nonsense.example", Manner::Nonsense),
            ("circle.example", circle()),
            ("cut.example", Manner::CutOff(Vec::new())),
        ];
        let empty = [
            ("gone.example", Manner::Code(3)),
            ("empty.example", Manner::Records(Vec::new())),
        ];
        let names = |bad: &[(&'static str, Manner)]| bad.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let (failing_names, empty_names) = (names(&failing), names(&empty));
        let all = [failing_names.clone(), empty_names.clone()].concat();
        let say = |server: &NameServer, good_again: bool| {
            for (name, bad) in failing.iter().chain(&empty) {
                server.answer(name, if good_again { good() } else { bad.clone() });
            }
        };
        say(&one, true);
        say(&other, true);
        let mut naru = Naru::run(lab, &net.node, &asking(&[&one, &other], &web_of(&all)))?;
        wait_until_all(&naru, &all, "up")?;
        let events = naru.tell(&["events"])?;

        say(&one, false);
        wait_for_questions(&other, &all, 4)?;
        assert_eq!(naru.tell(&["events"])?, events, "one good server is enough");

        let (began, before) = (
            Instant::now(),
            all.iter().map(|name| other.asked(name)).collect::<Vec<_>>(),
        );
        say(&other, false);
        wait_for_questions(&other, &all, 4)?;
        wait_until_all(&naru, &all, "up")?;
        let warnings = tell_warnings(&naru)?;
        for name in &all {
            assert!(warnings.contains(&format!("{name}: ")), "{name}: {warnings}");
        }
        wait_until_all(&naru, &empty_names, "unresolved")?;
        assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
        wait_until_all(&naru, &failing_names, "up")?;
        let seconds = began.elapsed().as_secs_f64();
        for (name, before) in all.iter().zip(before) {
            let rate = (other.asked(name) - before) as f64 / seconds;
            assert!(rate < MOST_QUESTIONS, "asked about {name} {rate} times a second");
        }
        let tally = Load::one_each(2).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);

        say(&one, true);
        wait_until_all(&naru, &all, "up")?;
        until(PATIENCE, || {
            let warnings = tell_warnings(&naru)?;
            ensure!(!warnings.contains(".example"), "{warnings}");
            Ok(())
        })?;
        naru.still_runs()
    });
}

#[test]
fn answers_that_are_too_long_are_used_as_far_as_they_can_be() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let server = NameServer::start(&net.client, SERVER, true)?;
        let first = Record::address(backend_address(0).ip(), 1);
        let many = |count: u32| {
            let address = |n: u32| Record::address(std::net::Ipv4Addr::from(0xc613_0000 + n).into(), 1);
            std::iter::once(first.clone()).chain((0..count).map(address)).collect()
        };
        let names = ["long.example", "many.example", "huge.example"];
        names.iter().for_each(|name| server.answer(name, good()));
        let mut naru = Naru::run(lab, &net.node, &asking(&[&server], &web_of(&names)))?;
        wait_until_all(&naru, &names, "up")?;
        let events = naru.tell(&["events"])?;

        // By TCP; 64 KiB are no more than 4,000 records.
        server.answer("long.example", Manner::CutOff(vec![first.clone()]));
        wait_for_questions(&server, &["long.example"], 6)?;
        assert_eq!(naru.tell(&["events"])?, events);
        server.answer("many.example", Manner::Records(many(3999)));
        server.answer("huge.example", Manner::Records(many(10_000)));
        until(PATIENCE, || {
            let warnings = tell_warnings(&naru)?;
            for told in [
                "many.example: has more than 256 addresses; 3744 are left out",
                "huge.example: 198.18.0.2:53: its answer is cut off, by TCP too; keeping its address",
            ] {
                ensure!(warnings.contains(told), "{warnings}");
            }
            let status = naru.status()?;
            let all = service(&status, "web")?["backends"].as_array().context("a list")?;
            let of = |host: &str| all.iter().filter(|one| one["host"] == host).count();
            let counts = (
                of("long.example:8080"),
                of("many.example:8080"),
                of("huge.example:8080"),
            );
            ensure!(counts == (1, 256, 1), "{counts:?}");
            Ok(())
        })?;
        let tally = Load::one_each(2).requests(200).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 200);
        naru.still_runs()
    });
}

#[test]
fn two_hundred_records_in_another_order_each_time_change_nothing() {
    const PORTS: u16 = 100;
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let ports = || 8001..8001 + PORTS;
        let at = |place: usize| ports().map(move |port| SocketAddr::new(backend_address(place).ip(), port));
        let nginx = |place: usize| Nginx::start(lab, &net.backends[place], &at(place).collect::<Vec<_>>());
        let _nginx = (nginx(0)?, nginx(1)?);
        let server = NameServer::start(&net.client, SERVER, true)?;
        for (name, place) in [("a.example", 0), ("b.example", 1)] {
            let address = Record::address(backend_address(place).ip(), 1);
            server.answer(name, Manner::Records(vec![address]));
        }
        let records = |names: &[&'static str]| {
            let of = |name: &'static str| ports().map(move |port| Record::service(10, 5, port, name, 1));
            Manner::Records(names.iter().flat_map(|name| of(name)).collect())
        };
        server.answer(RECORDS, records(&["a.example", "b.example"]));
        let web =
            format!("[service.web]\nlisten = \"{LISTEN}\"\nbackends = [\"app\"]\n[backend.app]\nsrv = \"{RECORDS}\"\n");
        let naru = Naru::run(lab, &net.node, &asking(&[&server], &web))?;
        let both: Vec<SocketAddr> = at(0).chain(at(1)).collect();
        wait_until_served_by(&naru, &both)?;
        let transfers = Transfers::start(&net.client, LISTEN, 20)?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;
        let events = naru.tell(&["events"])?;
        // By UDP and by TCP each time.
        wait_for_questions(&server, &[RECORDS], 12)?;
        assert_eq!(naru.tell(&["events"])?, events);

        server.answer(RECORDS, records(&["a.example"]));
        wait_until_served_by(&naru, &at(0).collect::<Vec<_>>())?;
        let tally = Load::one_each(2).requests(200).start(&net.client, LISTEN)?.finish();
        assert_eq!(tally.by_backend.get("b1"), Some(&200), "{tally:?}");
        let tally = load.stop();
        assert_eq!(tally.errors.len(), 0, "{tally:?}");
        assert_eq!(transfers.running(), 20);
        assert_unbroken(&transfers.finish(), 20);
        Ok(())
    });
}

/// As the reader name of a cluster does.
#[test]
fn a_name_with_one_of_five_addresses_at_a_time_becomes_five_backends() {
    const ALL: usize = 5;
    case(|lab| {
        let net = Topology::new(lab, ALL)?;
        let _nginx = Nginx::on_each(lab, &net)?;
        let server = NameServer::start(&net.client, SERVER, false)?;
        let all = (0..ALL).map(|place| Record::address(backend_address(place).ip(), 1));
        server.answer("app.example", Manner::OneOf(all.collect()));
        let web = format!(
            "[service.web]\nlisten = \"{LISTEN}\"\nbackends = [\"app\"]\n[backend.app]\nhost = \"app.example:8080\"\n"
        );
        let naru = Naru::run(lab, &net.node, &asking(&[&server], &web))?;
        until(6 * PATIENCE, || {
            let serving = serving(&naru)?;
            ensure!(serving.len() == ALL, "{serving:?}");
            Ok(())
        })?;
        let events = naru.tell(&["events"])?;
        let load = Load::one_each(2).start(&net.client, LISTEN)?;
        wait_for_questions(&server, &["app.example"], 15)?;
        let tally = load.stop();
        assert_eq!((tally.by_backend.len(), tally.errors.len()), (ALL, 0), "{tally:?}");
        assert_eq!(naru.tell(&["events"])?, events);
        Ok(())
    });
}
