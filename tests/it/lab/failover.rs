//! A pair of databases behind Naru, and what its clients notice when the primary is lost, hangs or changes places.
//!
//! The bounds are for a busy machine; what it took is printed. Exact figures are those of `cargo xtask bench failover`.

use std::io::ErrorKind;
use std::time::Instant;

use lb_tests::lab::*;

use super::*;

const BOUND: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);
const POOL: usize = 200;
/// Long enough for servers that share two cores with everything else.
const TIMEOUT: &str = "1s";

fn wait_for(naru: &Naru, service: &str, name: &str, state: &str, reason: &str) -> Result<()> {
    until(PATIENCE, || {
        let status = naru.status()?;
        let backend = backend(&status, service, name)?;
        ensure!(
            backend["state"] == state && backend["reason"].as_str().is_some_and(|why| why.contains(reason)),
            "not {state} ({reason}): {backend}"
        );
        Ok(())
    })
}

/// A pair behind Naru, which has looked at both.
fn serve<'lab>(lab: &Lab, net: &'lab Topology, max_lag: &str) -> Result<(PostgresPair<'lab>, Naru<'lab>)> {
    let pair = PostgresPair::start(lab, &net.backends[0], &net.backends[1])?;
    let naru = Naru::run(lab, &net.node, &pair.config(lab, TIMEOUT, max_lag)?)?;
    wait_for(&naru, "write", "one", "up", "")?;
    wait_for(&naru, "write", "two", "standby", "is a replica")?;
    wait_for(&naru, "read", "one", "standby", "is a primary")?;
    wait_for(&naru, "read", "two", "up", "")?;
    Ok((pair, naru))
}

fn connect(net: &Topology, listen: SocketAddr) -> Result<Session> {
    net.client
        .inside(|| Session::open(Speech::Postgres, listen, PATIENCE, PATIENCE))?
}

fn connect_pool(net: &Topology) -> Result<Vec<Session>> {
    (0..POOL).map(|_| connect(net, WRITES)).collect()
}

/// How long after `since` the last of them was told that its server is gone.
fn all_ended(pool: Vec<Session>, since: Instant, how: &[ErrorKind]) -> Result<Duration> {
    for mut session in pool {
        let left = (since + PATIENCE).saturating_duration_since(Instant::now());
        let end = session.ended(left)?.context("a client still waits")?;
        ensure!(how.contains(&end), "ended by {end:?}");
    }
    Ok(since.elapsed())
}

fn tell(what: &str, took: Duration) {
    note(&format!("{what}: {} ms", took.as_millis()));
    assert!(took < BOUND, "{what}: {took:?}");
}

fn tell_moved(what: &str, moved: Moved) {
    note(&format!("{what}: {moved:?}"));
    tell(what, moved.added());
}

/// As one that was down and knows nothing of the other: it is on the older timeline.
fn takes_no_write(naru: &Naru, pair: &PostgresPair<'_>, writer: &Repeater) -> Result<()> {
    wait_for(naru, "write", "one", "standby", "max_active 1: two (timeline 2) serves")?;
    let warnings = naru.status()?["warnings"].to_string();
    assert!(warnings.contains("more primaries than max_active 1"), "{warnings}");
    let before = pair.one.sql(WRITTEN)?;
    let mut last = Instant::now();
    for _ in 0..50 {
        last = writer.first_after(last, PATIENCE)?;
    }
    assert_eq!(pair.one.sql(WRITTEN)?, before);
    Ok(())
}

