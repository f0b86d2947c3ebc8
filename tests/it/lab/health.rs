//! Who dies, hangs or comes back, as clients notice it: with real servers, and times from the daemon's own journal.
//!
//! The bounds are for a busy machine; what it took is printed. The promise is 300 ms for a refusal, 450 ms for silence.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lb_tests::lab::*;

use super::*;

/// What a busy machine may need for what is promised in half a second.
const BOUND: Duration = Duration::from_secs(2);
pub const PATIENCE: Duration = Duration::from_secs(10);

fn state(naru: &Naru, name: &str) -> Result<String> {
    let status = naru.status()?;
    Ok(backend(&status, "web", name)?["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

fn wait_for(naru: &Naru, name: &str, wanted: &str) -> Result<()> {
    until(PATIENCE, || {
        let state = state(naru, name)?;
        ensure!(state == wanted, "{name} is {state}, not {wanted}");
        Ok(())
    })
}

/// How long after `since` the backend went into this state, by the journal, which the clients' table follows at once.
pub fn took(naru: &Naru, name: &str, to: &str, since: SystemTime) -> Result<Duration> {
    let since = since.duration_since(UNIX_EPOCH)?.as_millis();
    until(PATIENCE, || {
        let events: Value = serde_json::from_str(&naru.tell(&["events", "--json"])?)?;
        let events = events.as_array().context("a list of events")?;
        let is_it = |event: &&Value| event["backend"] == name && event["to"] == to;
        let at = events
            .iter()
            .filter(is_it)
            .filter_map(|event| millis(event["at"].as_str()?));
        let at = at.filter(|at| *at >= since).min();
        let at = at.with_context(|| format!("{name} is not {to} yet"))?;
        Ok(Duration::from_millis(u64::try_from(at - since)?))
    })
}

/// Of the same day as now, which is near enough: `2026-01-01T12:34:56.789Z`.
fn millis(at: &str) -> Option<u128> {
    let time = at.split_once('T')?.1.trim_end_matches('Z');
    let (clock, millis) = time.split_once('.')?;
    let seconds = clock
        .split(':')
        .try_fold(0_u128, |sum, part| Some(sum * 60 + part.parse::<u128>().ok()?))?;
    let of_day = seconds * 1000 + millis.parse::<u128>().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis();
    let day = now - now % 86_400_000;
    let at = day + of_day;
    Some(if at > now + 1000 { at - 86_400_000 } else { at })
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort();
    eprintln!("{what}: {times:?}");
    assert!(times.iter().all(|time| *time < BOUND), "{what}: {times:?}");
}

#[test]
fn a_stopped_server_gets_no_new_connection_and_comes_back() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let mut servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            wait_for(&naru, "b2", "up")?;
            let stopped = SystemTime::now();
            drop(servers.pop());
            down.push(took(&naru, "b2", "down", stopped)?);
            let tally = Load::one_each(4).requests(400).start(&net.client, LISTEN)?.finish();
            assert_clean(&tally, 400);
            assert_eq!(tally.by_backend.get("b1"), Some(&400), "{tally:?}");

            let started = SystemTime::now();
            servers.push(Nginx::start(lab, &net.backends[1], &[backend_address(1)])?);
            up.push(took(&naru, "b2", "up", started)?);
        }
        tell("stopped, until it was down", &mut down);
        // The later falls are held down for a while.
        eprintln!("started, until it was up: {up:?}");
        let explained = naru.tell(&["explain", "web/b2"])?;
        assert!(explained.contains("connection refused (errno 111)"), "{explained}");
        assert!(explained.contains("tcp, every 200ms"), "{explained}");
        Ok(())
    });
}

#[test]
fn a_silent_host_gets_no_new_connection() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(lab, &net.node, &net.service("web", "tcp", 80, &[1, 1]))?;
        wait_for(&naru, "b2", "up")?;
        let mut down = Vec::new();
        for _ in 0..3 {
            let cut = SystemTime::now();
            net.backends[1].ip("link set eth0 down")?;
            down.push(took(&naru, "b2", "down", cut)?);
            let tally = Load::one_each(4).requests(200).start(&net.client, LISTEN)?.finish();
            assert_clean(&tally, 200);
            net.backends[1].ip("link set eth0 up")?;
            wait_for(&naru, "b2", "up")?;
        }
        tell("silent, until it was down", &mut down);
        Ok(())
    });
}

