//! HTTP checks against servers that are well, ill, and ill-willed.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::core::config::{Ask, Check, Config, parse};
use crate::core::health::observation::{Observation, Outcome};
use crate::io::probes::authority::Authority;
use crate::io::probes::{Deadlines, Prober, target};

const DEADLINE: Duration = Duration::from_millis(400);

/// The check that these keys make.
fn check(keys: &str) -> Check {
    let kind = if keys.contains("type") { "" } else { "type = \"http\"\n" };
    let text = format!(
        "[check.c]\n{kind}{keys}\n[service.s]\nlisten = \"198.18.0.100:80\"\nbackends = [\"198.18.1.1:80\"]\ncheck = \"c\"\n"
    );
    let Config { services, .. } = parse("naru.toml", &text)
        .unwrap_or_else(|found| panic!("{found:#?}"))
        .config;
    services["s"].check.clone().unwrap()
}

async fn probe(address: SocketAddr, keys: &str) -> Observation {
    let deadlines = Deadlines::from_now(DEADLINE, DEADLINE);
    Prober::new(target(address, check(keys))).probe(deadlines).await
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes the request, then says this and hangs up.
async fn server(answer: impl AsRef<[u8]>) -> SocketAddr {
    let (listener, address) = listen().await;
    let answer = answer.as_ref().to_vec();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            request(&mut stream).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

async fn request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn status_and_text_decide() {
    let cases = [
        (ok(""), "", "up"),
        (ok("all is well"), "body = \"is well\"", "up"),
        (
            ok("all is bad"),
            "body = \"is well\"",
            "answer failed: \"is well\" is not in the answer (status 200)",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "",
            "up",
        ),
        (
            ok(""),
            "expect = [204, \"300-399\"]",
            "request failed: not the expected answer (status 200)",
        ),
        (
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            "expect = [204, \"300-399\"]",
            "up",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "",
            "request failed: not the expected answer (status 503)",
        ),
        // Without a length the end of the connection is the end; with one it is too early.
        ("HTTP/1.1 200 OK\r\n\r\nis well".to_owned(), "body = \"is well\"", "up"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nis well".to_owned(),
            "body = \"is well\"",
            "answer failed: end of file before message length reached",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nis w\r\n3\r\nell\r\n0\r\n\r\n".to_owned(),
            "body = \"is well\"",
            "up",
        ),
    ];
    for (answer, keys, expected) in cases {
        let observation = probe(server(&answer).await, keys).await;
        assert!(
            observation.to_string().starts_with(expected),
            "{answer:?} with {keys}: {observation}"
        );
    }
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let mut heads = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            heads.push(request(&mut stream).await);
            stream.write_all(ok("").as_bytes()).await.unwrap();
        }
        heads
    });
    probe(address, "").await;
    probe(address, "method = \"OPTIONS\"\npath = \"/healthz?deep=1\"\nhost = \"app.example\"\nheaders = { X-Probe = \"a b\", User-Agent = \"me\" }").await;
    let heads = server.await.unwrap();
    let usual = format!(
        "GET / HTTP/1.1\r\nconnection: close\r\nhost: {address}\r\nuser-agent: naru/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(heads[0], usual);
    let other = "OPTIONS /healthz?deep=1 HTTP/1.1\r\nconnection: close\r\nhost: app.example\r\nuser-agent: me\r\nx-probe: a b\r\n\r\n";
    assert_eq!(heads[1], other);
}

#[tokio::test]
async fn another_port_can_be_asked() {
    let address = server(ok("")).await;
    let nobody: SocketAddr = "127.0.0.2:1".parse().unwrap();
    // A loopback address is none for a backend of a file, so it is put in behind its back.
    let mut check = check(&format!("port = {}", address.port()));
    check.address = Some(address.ip());
    let deadlines = Deadlines::from_now(DEADLINE, DEADLINE);
    let observation = Prober::new(target(nobody, check)).probe(deadlines).await;
    assert_eq!(observation.to_string(), "up");
}

