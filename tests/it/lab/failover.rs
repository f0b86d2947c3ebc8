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
