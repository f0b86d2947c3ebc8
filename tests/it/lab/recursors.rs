//! Backends whose names are asked for at a real recursor, which keeps answers and passes them on, or at BIND.
//!
//! Behind a cache a name moves when the cache has forgotten it; what the cache says is what there is to go by.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use lb_tests::lab::*;

use super::dns::{SERVER, asking_at, assert_served_by, serving, wait_until_served_by, web};
use super::health::PATIENCE;
use super::*;

/// Beside the authority, which is at `SERVER`.
const RECURSOR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 3));
const NAME: &str = "app.example";
/// A life of 1 s, and what Naru may take.
const PROMISE: Duration = Duration::from_millis(1200);

/// Unbound gives an authority up that is silent for a second, not for ten, and tries it again at once.
const QUICK: [&str; 3] = [
    "outbound-msg-retry: 1",
    "infra-cache-max-rtt: 1000",
    "infra-keep-probing: yes",
];

fn records(places: &[usize], ttl: u64) -> String {
    let record = |place: &usize| format!("app {ttl} A {}\n", backend_address(*place).ip());
    places.iter().map(record).collect()
}

/// With an address for a recursor.
fn network(lab: &Lab, backends: usize) -> Result<(Topology, Vec<Nginx>)> {
    let net = Topology::new(lab, backends)?;
    net.client.ip(&format!("addr add {RECURSOR}/24 dev eth0"))?;
    let nginx = Nginx::on_each(lab, &net)?;
    Ok((net, nginx))
}

/// The name, and a service of all backends, which keeps their neighbours known: here it is not to matter how long it
/// takes to find one.
fn config(net: &Topology, server: SocketAddr) -> String {
    let all: Vec<_> = (0..net.backends.len()).map(backend_address).collect();
    let all = service_at("all", "tcp", "nat", SocketAddr::new(VIP, 81), &all);
    asking_at(server, &format!("{}{all}", web(LISTEN, "\"app\"")))
}

fn run<'lab>(lab: &Lab, net: &'lab Topology, server: SocketAddr) -> Result<Naru<'lab>> {
    Naru::run(lab, &net.node, &config(net, server))
}

fn wait_until_told(naru: &Naru<'_>, words: &[&dyn Display]) -> Result<()> {
    until(2 * PATIENCE, || {
        let warnings = naru.status()?["warnings"].to_string();
        for word in words {
            ensure!(warnings.contains(&word.to_string()), "{word} is not told: {warnings}");
        }
        Ok(())
    })
}

/// Others ask the cache, too, so Naru meets it at any time of a record's life.
#[test]
fn a_cached_answer_is_followed_for_what_is_left_of_its_life() {
    const LIFE: u64 = 6;
    case(|lab| {
        let (net, _nginx) = network(lab, 2)?;
        let mut names = Knot::start(lab, &net.client, SERVER, &records(&[0], LIFE))?;
        let cache = Unbound::start(lab, &net.client, RECURSOR, names.address(), &[])?;
        // Whole seconds are all that a cache counts in; in the last, 0 s are left.
        let config = config(&net, names.address()).replace("[dns]\n", "[dns]\nmin_ttl = \"200ms\"\n");
        let naru = Naru::run(lab, &net.node, &config)?;
        wait_until_served_by(&naru, &[backend_address(0)])?;
        until(PATIENCE, || {
            let (_, left) = cache.tells(NAME)?;
            ensure!(left <= LIFE / 3, "{left} s are left");
            Ok(())
        })?;
        naru.edit(&names.address().to_string(), &cache.address().to_string())?;
        until_true(PATIENCE, "the cache is not asked", || {
            Ok(naru.tell(&["dns"])?.contains("passed on by"))
        })?;
        let caller = Caller::start(&net.client, LISTEN)?;
        let began = Instant::now();
        names.serve(&records(&[1], LIFE))?;
        let changed = until(PATIENCE, || {
            let (address, _) = cache.tells(NAME)?;
            ensure!(address == backend_address(1).ip(), "{address}");
            Ok(began.elapsed())
        })?;
        let moved = caller.heard("b2", began, PATIENCE)?;
        let late = moved.saturating_sub(changed);
        eprintln!("from the change of the cache until a call at the new address: {late:?}");
        // Who went by the whole of it would come later than that, on a busy machine too.
        assert!(late < 2 * SOON, "{late:?}");
        wait_until_served_by(&naru, &[backend_address(1)])
    });
}

/// The recursor lives, and its authority does not.
fn servfail_changes_nothing<'lab>(
    lab: &Lab,
    net: &'lab Topology,
    names: Knot<'_>,
    recursor: SocketAddr,
) -> Result<Naru<'lab>> {
    let naru = run(lab, net, recursor)?;
    let both = [backend_address(0), backend_address(1)];
    wait_until_served_by(&naru, &both)?;
    let load = Load::one_each(2).start(&net.client, LISTEN)?;
    drop(names);
    wait_until_told(
        &naru,
        &[&format!("{NAME}: {recursor}: SERVFAIL; keeping its addresses")],
    )?;
    assert_eq!(serving(&naru)?, both.map(|address| address.to_string()));
    let tally = load.stop();
    assert_eq!((tally.by_backend.len(), tally.errors.len()), (2, 0), "{tally:?}");
    Ok(naru)
}

