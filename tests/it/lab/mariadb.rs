//! What a check of MySQL sees, in front of real MariaDBs.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::lab::*;
use lb_userspace::core::config::{Ask, Database, Role, Tls};

use super::databases::{EVENTUALLY, ONE, TWO, host, until_told};

fn asker<'a>(host: &'a Namespace, address: SocketAddr, check: &Database) -> Result<Asker<'a>> {
    Asker::new(host, address, Ask::Mysql(check.clone()))
}

fn told(host: &Namespace, server: &MariaDb<'_>, check: &Database) -> Result<String> {
    Ok(asker(host, server.address(), check)?.ask()?.to_string())
}

#[test]
fn a_pair_is_told_apart_and_a_swap_is_seen_at_once() {
    case(|lab| {
        let (host, primaries) = host(lab)?;
        let limit = Some(Duration::from_secs(1));
        let replicas = Database {
            role: Some(Role::Replica),
            max_lag: limit,
            ..primaries.clone()
        };
        let one = MariaDb::start_new(lab, &host, ONE)?;
        let two = MariaDb::start_new(lab, &host, TWO)?;
        two.follow(&one)?;
        let mut first = asker(&host, one.address(), &primaries)?;
        let mut second = asker(&host, two.address(), &primaries)?;
        until_told(EVENTUALLY, &mut first, "up (primary)")?;
        until_told(EVENTUALLY, &mut second, "standby: is a replica (replica)")?;

        let unable = told(&host, &two, &replicas)?;
        assert!(
            unable.contains("REPLICA MONITOR") && unable.ends_with("(code 1227)"),
            "{unable}"
        );
        one.sql(&format!("GRANT REPLICA MONITOR ON *.* TO {CHECKER}"))?;
        let mut third = asker(&host, two.address(), &replicas)?;
        until_told(EVENTUALLY, &mut third, "up (replica, lag 0.0s)")?;
        two.sql("STOP SLAVE SQL_THREAD")?;
        until_told(
            EVENTUALLY,
            &mut third,
            "standby: is more than 1s behind (replica, lag 1.",
        )?;
        assert_eq!(
            told(&host, &two, &replicas)?,
            "standby: does not tell its lag (replica)"
        );
        two.sql("START SLAVE SQL_THREAD")?;
        until_told(EVENTUALLY, &mut third, "up (replica, lag 0.0s)")?;

        one.sql("SET GLOBAL read_only = 1")?;
        two.sql("STOP SLAVE; SET GLOBAL read_only = 0")?;
        assert_eq!(first.ask()?.to_string(), "standby: is a replica (replica)");
        assert_eq!(second.ask()?.to_string(), "up (primary)");
        Ok(())
    });
}

#[test]
fn each_way_to_log_in_works_or_says_what_to_put_right() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let server = MariaDb::start_new(lab, &host, ONE)?;
        server.sql(&format!(
            "INSTALL SONAME 'auth_ed25519';
             CREATE USER signed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{CHECKER_PASSWORD}');
             CREATE USER open@'%'"
        ))?;
        let wrong = lab.folder().join("wrong");
        fs::write(&wrong, "something else")?;
        let by = |user: &str| Database {
            user: Some(user.to_owned()),
            ..check.clone()
        };
        let said = |check: Database| told(&host, &server, &check);

        assert_eq!(said(by("signed"))?, "up (primary)");
        assert_eq!(
            said(Database {
                password_file: None,
                ..by("open")
            })?,
            "up (primary)"
        );
        assert_eq!(
            said(Database {
                database: Some("mysql".to_owned()),
                ..check.clone()
            })?,
            {
                "login failed: Access denied for user 'naru'@'%' to database 'mysql': \
             is `database` of the check right? (code 1044)"
            }
        );
        assert_eq!(
            said(Database {
                password_file: Some(wrong.clone()),
                ..check.clone()
            })?,
            format!(
                "login failed: Access denied for user 'naru'@'one.example' (using password: YES): \
                 is the one in {} right? (code 1045)",
                wrong.display()
            )
        );
        let without = said(Database {
            password_file: None,
            ..check.clone()
        })?;
        assert!(
            without.ends_with("give it one with password_file (code 1045)"),
            "{without}"
        );
        let unsigned = said(Database {
            password_file: Some(wrong),
            ..by("signed")
        })?;
        assert!(unsigned.ends_with("right? (code 1045)"), "{unsigned}");
        Ok(())
    });
}

