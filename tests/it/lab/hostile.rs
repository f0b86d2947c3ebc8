//! Servers that answer checks as badly as they can: those checks fail, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Instant, SystemTime};

use lb_tests::lab::*;

use super::health::{PATIENCE, took};
use super::*;

/// What a backend does to everybody who connects, and what the check of it is.
struct Manner {
    name: &'static str,
    check: &'static str,
    first: Vec<u8>,
    /// Again and again, as long as somebody listens.
    then: Vec<u8>,
    pause: Duration,
    /// What an operator is told of it.
    reason: &'static str,
}

const HTTP: &str = "type = \"http\"\npath = \"/\"\nhost = \"lab\"";
const BODY: &str = "type = \"http\"\npath = \"/\"\nhost = \"lab\"\nbody = \"all is well\"";
const HTTPS: &str = "type = \"https\"\npath = \"/\"\nhost = \"lab\"\nverify = false";
const POSTGRES: &str = "type = \"postgres\"\nrole = \"primary\"";
const MYSQL: &str = "type = \"mysql\"\nrole = \"primary\"";

fn manners() -> Vec<Manner> {
    let head = |length: u64| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    let status = b"HTTP/1.1 200 OK\r\n".to_vec();
    let noise: Vec<u8> = BIG_FILE[..65_536].to_vec();
    let record = [b"\x16\x03\x03\x40\x00", &noise[..0x4000]].concat();
    let postgres = |kind: &[u8], fields: &[u8]| {
        let length = (4 + fields.len()) as u32;
        [kind, &length.to_be_bytes(), fields].concat().repeat(1000)
    };
    let errors = postgres(b"E", b"SFATAL\0C57P03\0Mnot now, not ever\0\0");
    let notices = postgres(b"N", b"SNOTICE\0C00000\0Mby the way\0\0");
    let refusals = b"\x15\0\0\0\xff\x15\x04#28000go away, all".repeat(1000);
    let manner = |name, check, first, then, reason| Manner {
        name,
        check,
        first,
        then,
        pause: Duration::ZERO,
        reason,
    };
    vec![
        manner(
            "headers",
            HTTP,
            status.clone(),
            b"X-More: and more, and more\r\n".repeat(1000),
            "request failed",
        ),
        Manner {
            pause: Duration::from_millis(50),
            ..manner("slowly", HTTP, status, b"X".to_vec(), "no answer in time")
        },
        Manner {
            pause: Duration::from_millis(50),
            ..manner("slow-body", HTTP, head(1000), b"x".to_vec(), "no answer in time")
        },
        manner("gigabyte", BODY, head(1 << 30), noise.clone(), "is not in the answer"),
        manner(
            "promises",
            HTTP,
            Vec::new(),
            b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000),
            "an answer of more than 128 KiB",
        ),
        manner("binary", HTTP, Vec::new(), noise.clone(), "request failed"),
        manner("no-tls", HTTPS, Vec::new(), noise.clone(), "TLS failed"),
        manner("bad-tls", HTTPS, Vec::new(), record, "TLS failed"),
        manner("pg-errors", POSTGRES, Vec::new(), errors, "login failed"),
        manner("pg-notices", POSTGRES, Vec::new(), notices, "login failed"),
        manner("pg-binary", POSTGRES, Vec::new(), noise.clone(), "login failed"),
        manner("my-errors", MYSQL, Vec::new(), refusals, "login failed"),
        manner("my-binary", MYSQL, Vec::new(), noise, "login failed"),
    ]
}

impl Manner {
    /// Until the test is over.
    fn treat(self, namespace: &Namespace, address: SocketAddr) -> Result<()> {
        let listener = namespace.inside(|| TcpListener::bind(address))??;
        let Self { first, then, pause, .. } = self;
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (first, then) = (first.clone(), then.clone());
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                    let _ = stream.read(&mut [0; 1024]);
                    let mut sent = stream.write_all(&first);
                    while sent.is_ok() {
                        sent = stream.write_all(&then);
                        thread::sleep(pause);
                    }
                });
            }
        });
        Ok(())
    }
}