/// A server that sends the same again and again, for as long as anybody listens.
async fn endless(begin: &'static [u8], again: Vec<u8>, pause: Duration) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let again = again.clone();
            tokio::spawn(async move {
                request(&mut stream).await;
                let mut sent = stream.write_all(begin).await;
                while sent.is_ok() {
                    sent = stream.write_all(&again).await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn ill_will_is_a_failed_check_in_time() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
    let at_once = Duration::ZERO;
    let slowly = Duration::from_millis(20);
    let cases = [
        (
            "endless headers",
            endless(OK, b"X-A: bcdefghijklmnopqrstuvwxyz\r\n".to_vec(), at_once).await,
        ),
        ("an endless header", endless(OK, vec![b'a'; 4096], at_once).await),
        ("a header byte by byte", endless(OK, vec![b'a'], slowly).await),
        (
            "a body byte by byte",
            endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", vec![b'a'], slowly).await,
        ),
        (
            "endless interim answers",
            endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(50), at_once).await,
        ),
        ("garbage", endless(b"", (0..=255).collect(), at_once).await),
        ("silence", endless(b"", Vec::new(), slowly).await),
        (
            "an endless chunk size",
            endless(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                vec![b'0'; 4096],
                at_once,
            )
            .await,
        ),
    ];
    for (what, address) in cases {
        let begin = Instant::now();
        let observation = probe(address, "").await;
        assert!(
            matches!(observation.outcome, Outcome::Failed(_)),
            "{what}: {observation}"
        );
        assert!(observation.is_answer(), "{what}: {observation}");
        assert!(begin.elapsed() < DEADLINE * 3, "{what} took {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn of_a_gigabyte_the_beginning_is_read() {
    let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    let address = endless(begin, vec![b'a'; 65_536], Duration::ZERO).await;
    assert_eq!(probe(address, "").await.to_string(), "up");
    let observation = probe(address, "body = \"is well\"").await;
    assert_eq!(
        observation.to_string(),
        "answer failed: \"is well\" is not in the answer (status 200)"
    );
}

async fn tls_server(authority: &Authority) -> SocketAddr {
    let acceptor = authority.acceptor();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(ok("secret").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn certificates_are_verified_unless_told_otherwise() {
    let authority = Authority::new();
    let address = tls_server(&authority).await;
    let https = |keys: &str| format!("type = \"https\"\nbody = \"secret\"\n{keys}");
    let ca = format!("ca = {:?}\n", authority.certificate());
    let good = probe(address, &https(&format!("{ca}host = \"localhost:1234\""))).await;
    assert_eq!(good.to_string(), "up");
    let named = probe(
        address,
        &https(&format!("{ca}host = \"other.example\"\nserver_name = \"localhost\"")),
    )
    .await;
    assert_eq!(named.to_string(), "up");
    let unknown = probe(address, &https("host = \"localhost\"")).await.to_string();
    assert!(
        unknown.starts_with("TLS failed: invalid peer certificate: UnknownIssuer"),
        "{unknown}"
    );
    let other = probe(address, &https(&format!("{ca}host = \"other.example\"")))
        .await
        .to_string();
    assert!(
        other.starts_with("TLS failed: invalid peer certificate: certificate not valid for name"),
        "{other}"
    );
    let opted_out = probe(address, &https("host = \"other.example\"\nverify = false")).await;
    assert_eq!(opted_out.to_string(), "up");
}

#[tokio::test]
async fn a_ca_that_cannot_be_read_is_our_failure() {
    let address = server(ok("")).await;
    let observation = probe(address, "type = \"https\"\nca = \"/nowhere/ca.pem\"").await;
    assert!(!observation.is_evidence(), "{observation}");
    assert!(observation.to_string().contains("/nowhere/ca.pem"), "{observation}");
}

#[tokio::test]
async fn tls_junk_is_a_failed_check() {
    let junk: Vec<u8> = (0..=255).collect();
    for address in [
        server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        endless(b"\x16\x03\x03\x40\x00", junk, Duration::ZERO).await,
    ] {
        let observation = probe(address, "type = \"https\"\nverify = false").await.to_string();
        assert!(observation.starts_with("TLS failed: "), "{observation}");
    }
}

#[test]
fn a_port_is_no_part_of_a_name() {
    for (host, name) in [
        ("app.example", "app.example"),
        ("app.example:8443", "app.example"),
        ("198.18.1.1:1", "198.18.1.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(without_port(host), name);
    }
    let check = check("");
    let Ask::Http(settings) = &check.ask else {
        panic!("{check:?}")
    };
    assert_eq!(
        Http::new("[2001:db8::1]:80".parse().unwrap(), settings).host,
        "[2001:db8::1]"
    );
}
