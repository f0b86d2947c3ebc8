//! Whether somebody accepts connections: connects, and closes in order.
//!
//! In order: a server that finds a connection reset writes that into its log, five times a second. The FIN itself
//! acknowledges the server's SYN: as it follows at once, an acknowledgement before it would be a packet for nothing.

use std::net::SocketAddr;

use rustix::net::sockopt::set_tcp_quickack;
use tokio::net::TcpSocket;

use super::{Course, Found};
use crate::core::health::observation::{Facts, Failure};

pub struct Tcp {
    address: SocketAddr,
}

impl Tcp {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub async fn ask(&mut self, course: &mut Course) -> Result<Found, Failure> {
        let acknowledge_late = |socket: &TcpSocket| Ok(set_tcp_quickack(socket, false)?);
        course.connect_as(self.address, acknowledge_late).await?;
        Ok(Found::Up(Facts::default()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::core::health::observation::{Code, Observation, Outcome, Phase};
    use crate::io::probes::{Deadlines, observe};

    async fn probe(address: SocketAddr) -> Observation {
        let deadlines = Deadlines::from_now(Duration::from_millis(100), Duration::from_millis(100));
        observe(deadlines, async |course| Tcp::new(address).ask(course).await).await
    }

    #[tokio::test]
    async fn a_listener_is_up_and_sees_an_orderly_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let observation = probe(listener.local_addr().unwrap()).await;
        assert_eq!(observation.outcome, Outcome::Up(Facts::default()));
        assert_eq!(observation.phase, Phase::Connect);
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nobody_there_is_refused_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let observation = probe(address).await;
        assert_eq!(
            observation.to_string(),
            "connect failed: connection refused (errno 111)"
        );
        assert!(observation.latency < Duration::from_millis(90), "{observation:?}");
    }

    /// A listener whose queue is full leaves further connections without an answer.
    #[tokio::test]
    async fn silence_fails_at_the_deadline() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut silent = None;
        let mut held = Vec::new();
        for _ in 0..8 {
            let connect = tokio::net::TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(50), connect).await {
                Ok(stream) => held.push(stream.unwrap()),
                Err(_) => {
                    silent = Some(probe(address).await);
                    break;
                }
            }
        }
        let silent = silent.expect("the queue is full at last");
        assert_eq!(silent.to_string(), "connect failed: no answer in time");
        assert!(silent.latency >= Duration::from_millis(90), "{silent:?}");
        let Outcome::Failed(failure) = &silent.outcome else {
            panic!("{silent:?}")
        };
        assert!(!matches!(failure.code, Some(Code::Errno(_))));
    }
}
