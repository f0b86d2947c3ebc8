//! From the moment that a database may be written to until a client has written through Naru.
//!
//! HAProxy is not beside it: its checks of PostgreSQL and MySQL do not tell a primary from a replica.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Options;
use super::figures::{Times, times_table};
use crate::lab::{
    Lab, MariaPair, Moved, Naru, PostgresPair, Repeater, Session, Speech, Topology, WRITE, WRITES, until,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// As it comes. With less than a login takes on a busy machine, a server is down that is not.
const TIMEOUT: &str = "1s";
const POOL: usize = 200;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Killed,
    CutOff,
}

/// New servers on a new network for each run: a promotion cannot be taken back.
pub fn run(options: &Options) -> Result<()> {
    let [mut killed, mut cut_off, mut swapped] = [(); 3].map(|()| [Times::default(), Times::default()]);
    let mut reset = Times::default();
    for _ in 0..options.runs {
        keep(&mut killed, promote(Loss::Killed, None)?);
        keep(&mut cut_off, promote(Loss::CutOff, Some(&mut reset))?);
        keep(&mut swapped, swap()?);
    }
    let lines = [
        ("PostgreSQL, primary killed, replica promoted".to_owned(), killed.into()),
        (
            "PostgreSQL, primary cut off, replica promoted".to_owned(),
            cut_off.into(),
        ),
        ("MariaDB, read_only swapped".to_owned(), swapped.into()),
    ];
    println!("\nThe first write that was committed, after the command; and after the server took one beside Naru");
    print!("{}", times_table(&["after the command", "for Naru alone"], &lines));
    let line = [(format!("{POOL} idle connections"), vec![reset])];
    println!("\nThe primary is cut off: the last connection of a pool is reset");
    print!("{}", times_table(&["after the cut"], &line));
    Ok(())
}

fn keep([whole, added]: &mut [Times; 2], moved: Moved) {
    whole.add(moved.through_naru);
    added.add(moved.added());
}

fn promote(loss: Loss, reset: Option<&mut Times>) -> Result<Moved> {
    in_a_lab(|lab| {
        let net = Topology::new(lab, 2)?;
        let mut pair = PostgresPair::start(lab, &net.backends[0], &net.backends[1])?;
        let naru = Naru::run(lab, &net.node, &pair.config(lab, TIMEOUT, "1m")?)?;
        let writer = Repeater::start(&net.client, Speech::Postgres, WRITES, WRITE)?;
        writer.first_after(Instant::now(), PATIENCE)?;
        let open = || Session::open(Speech::Postgres, WRITES, PATIENCE, PATIENCE);
        let pool: Vec<_> = net
            .client
            .inside(|| (0..POOL).map(|_| open()).collect::<Result<_>>())??;

        let lost = Instant::now();
        match loss {
            Loss::Killed => pair.one.kill9()?,
            Loss::CutOff => net.backends[0].cut_off()?,
        }
        for mut session in pool {
            session.ended(PATIENCE)?.context("wait for the end of a connection")?;
        }
        reset.into_iter().for_each(|reset| reset.add(lost.elapsed()));
        wait_for_state(&naru, "one", "down")?;
        pair.promote(&writer, &net.backends[1])
    })
}

fn swap() -> Result<Moved> {
    in_a_lab(|lab| {
        let net = Topology::new(lab, 2)?;
        let pair = MariaPair::start(lab, &net.backends[0], &net.backends[1])?;
        let naru = Naru::run(lab, &net.node, &pair.config(lab, TIMEOUT)?)?;
        wait_for_state(&naru, "two", "standby")?;
        let writer = Repeater::start(&net.client, Speech::Mysql, WRITES, WRITE)?;
        writer.first_after(Instant::now(), PATIENCE)?;
        pair.swap(&writer, &net.backends[1])
    })
}

fn in_a_lab<T>(run: impl FnOnce(&Lab) -> Result<T>) -> Result<T> {
    let lab = Lab::new()?;
    run(&lab).inspect_err(|_| lab.show_logs())
}

fn wait_for_state(naru: &Naru<'_>, name: &str, state: &str) -> Result<()> {
    until(PATIENCE, || {
        let status = naru.status()?;
        let services = status["services"].as_array().context("find the services")?;
        let write = services.iter().find(|service| service["name"] == "write");
        let backends = write.and_then(|write| write["backends"].as_array());
        let backend = backends.and_then(|list| list.iter().find(|backend| backend["name"] == name));
        let found = &backend.context("find the backend")?["state"];
        ensure!(found == state, "{name} is {found}, not {state}");
        Ok(())
    })
}
