//! What a check of PostgreSQL sees, in front of real ones.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_tests::lab::*;
use lb_userspace::core::config::{Ask, Database, Role, Tls};
use lb_userspace::core::health::observation::{Code, Outcome, Phase};
use rustix::process::{Pid, Signal, kill_process};

use super::databases::{EVENTUALLY, ONE, TWO, host, until_told};
use super::{LISTEN, SOON, backend};

/// A postmaster that hangs is found by the fresh connection of each second.
const FOUND_WITHIN: Duration = Duration::from_secs(3);

fn asker<'a>(host: &'a Namespace, address: SocketAddr, check: &Database) -> Result<Asker<'a>> {
    Asker::new(host, address, Ask::Postgres(check.clone()))
}

fn told(host: &Namespace, server: &Postgres<'_>, check: &Database) -> Result<String> {
    Ok(asker(host, server.address(), check)?.ask()?.to_string())
}

#[test]
fn a_pair_is_told_apart_by_role_and_timeline() {
    case(|lab| {
        let (host, primaries) = host(lab)?;
        let replicas = Database {
            role: Some(Role::Replica),
            ..primaries.clone()
        };
        let mut one = Postgres::primary(lab, &host, ONE)?;
        let two = Postgres::replica(lab, &host, TWO, &one)?;
        assert_eq!(told(&host, &one, &primaries)?, "up (primary, timeline 1)");
        assert_eq!(
            told(&host, &one, &replicas)?,
            "standby: is a primary (primary, timeline 1)"
        );
        assert_eq!(told(&host, &two, &replicas)?, "up (replica, lag 0.0s)");
        let mut kept = asker(&host, two.address(), &primaries)?;
        until_told(EVENTUALLY, &mut kept, "standby: is a replica (replica, lag 0.0s)")?;

        one.kill9()?;
        assert_eq!(
            told(&host, &one, &primaries)?,
            "connect failed: connection refused (errno 111)"
        );
        two.promote()?;
        until_told(EVENTUALLY, &mut kept, "up (primary, timeline 2)")?;
        // Its control file still says otherwise; two primaries could not be told apart.
        one.start()?;
        assert_eq!(told(&host, &one, &primaries)?, "up (primary, timeline 1)");
        Ok(())
    });
}

#[test]
fn a_refused_login_says_what_to_put_right() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let server = Postgres::primary(lab, &host, ONE)?;
        let wrong = lab.folder().join("wrong");
        fs::write(&wrong, "something else")?;
        let said = |check: Database| told(&host, &server, &check);

        assert_eq!(
            said(Database {
                password_file: Some(wrong.clone()),
                ..check.clone()
            })?,
            format!(
                "login failed: password authentication failed for user \"naru\": is the one in {} right? (code 28P01)",
                wrong.display()
            )
        );
        assert_eq!(
            said(Database {
                password_file: None,
                ..check.clone()
            })?,
            "login failed: the server wants a password of naru: give it one with password_file"
        );
        assert_eq!(
            said(Database {
                password_file: Some("/nowhere".into()),
                ..check.clone()
            })?,
            "prepare failed: password_file: /nowhere: it does not exist"
        );
        assert_eq!(
            said(Database {
                database: Some("shop".to_owned()),
                ..check.clone()
            })?,
            "login failed: database \"shop\" does not exist: is `database` of the check right? (code 3D000)"
        );
        let stranger = said(Database {
            user: Some("stranger".to_owned()),
            ..check.clone()
        })?;
        assert!(
            stranger.contains("no pg_hba.conf entry for host") && stranger.ends_with("allow it there (code 28000)"),
            "{stranger}"
        );

        // A password that is changed in the file is used at the next login.
        let mut kept = asker(
            &host,
            server.address(),
            &Database {
                password_file: Some(wrong.clone()),
                ..check
            },
        )?;
        until_told(EVENTUALLY, &mut kept, "login failed")?;
        fs::write(&wrong, CHECKER_PASSWORD)?;
        assert_eq!(kept.ask()?.to_string(), "up (primary, timeline 1)");
        Ok(())
    });
}