const SELDOM: &str = "check = \"seldom\"\n[check.seldom]\ntype = \"tcp\"\nevery = \"15s\"\n";

/// A SYN that is refused, and one that is repeated after a second.
#[test]
fn packets_bring_the_next_check_at_once() {
    case(|lab| {
        let net = Topology::new(lab, 3)?;
        let mut servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(
            lab,
            &net.node,
            &with_check(&net.service("web", "tcp", 80, &[1, 1, 1]), SELDOM),
        )?;
        ["b1", "b2", "b3"]
            .iter()
            .try_for_each(|name| wait_for(&naru, name, "up"))?;
        let load = Load::one_each(8)
            .pause(Duration::from_millis(5))
            .start(&net.client, LISTEN)?;
        let stopped = SystemTime::now();
        drop(servers.pop());
        let took_refused = took(&naru, "b3", "down", stopped)?;
        let cut = SystemTime::now();
        net.backends[1].ip("link set eth0 down")?;
        let took_silent = took(&naru, "b2", "down", cut)?;
        eprintln!("until it was down: refused {took_refused:?}, silent {took_silent:?}");
        assert!(took_refused.max(took_silent) < BOUND * 2);
        load.stop();
        Ok(())
    });
}

const HTTP: &str =
    "check = \"alive\"\n[check.alive]\ntype = \"http\"\npath = \"/\"\nhost = \"lab\"\ntimeout = \"300ms\"\n";

fn with_check(service: &str, check: &str) -> String {
    service.replacen("[backend.", &format!("{check}\n[backend."), 1)
}

/// Its kernel still accepts connections.
#[test]
fn a_hanging_server_is_found_by_its_http_check() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let servers = Nginx::on_each(lab, &net)?;
        let naru = Naru::run(
            lab,
            &net.node,
            &with_check(&net.service("web", "tcp", 80, &[1, 1]), HTTP),
        )?;
        wait_for(&naru, "b2", "up")?;
        let paused = SystemTime::now();
        servers[1].pause()?;
        tell("paused, until it was down", &mut [took(&naru, "b2", "down", paused)?]);
        let tally = Load::one_each(4).requests(400).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 400);
        let explained: Value = serde_json::from_str(&naru.tell(&["explain", "web/b2", "--json"])?)?;
        let last = explained["results"]
            .as_array()
            .and_then(|results| results.last())
            .cloned();
        assert_eq!(
            last.map(|last| last["phase"].clone()),
            Some("request".into()),
            "{explained}"
        );
        servers[1].resume()?;
        wait_for(&naru, "b2", "up")
    });
}

/// The node is cut off from all its backends, and its link looks well.
#[test]
fn a_node_that_is_cut_off_suspects_itself() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let _servers = Nginx::on_each(lab, &net)?;
        let second = "[service.two]\nlisten = \"198.18.0.100:81\"\nbackends = [\"b2\", \"b1\"]\n";
        let config = net.service("web", "tcp", 80, &[1, 1]) + second;
        let naru = Naru::run(lab, &net.node, &config)?;
        wait_for(&naru, "b1", "up")?;
        wait_for(&naru, "b2", "up")?;
        net.cut_node_off()?;
        let suspects =
            |naru: &Naru| Ok::<_, anyhow::Error>(naru.status()?["warnings"].to_string().contains("suspects itself"));
        until(PATIENCE, || {
            ensure!(suspects(&naru)?, "it suspects nobody");
            Ok(())
        })?;
        let watched = Instant::now();
        until(PATIENCE, || {
            assert_eq!(
                (state(&naru, "b1")?, state(&naru, "b2")?),
                ("up".to_owned(), "up".to_owned())
            );
            ensure!(watched.elapsed() > Duration::from_secs(3), "watching");
            Ok(())
        })?;
        net.join_node()?;
        until(PATIENCE, || {
            ensure!(!suspects(&naru)?, "it still suspects itself");
            Ok(())
        })?;
        let tally = Load::one_each(4).requests(400).start(&net.client, LISTEN)?.finish();
        assert_clean(&tally, 400);
        let events = naru.tell(&["events"])?;
        assert!(!events.contains("up -> down"), "{events}");
        assert!(
            events.contains("suspecting this node") && events.contains("heard again"),
            "{events}"
        );
        Ok(())
    });
}
