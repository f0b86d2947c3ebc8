//! MySQL's own login, byte for byte: Debian has no MySQL to ask.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::core::config;
use crate::io::probes::database::Database;
use crate::io::probes::{Deadlines, observe};

const PASSWORD: &str = "not a secret";
const NONCE: [u8; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
/// SHA256(password) XOR SHA256(SHA256(SHA256(password)), nonce), by another program.
const PROOF: [u8; 32] = [
    56, 13, 223, 215, 193, 240, 56, 184, 84, 41, 81, 28, 84, 139, 141, 201, 107, 238, 233, 50, 48, 40, 125, 93, 174,
    80, 225, 86, 144, 198, 45, 52,
];
const PASSWORD_KNOWN: u8 = 3;

/// As MySQL 8 greets.
fn greeting() -> Vec<u8> {
    let mut greeting = b"\x0a8.0.36\0\x07\0\0\0".to_vec();
    greeting.extend_from_slice(&NONCE[..8]);
    greeting.extend_from_slice(b"\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0");
    greeting.extend_from_slice(&NONCE[8..]);
    greeting.extend_from_slice(b"\0caching_sha2_password\0");
    greeting
}

async fn say(stream: &mut TcpStream, sequence: u8, packet: &[u8]) {
    let length = u8::try_from(packet.len()).unwrap();
    stream.write_all(&[length, 0, 0, sequence]).await.unwrap();
    stream.write_all(packet).await.unwrap();
}

async fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.unwrap();
    let mut packet = vec![0; usize::from(header[0])];
    stream.read_exact(&mut packet).await.unwrap();
    packet
}

/// Logs in to somebody who answers the proof so, and hears the next packet.
async fn log_in(answer: u8) -> (String, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        say(&mut stream, 0, &greeting()).await;
        let login = hear(&mut stream).await;
        assert!(login.windows(32).any(|bytes| bytes == PROOF), "{login:?}");
        assert!(login.windows(5).any(|bytes| bytes == b"naru\0"), "{login:?}");
        say(&mut stream, 2, &[MORE_DATA, answer]).await;
        if answer == PASSWORD_WANTED {
            return Vec::new();
        }
        say(&mut stream, 3, &[OK, 0, 0, 2, 0, 0, 0]).await;
        hear(&mut stream).await
    });
    let told = ask(address).await;
    (told, server.await.unwrap())
}

async fn ask(address: SocketAddr) -> String {
    let file = std::env::temp_dir().join(format!("naru-mysql-{}", address.port()));
    std::fs::write(&file, PASSWORD).unwrap();
    let settings = config::Database {
        role: None,
        user: None,
        password_file: Some(file.clone()),
        database: None,
        max_lag: None,
        tls: None,
    };
    let mut database = Database::<Mysql>::new(address, &settings);
    let deadlines = Deadlines::from_now(Duration::from_secs(5), Duration::from_secs(5));
    let observation = observe(deadlines, async |course| database.ask(course).await).await;
    std::fs::remove_file(&file).unwrap();
    observation.to_string()
}

#[tokio::test]
async fn a_password_that_mysql_remembers_is_proven() {
    let (told, next) = log_in(PASSWORD_KNOWN).await;
    assert_eq!(next, [&[Command::COM_QUERY as u8], ROLE.as_bytes()].concat());
    assert!(told.starts_with("query failed: "), "{told}");
}

#[tokio::test]
async fn a_password_is_not_given_away_in_the_clear() {
    let (told, _) = log_in(PASSWORD_WANTED).await;
    assert_eq!(
        told,
        "login failed: the server asks for the password itself, which only TLS may carry: set tls = true"
    );
}