#[test]
fn writes_go_on_when_a_primary_is_killed_and_its_replica_promoted() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let (mut pair, naru) = serve(lab, &net, "10s")?;
        let pool = connect_pool(&net)?;
        let mut reader = connect(&net, READS)?;
        let writer = Repeater::start(&net.client, Speech::Postgres, WRITES, WRITE)?;
        writer.first_after(Instant::now(), PATIENCE)?;

        let killed = Instant::now();
        pair.one.kill9()?;
        let ways = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
        tell("killed, until the pool knew", all_ended(pool, killed, &ways)?);
        wait_for(&naru, "write", "one", "down", "connection refused")?;
        // Refused at once, which is not the same as left to wait.
        let asked = Instant::now();
        assert!(connect(&net, WRITES).is_err() && asked.elapsed() < SOON);
        reader.run("SELECT 1")?;
        connect(&net, READS)?.run("SELECT 1")?;

        let moved = pair.promote(&writer, &net.backends[1])?;
        tell_moved("killed and promoted, until a write was committed", moved);
        // It was a reader before; what it was asked for is finished.
        reader.run("SELECT 1")?;

        pair.one.start()?;
        takes_no_write(&naru, &pair, &writer)
    });
}

#[test]
fn writes_go_on_when_a_primary_is_cut_off_and_its_replica_promoted() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let (pair, naru) = serve(lab, &net, "1m")?;
        let pool = connect_pool(&net)?;
        let mut reader = connect(&net, READS)?;
        let writer = Repeater::start(&net.client, Speech::Postgres, WRITES, WRITE)?;
        writer.first_after(Instant::now(), PATIENCE)?;

        let cut = Instant::now();
        net.backends[0].cut_off()?;
        let took = all_ended(pool, cut, &[ErrorKind::ConnectionReset])?;
        tell("cut off, until the pool was reset", took);
        wait_for(&naru, "write", "one", "down", "")?;
        reader.run("SELECT 1")?;
        connect(&net, READS)?.run("SELECT 1")?;

        let moved = pair.promote(&writer, &net.backends[1])?;
        tell_moved("cut off and promoted, until a write was committed", moved);

        net.backends[0].join()?;
        takes_no_write(&naru, &pair, &writer)
    });
}

#[test]
fn a_replica_that_lags_takes_no_new_reader_and_keeps_those_it_has() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let (pair, naru) = serve(lab, &net, "1s")?;
        let mut reader = connect(&net, READS)?;
        // One that has replayed nothing yet knows no time to tell its lag by.
        pair.one.sql(WRITE)?;
        until(PATIENCE, || {
            let written = pair.two.sql(WRITTEN)?;
            ensure!(written.trim() == "1", "{written}");
            Ok(())
        })?;
        pair.two.sql("SELECT pg_wal_replay_pause()")?;
        pair.one.sql(WRITE)?;
        wait_for(&naru, "read", "two", "standby", "is more than 1s behind")?;
        assert!(connect(&net, READS).is_err());
        reader.run("SELECT 1")?;
        pair.two.sql("SELECT pg_wal_replay_resume()")?;
        wait_for(&naru, "read", "two", "up", "")?;
        reader.run("SELECT 1")?;
        connect(&net, READS)?.run("SELECT 1")
    });
}

/// It answers those that it has, as if all were well.
#[test]
fn a_postmaster_that_hangs_is_found_and_its_clients_are_reset() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let (pair, naru) = serve(lab, &net, "10s")?;
        let pool = vec![connect(&net, WRITES)?];
        let hung = Instant::now();
        pair.one.hang()?;
        let found = all_ended(pool, hung, &[ErrorKind::ConnectionReset])?;
        note(&format!("hung, until a client was reset: {} ms", found.as_millis()));
        wait_for(&naru, "write", "one", "down", "no answer in time")?;
        pair.one.go_on()?;
        wait_for(&naru, "write", "one", "up", "")?;
        connect(&net, WRITES)?.run(WRITE)
    });
}