/// A password that was changed on one side only must not fill the server's log, nor keep it out once it is right.
#[test]
fn a_refused_password_is_tried_seldom_until_it_is_right() {
    case(|lab| {
        let net = Topology::new(lab, 1)?;
        let server = Postgres::primary(lab, &net.backends[0], ONE)?;
        let password = lab.folder().join("password");
        fs::write(&password, "something else")?;
        let text = format!(
            "[service.db]\nlisten = \"{LISTEN}\"\nbackends = [\"{0}\"]\ncheck = \"pg\"\n\
             [check.pg]\ntype = \"postgres\"\nuser = \"{CHECKER}\"\npassword_file = {password:?}\n",
            server.address()
        );
        let naru = Naru::run(lab, &net.node, &text)?;
        let backend_name = server.address().to_string();
        let standing = || Ok::<_, anyhow::Error>(backend(&naru.status()?, "db", &backend_name)?.clone());
        until_true(SOON, "it is not down", || Ok(standing()?["state"] == "down"))?;
        let reason = standing()?["reason"].to_string();
        assert!(
            reason.contains("28P01") && reason.contains("asked every 5s only"),
            "{reason}"
        );

        let refusals = || server.log().matches("password authentication failed").count();
        let (before, begin) = (refusals(), Instant::now());
        until_true(EVENTUALLY, "it is not asked again", || Ok(refusals() > before))?;
        assert!(
            before <= 4 && begin.elapsed() > Duration::from_secs(3),
            "{before}, {:?}",
            begin.elapsed()
        );

        fs::write(&password, CHECKER_PASSWORD)?;
        until_true(Duration::from_secs(10), "the right password does not help", || {
            Ok(standing()?["state"] == "up")
        })
    });
}

#[test]
fn checks_leave_no_trace_in_the_log() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let server = Postgres::primary(lab, &host, ONE)?;
        let before = server.log();
        for _ in 0..20 {
            assert_eq!(told(&host, &server, &check)?, "up (primary, timeline 1)");
        }
        let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'naru'";
        until_true(EVENTUALLY, "connections are left", || {
            Ok(server.sql(connections)? == "0")
        })?;
        assert_eq!(server.log(), before);
        Ok(())
    });
}

#[test]
fn a_hung_postmaster_is_found_though_old_connections_are_answered() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let server = Postgres::primary(lab, &host, ONE)?;
        let mut kept = asker(&host, server.address(), &check)?;
        until_told(EVENTUALLY, &mut kept, "up")?;
        server.hang()?;
        let found = until_told(FOUND_WITHIN, &mut kept, "login failed: no answer in time")?;
        assert_eq!(found.phase, Phase::Login);
        server.go_on()?;
        until_told(EVENTUALLY, &mut kept, "up (primary, timeline 1)")?;
        Ok(())
    });
}

#[test]
fn one_process_that_hangs_says_nothing_about_the_others() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let server = Postgres::primary(lab, &host, ONE)?;
        let mut kept = asker(&host, server.address(), &check)?;
        until_told(EVENTUALLY, &mut kept, "up")?;
        let backend = server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'naru'")?;
        let backend = Pid::from_raw(backend.parse()?).context("find its process")?;
        kill_process(backend, Signal::STOP)?;
        let slow = kept.ask()?;
        // And with nobody left to answer, the check ends in time.
        server.hang()?;
        let none = asker(&host, server.address(), &check)?.ask()?;
        server.go_on()?;
        kill_process(backend, Signal::CONT)?;
        assert_eq!(slow.to_string(), "up (primary, timeline 1)");
        assert_eq!(none.to_string(), "login failed: no answer in time");
        assert!(none.latency < Duration::from_secs(2), "{none:?}");
        Ok(())
    });
}

