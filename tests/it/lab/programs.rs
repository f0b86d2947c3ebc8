//! Programs of the operator's: nothing that they start outlives them, or the daemon.

use std::fs;

use lb_tests::lab::*;

use super::databases::EVENTUALLY;
use super::*;

/// Something that a program starts and leaves, in a session of its own. Its number goes into `file`, and then there is a file
/// of the program's own number.
fn script(file: &str, then: &str) -> String {
    let left = format!("setsid sleep 1000 & echo $! >> {file}; : > {file}-$PROGRAM; sleep 1000");
    format!("export PROGRAM=$$; setsid sh -c '{left}' & {then}")
}

fn config(net: &Topology, script: &str) -> String {
    net.service("web", "tcp", 80, &[1]).replacen(
        "[backend.",
        &format!(
            "check = \"script\"\n[check.script]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n\
             every = \"500ms\"\ntimeout = \"5s\"\n[backend."
        ),
        1,
    )
}

/// Of those that were started, how many there were and who lives.
fn started(file: &str) -> Result<(usize, Vec<String>)> {
    let ids = fs::read_to_string(file).unwrap_or_default();
    let lives = |id: &&str| fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"));
    Ok((
        ids.lines().count(),
        ids.lines().filter(lives).map(str::to_owned).collect(),
    ))
}

fn until_nobody_lives(file: &str) -> Result<()> {
    until(EVENTUALLY, || {
        let (all, alive) = started(file)?;
        ensure!(alive.is_empty(), "{} of {all} live: {alive:?}", alive.len());
        Ok(())
    })
}

#[test]
fn what_a_check_leaves_behind_is_killed_whatever_its_session() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let file = lab.folder().join("started").display().to_string();
        let wait = format!("while [ ! -e {file}-$$ ]; do sleep 0.01; done; exit 0");
        let mut naru = Naru::run(lab, &net.node, &config(&net, &script(&file, &wait)))?;
        until(EVENTUALLY, || {
            let (all, alive) = started(&file)?;
            ensure!(all > 4 && alive.len() <= 2, "{} of {all} live", alive.len());
            Ok(())
        })?;
        assert_eq!(backend(&naru.status()?, "web", "b1")?["state"], "up");
        naru.stop()?;
        until_nobody_lives(&file)
    });
}

#[test]
fn a_daemon_that_is_killed_takes_running_checks_with_it() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let file = lab.folder().join("started").display().to_string();
        let mut naru = Naru::run(lab, &net.node, &config(&net, &script(&file, "sleep 1000")))?;
        until(EVENTUALLY, || {
            ensure!(!started(&file)?.1.is_empty(), "nobody runs");
            Ok(())
        })?;
        naru.kill9()?;
        until_nobody_lives(&file)
    });
}