#[test]
fn servfail_of_unbound_changes_nothing() {
    case(|lab| {
        let (net, _nginx) = network(lab, 2)?;
        let names = Knot::start(lab, &net.client, SERVER, &records(&[0, 1], 1))?;
        let recursor = Unbound::start(lab, &net.client, RECURSOR, names.address(), &QUICK)?;
        servfail_changes_nothing(lab, &net, names, recursor.address()).map(drop)
    });
}

#[test]
fn servfail_of_bind_changes_nothing() {
    case(|lab| {
        let (net, _nginx) = network(lab, 2)?;
        let names = Knot::start(lab, &net.client, SERVER, &records(&[0, 1], 1))?;
        let recursor = Bind::recursor(lab, &net.client, RECURSOR, names.address())?;
        let naru = servfail_changes_nothing(lab, &net, names, recursor.address())?;
        let _names = Knot::start(lab, &net.client, SERVER, &records(&[1], 1))?;
        wait_until_served_by(&naru, &[backend_address(1)])
    });
}

/// Its life is over, and a cache says it all the same; with 0 s to go, so that it is to be asked again at once.
#[test]
fn stale_answers_keep_all_and_are_not_asked_for_too_often() {
    const QUESTIONS: usize = 3;
    case(|lab| {
        let (net, _nginx) = network(lab, 2)?;
        let names = Knot::start(lab, &net.client, SERVER, &records(&[0], 1))?;
        let stale = ["serve-expired: yes", "serve-expired-reply-ttl: 0"];
        let cache = Unbound::start(lab, &net.client, RECURSOR, names.address(), &stale)?;
        let naru = run(lab, &net, cache.address())?;
        wait_until_served_by(&naru, &[backend_address(0)])?;
        let caller = Caller::start(&net.client, LISTEN)?;
        drop(names);
        let (began, before) = (Instant::now(), cache.asked(NAME)?);
        let asked = until(PATIENCE, || {
            let asked = cache.asked(NAME)? - before;
            ensure!(asked > QUESTIONS, "asked {asked} times");
            Ok(asked)
        })?;
        // The first may come at once, and each is up to a tenth early.
        let seconds = began.elapsed().as_secs_f64();
        assert!(
            (asked - 1) as f64 * 0.9 <= seconds,
            "asked {asked} times in {seconds} s"
        );
        let (address, left) = cache.tells(NAME)?;
        assert_eq!((address, left), (backend_address(0).ip(), 0), "what is stale is told");
        let warnings = naru.status()?["warnings"].to_string();
        assert!(!warnings.contains(NAME), "{warnings}");
        assert_eq!(serving(&naru)?, [backend_address(0).to_string()]);

        let _names = Knot::start(lab, &net.client, SERVER, &records(&[1], 1))?;
        wait_until_served_by(&naru, &[backend_address(1)])?;
        assert_served_by(&caller, &net.backends, began)
    });
}

/// The old address goes on to answer, so that nothing but the name tells.
#[test]
fn a_record_that_is_updated_at_bind_is_followed_when_it_ends() {
    case(|lab| {
        let (net, _nginx) = network(lab, 4)?;
        let names = Bind::authority(lab, &net.client, SERVER, &records(&[0], 1))?;
        let naru = run(lab, &net, names.address())?;
        wait_until_served_by(&naru, &[backend_address(0)])?;
        let caller = Caller::start(&net.client, LISTEN)?;
        let began = Instant::now();
        let mut times = Vec::new();
        // Not there and back again: addresses that return are kept for a while.
        for place in [1, 2, 3, 0, 1] {
            let server = net.backends[place].role();
            let changed = Instant::now();
            names.update(NAME, 1, backend_address(place).ip())?;
            times.push(caller.heard(server, changed, PATIENCE)?);
        }
        times.sort();
        eprintln!("from the update until the first call at the new address: {times:?}");
        // A busy machine has its moments, and does not keep us waiting each time.
        assert!(times[1] < PROMISE, "{times:?}");
        assert_served_by(&caller, &net.backends, began)
    });
}

/// The name has moved, and the only server that is asked will not know for minutes.
#[test]
fn a_dead_address_that_a_cache_goes_on_to_tell_is_told_and_so_is_the_way_out() {
    case(|lab| {
        let (net, _nginx) = network(lab, 2)?;
        let mut names = Knot::start(lab, &net.client, SERVER, &records(&[0], 300))?;
        let cache = Unbound::start(lab, &net.client, RECURSOR, names.address(), &[])?;
        let mut naru = run(lab, &net, cache.address())?;
        wait_until_served_by(&naru, &[backend_address(0)])?;
        names.serve(&records(&[1], 300))?;
        net.backends[0].cut_off()?;
        let kept = format!(
            "{} passes on what it has kept of the name, and may until ",
            cache.address()
        );
        let warning = format!("web/app: no address of its name is up, and {kept}");
        wait_until_told(&naru, &[&warning, &"[dns] servers may name one that knows at once"])?;
        let explained = naru.tell(&["explain", "web/app"])?;
        assert!(explained.contains(&format!("stays    {kept}")), "{explained}");
        let told = naru.tell(&["dns"])?;
        let answer = format!("answer   passed on by {}", cache.address());
        assert!(told.contains(&answer), "{told}");
        assert_eq!(serving(&naru)?, [""; 0]);

        naru.edit(&cache.address().to_string(), &names.address().to_string())?;
        wait_until_served_by(&naru, &[backend_address(1)])?;
        let warnings = naru.status()?["warnings"].to_string();
        assert!(!warnings.contains("passes on"), "{warnings}");
        naru.still_runs()
    });
}