#[test]
fn writes_follow_a_swap_of_read_only() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let pair = MariaPair::start(lab, &net.backends[0], &net.backends[1])?;
        let naru = Naru::run(lab, &net.node, &pair.config(lab, TIMEOUT)?)?;
        wait_for(&naru, "write", "one", "up", "")?;
        wait_for(&naru, "write", "two", "standby", "is a replica")?;
        let mut idle = net
            .client
            .inside(|| Session::open(Speech::Mysql, WRITES, PATIENCE, PATIENCE))??;
        let writer = Repeater::start(&net.client, Speech::Mysql, WRITES, WRITE)?;
        writer.first_after(Instant::now(), PATIENCE)?;

        let moved = pair.swap(&writer, &net.backends[1])?;
        tell_moved("swapped, until a write was committed", moved);
        // Its clients must not go on to try.
        assert_eq!(idle.ended(BOUND)?, Some(ErrorKind::ConnectionReset));
        wait_for(&naru, "write", "one", "standby", "is a replica")?;
        let before = pair.one.sql(WRITTEN)?;
        writer.first_after(Instant::now(), PATIENCE)?;
        assert_eq!(pair.one.sql(WRITTEN)?, before);
        Ok(())
    });
}

/// As in a cluster whose names say late, and then for a while this and that, who may be written to.
#[test]
fn a_writer_name_that_is_late_and_flip_flops_moves_writes_once() {
    const LATE: Duration = Duration::from_secs(3);
    const UNSURE: Duration = Duration::from_secs(30);
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let mut pair = PostgresPair::start(lab, &net.backends[0], &net.backends[1])?;
        let addresses = [pair.one.address(), pair.two.address()];
        let records = |writer: usize| {
            let own = format!("one 5 A {}\ntwo 5 A {}\n", addresses[0].ip(), addresses[1].ip());
            format!("{own}writer 5 A {}\n", addresses[writer].ip())
        };
        let mut names = Knot::start(lab, &net.client, super::dns::SERVER, &records(0))?;
        let mut config = pair.config(lab, TIMEOUT, "1m")?;
        let port = addresses[0].port();
        for (name, address) in [("one", addresses[0]), ("two", addresses[1])] {
            config = config.replace(
                &format!("address = \"{address}\""),
                &format!("host = \"{name}.example:{port}\""),
            );
        }
        config = config.replace(
            "[\"one\", \"two\"]\ncheck = \"primary\"",
            &format!("[\"writer.example:{port}\", \"one\", \"two\"]\ncheck = \"primary\""),
        );
        config += &format!("[dns]\nservers = [\"{}\"]\n", names.address());
        let naru = Naru::run(lab, &net.node, &config)?;
        wait_for(&naru, "write", "two", "standby", "is a replica")?;
        let writer = Repeater::start(&net.client, Speech::Postgres, WRITES, WRITE)?;
        writer.first_after(Instant::now(), PATIENCE)?;
        assert!(!naru.status()?["warnings"].to_string().contains("primaries"));

        pair.one.kill9()?;
        let moved = pair.promote(&writer, &net.backends[1])?;
        let promoted = Instant::now();
        tell_moved("promoted under late names, until a write was committed", moved);
        // It comes back, and takes itself for what it was.
        pair.one.start()?;
        let before = pair.one.sql(WRITTEN)?;
        let mut session = connect(&net, WRITES)?;
        let (mut last, mut flips) = (promoted, 0);
        while last < promoted + LATE + UNSURE {
            last = writer.first_after(last, PATIENCE)?;
            if last > promoted + LATE + Duration::from_secs(flips) {
                flips += 1;
                names.serve(&records((flips % 2) as usize))?;
            }
        }
        note(&format!("the name changed {flips} times"));
        assert_eq!(pair.one.sql(WRITTEN)?, before, "writes went back");
        session.run(WRITE)?;
        let events: Value = serde_json::from_str(&naru.tell(&["events", "--json"])?)?;
        let events = events.as_array().context("a list of events")?;
        let of_two =
            |event: &&Value| event["service"] == "write" && event["backend"] == "two" && !event["to"].is_null();
        let states: Vec<&Value> = events.iter().filter(of_two).map(|event| &event["to"]).collect();
        assert_eq!(states, ["standby", "up"]);
        Ok(())
    });
}