#[test]
fn a_full_server_serves_and_one_that_starts_does_not() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let mut server = Postgres::primary(lab, &host, ONE)?;
        let mut replica = Postgres::replica(lab, &host, TWO, &server)?;
        replica.stop()?;
        replica.set("hot_standby", "off");
        replica.launch()?;
        let mut starting = asker(&host, replica.address(), &check)?;
        let starts = until_told(EVENTUALLY, &mut starting, "login failed: the database system is")?;
        let Outcome::Failed(failure) = starts.outcome else {
            panic!("{starts:?}")
        };
        assert_eq!(failure.code, Some(Code::Sql("57P03".to_owned())));
        replica.stop()?;

        server.stop()?;
        server.set("max_connections", "4");
        server.set("superuser_reserved_connections", "3");
        server.set("max_wal_senders", "0");
        server.start()?;
        let mut kept = asker(&host, server.address(), &check)?;
        until_told(EVENTUALLY, &mut kept, "up")?;
        let full = until_told(EVENTUALLY, &mut asker(&host, server.address(), &check)?, "login failed")?;
        assert!(full.to_string().contains("53300"), "{full}");
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            assert_eq!(kept.ask()?.to_string(), "up (primary, timeline 1)");
        }
        Ok(())
    });
}

#[test]
fn lag_is_time_that_something_is_missing() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let most = Duration::from_secs(1);
        let check = Database {
            role: Some(Role::Replica),
            max_lag: Some(most),
            ..check
        };
        let mut one = Postgres::primary(lab, &host, ONE)?;
        let two = Postgres::replica(lab, &host, TWO, &one)?;
        one.sql("CREATE TABLE t (n int)")?;
        let mut kept = asker(&host, two.address(), &check)?;
        until_told(EVENTUALLY, &mut kept, "up (replica, lag 0.0s)")?;

        // Nothing is written for longer than that.
        let age = "SELECT now() - pg_last_xact_replay_timestamp() > '2s'";
        until_true(EVENTUALLY, "the last transaction is too young", || {
            assert_eq!(kept.ask()?.to_string(), "up (replica, lag 0.0s)");
            Ok(two.sql(age)? == "t")
        })?;
        assert_eq!(told(&host, &two, &check)?, "up (replica, lag 0.0s)");

        // It has what was written, and does not replay it.
        two.sql("SELECT pg_wal_replay_pause()")?;
        one.sql("INSERT INTO t VALUES (1)")?;
        until_told(
            EVENTUALLY,
            &mut kept,
            "standby: is more than 1s behind (replica, lag 1.",
        )?;
        two.sql("SELECT pg_wal_replay_resume()")?;
        until_told(EVENTUALLY, &mut kept, "up (replica, lag 0.0s)")?;

        // Nobody can tell what it misses.
        one.kill9()?;
        until_told(
            EVENTUALLY,
            &mut kept,
            "standby: is more than 1s behind (replica, lag 1.",
        )?;
        one.start()?;
        until_told(EVENTUALLY, &mut kept, "up (replica, lag 0.0s)")?;
        Ok(())
    });
}

#[test]
fn tls_is_verified_against_the_authority_given() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let mut server = Postgres::primary(lab, &host, ONE)?;
        let tls = |verify, ca: Option<PathBuf>, name: Option<&str>| Database {
            user: Some("tls".to_owned()),
            tls: Some(Tls {
                verify,
                ca,
                server_name: name.map(str::to_owned),
            }),
            ..check.clone()
        };
        server.sql(&format!("CREATE ROLE tls LOGIN PASSWORD '{CHECKER_PASSWORD}'"))?;
        assert_eq!(
            told(&host, &server, &tls(false, None, None))?,
            "TLS failed: the server does not speak TLS: set its `ssl`"
        );

        let certificate = server.certificate("db.example")?;
        server.stop()?;
        server.set("ssl", "on");
        server.set("ssl_cert_file", &certificate.display().to_string());
        server.set(
            "ssl_key_file",
            &certificate.with_file_name("key.pem").display().to_string(),
        );
        server.start()?;
        assert_eq!(
            told(&host, &server, &tls(false, None, None))?,
            "up (primary, timeline 1)"
        );
        let own = tls(true, Some(certificate.clone()), Some("db.example"));
        assert_eq!(told(&host, &server, &own)?, "up (primary, timeline 1)");
        let by_address = told(&host, &server, &tls(true, Some(certificate), None))?;
        assert!(
            by_address.starts_with("TLS failed: invalid peer certificate"),
            "{by_address}"
        );
        let unknown = told(&host, &server, &tls(true, None, Some("db.example")))?;
        assert!(unknown.starts_with("TLS failed: invalid peer certificate"), "{unknown}");
        // The goodbye is encrypted too.
        assert!(!server.log().contains("reset"), "{}", server.log());
        Ok(())
    });
}