#[test]
fn hostile_servers_harm_nobody_else() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let server = Nginx::start(lab, &net.backends[0], &[backend_address(0)])?;
        let mut config = format!("[service.web]\nlisten = \"{LISTEN}\"\nbackends = [\"b1\"]\n[backend.b1]\n");
        config += &format!("address = \"{}\"\n", backend_address(0));
        let mut expected = Vec::new();
        for (port, manner) in (9000_u16..).zip(manners()) {
            let address = SocketAddr::new(backend_address(1).ip(), port);
            let Manner {
                name, check, reason, ..
            } = manner;
            config += &format!(
                "[service.{name}]\nlisten = \"{VIP}:{port}\"\nbackends = [\"{address}\"]\ncheck = {name:?}\n\
                 [check.{name}]\n{check}\ntimeout = \"300ms\"\n"
            );
            expected.push((name, address.to_string(), reason));
            manner.treat(&net.backends[1], address)?;
        }
        let naru = Naru::run(lab, &net.node, &config)?;
        for (service, name, reason) in &expected {
            until(PATIENCE, || {
                let status = naru.status()?;
                let found = backend(&status, service, name)?;
                let why = found["reason"].as_str().unwrap_or_default();
                ensure!(found["state"] == "down" && why.contains(reason), "{service}: {found}");
                Ok(())
            })?;
        }
        let before = resident(&naru)?;
        let watched = Instant::now();
        while watched.elapsed() < sized(Duration::from_secs(3), Duration::from_secs(120)) {
            let tally = Load::one_each(4).requests(100).start(&net.client, LISTEN)?.finish();
            assert_clean(&tally, 100);
        }
        let grown = resident(&naru)?.saturating_sub(before);
        assert!(grown < 4096, "{grown} KiB more than before");

        let stopped = SystemTime::now();
        drop(server);
        let down = took(&naru, "b1", "down", stopped)?;
        note(&format!(
            "stopped beside hostile ones, until it was down: {} ms",
            down.as_millis()
        ));
        assert!(down < Duration::from_secs(2), "{down:?}");
        let refused = net.client.inside(|| get(LISTEN, "/"))?;
        assert!(refused.is_err_and(|error| format!("{error:#}").contains("refused")));
        Ok(())
    });
}

/// Who promises an answer without end, says it byte by byte, or prints it has a small part of the daemon's time.
#[test]
fn no_server_keeps_the_daemon_busy() {
    case(|lab| {
        let net = Topology::new(lab, 2)?;
        let server = Nginx::start(lab, &net.backends[0], &[backend_address(0)])?;
        let mut config = format!(
            "[service.web]\nlisten = \"{LISTEN}\"\nbackends = [\"b1\"]\n[backend.b1]\naddress = \"{}\"\n",
            backend_address(0)
        );
        let wanted = ["promises", "headers", "gigabyte", "pg-notices"];
        let mut hostile: Vec<_> = manners()
            .into_iter()
            .filter(|manner| wanted.contains(&manner.name))
            .collect();
        hostile.push(Manner {
            name: "dribble",
            check: HTTP,
            first: b"HTTP/1.1 200 OK\r\n".to_vec(),
            then: b"X".to_vec(),
            pause: Duration::from_micros(1),
            reason: "no answer in time",
        });
        for (port, manner) in (9000_u16..).zip(hostile) {
            let address = SocketAddr::new(backend_address(1).ip(), port);
            let Manner { name, check, .. } = manner;
            config += &format!(
                "[service.{name}]\nlisten = \"{VIP}:{port}\"\nbackends = [\"{address}\"]\ncheck = {name:?}\n\
                 [check.{name}]\n{check}\ntimeout = \"2s\"\n"
            );
            manner.treat(&net.backends[1], address)?;
        }
        config += &format!(
            "[service.prints]\nlisten = \"{VIP}:81\"\nbackends = [\"198.18.1.12:81\"]\ncheck = \"prints\"\n\
             [check.prints]\ntype = \"exec\"\ncommand = [\"/bin/cat\", \"/dev/zero\"]\ntimeout = \"2s\"\n"
        );
        let naru = Naru::run(lab, &net.node, &config)?;
        let (began, before) = (Instant::now(), busy(&naru)?);
        while began.elapsed() < Duration::from_secs(5) {
            let tally = Load::one_each(1).requests(20).start(&net.client, LISTEN)?.finish();
            assert_clean(&tally, 20);
        }
        let share = (busy(&naru)? - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let stopped = SystemTime::now();
        drop(server);
        let down = took(&naru, "b1", "down", stopped)?;
        note(&format!(
            "beside six that talk without end: {share:.2} of a core, down after {} ms",
            down.as_millis()
        ));
        // Of an unoptimised daemon, for all six.
        assert!(share < 0.7, "{share:.2} of a core");
        assert!(down < Duration::from_millis(400), "{down:?}");
        Ok(())
    });
}

/// What the daemon has had of a CPU.
fn busy(naru: &Naru) -> Result<Duration> {
    let id = naru.process_id().context("naru runs")?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(
        ticks * 1000 / rustix::param::clock_ticks_per_second(),
    ))
}

/// In KiB.
fn resident(naru: &Naru) -> Result<u64> {
    let id = naru.process_id().context("naru runs")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = anonymous.and_then(|line| line.split_whitespace().next());
    Ok(number.context("find RssAnon")?.parse()?)
}
