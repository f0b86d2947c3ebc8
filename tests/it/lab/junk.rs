//! Servers that speak nonsense, as fast and as long as they can, to checks of databases.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_tests::lab::*;
use lb_userspace::core::config::{Ask, Database};
use lb_userspace::core::health::observation::Outcome;

/// What is sent as soon as somebody connects, again and again until he goes.
const JUNK: [(&str, &[u8]); 8] = [
    ("zeros", &[0; 4096]),
    ("ones", &[0xff; 4096]),
    ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ("PostgreSQL: a message of 2 GiB", b"R\x7f\xff\xff\xff"),
    ("PostgreSQL: notices without end", b"N\0\0\0\x05\0"),
    ("PostgreSQL: an unknown login", b"R\0\0\0\x08\0\0\0\x07"),
    ("MySQL: a packet of 16 MiB", b"\xff\xff\xff\0\x0a"),
    ("MySQL: a short greeting", b"\x06\0\0\0\x0a8.0.1"),
];

#[test]
fn junk_is_a_failed_check_of_bounded_memory() {
    case(|lab| {
        let host = lab.namespace("db")?;
        let check = Database {
            role: None,
            user: None,
            password_file: None,
            database: None,
            max_lag: None,
            tls: None,
        };
        for ask in [Ask::Postgres(check.clone()), Ask::Mysql(check.clone())] {
            for (what, junk) in JUNK {
                is_refused(&host, &ask, junk).map_err(|error| error.context(what))?;
            }
        }
        Ok(())
    });
}

fn is_refused(host: &Namespace, ask: &Ask, junk: &'static [u8]) -> Result<()> {
    let listener = host.inside(|| TcpListener::bind("127.0.0.1:0"))??;
    let address = listener.local_addr()?;
    let sender = thread::spawn(move || -> std::io::Result<usize> {
        let (mut stream, _) = listener.accept()?;
        let (junk, mut sent) = (junk.repeat(65536 / junk.len()), 0);
        // Until nobody listens any more.
        while let Ok(count) = stream.write(&junk) {
            sent += count;
        }
        let _ = stream.read(&mut [0; 64]);
        Ok(sent)
    });
    let begin = Instant::now();
    let observation = {
        let mut asker = Asker::new(host, address, ask.clone())?;
        asker.ask()?
    };
    let sent = sender.join().expect("the sender lives")?;
    assert!(matches!(observation.outcome, Outcome::Failed(_)), "{observation}");
    assert!(observation.to_string().starts_with("login failed: "), "{observation}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // What the sockets hold, and no more.
    assert!(sent < 16 * 1024 * 1024, "{sent} bytes were taken");
    Ok(())
}