#[test]
fn tls_is_verified_against_the_authority_given() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let mut server = MariaDb::start_new(lab, &host, ONE)?;
        let tls = |verify, ca: Option<PathBuf>| Database {
            user: Some("tls".to_owned()),
            tls: Some(Tls {
                verify,
                ca,
                server_name: Some("db.example".to_owned()),
            }),
            ..check.clone()
        };
        server.sql(&format!(
            "CREATE USER tls@'%' IDENTIFIED BY '{CHECKER_PASSWORD}' REQUIRE SSL"
        ))?;
        assert_eq!(
            told(&host, &server, &tls(false, None))?,
            "TLS failed: the server does not speak TLS: give it a certificate"
        );

        let certificate = server.certificate("db.example")?;
        server.stop()?;
        server.set(&format!("--ssl-cert={}", certificate.display()));
        server.set(&format!(
            "--ssl-key={}",
            certificate.with_file_name("key.pem").display()
        ));
        server.start()?;
        assert_eq!(told(&host, &server, &tls(false, None))?, "up (primary)");
        assert_eq!(told(&host, &server, &tls(true, Some(certificate)))?, "up (primary)");
        let unknown = told(&host, &server, &tls(true, None))?;
        assert!(unknown.starts_with("TLS failed: invalid peer certificate"), "{unknown}");
        let plain = told(
            &host,
            &server,
            &Database {
                tls: None,
                ..tls(false, None)
            },
        )?;
        assert!(plain.ends_with("(code 1045)"), "{plain}");
        Ok(())
    });
}

/// And the host that checks is never shut out, though three errors would be enough.
#[test]
fn checks_leave_no_trace_in_the_counters() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let mut server = MariaDb::start_new(lab, &host, ONE)?;
        server.stop()?;
        server.set("--max-connect-errors=3");
        server.start()?;
        let mut kept = asker(&host, server.address(), &check)?;
        until_told(EVENTUALLY, &mut kept, "up (primary)")?;
        let aborted =
            || Ok::<_, anyhow::Error>((server.counter("Aborted_connects")?, server.counter("Aborted_clients")?));
        let (before, log) = (aborted()?, server.log());
        for _ in 0..500 {
            assert_eq!(told(&host, &server, &check)?, "up (primary)");
            assert_eq!(kept.ask()?.to_string(), "up (primary)");
        }
        until_true(EVENTUALLY, "connections are left", || {
            Ok(server.counter("Threads_connected")? == 2)
        })?;
        assert_eq!((aborted()?, server.log()), (before, log));

        // While it is stopped, more checks fail than errors are allowed.
        server.hang()?;
        for _ in 0..6 {
            let observation = kept.ask()?.to_string();
            assert!(observation.ends_with("failed: no answer in time"), "{observation}");
        }
        server.go_on()?;
        until_told(EVENTUALLY, &mut kept, "up (primary)")?;
        assert_eq!(told(&host, &server, &check)?, "up (primary)");
        assert_eq!(server.counter("Aborted_connects")?, before.0);
        Ok(())
    });
}

#[test]
fn a_full_server_serves_those_it_has() {
    case(|lab| {
        let (host, check) = host(lab)?;
        let mut server = MariaDb::start_new(lab, &host, ONE)?;
        server.stop()?;
        server.set("--max-connections=10");
        server.start()?;
        let mut kept = asker(&host, server.address(), &check)?;
        until_told(EVENTUALLY, &mut kept, "up (primary)")?;
        let mut others = Vec::new();
        let full = until(EVENTUALLY, || {
            let mut other = asker(&host, server.address(), &check)?;
            let observation = other.ask()?.to_string();
            others.push(other);
            ensure!(observation.starts_with("login failed"), "{observation}");
            Ok(observation)
        })?;
        assert_eq!(full, "login failed: Too many connections (code 1040)");
        let end = std::time::Instant::now() + Duration::from_secs(3);
        while std::time::Instant::now() < end {
            assert_eq!(kept.ask()?.to_string(), "up (primary)");
        }
        Ok(())
    });
}
