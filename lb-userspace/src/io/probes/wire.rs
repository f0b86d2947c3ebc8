//! The connection to a database: bytes within a limit, plain or in TLS, and a goodbye when it is dropped.
//!
//! Knows no protocol; `postgres` and `mysql` do, and their tests are its tests.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::course::{Course, failure};
use super::metered::Metered;
use super::tls;
use crate::core::config;
use crate::core::health::observation::{Failure, Phase};

/// What a check may bring: whole rows of the widest status there is, and no flood.
pub const MOST_BYTES: usize = 256 * 1024;
const AT_ONCE: usize = 4096;

pub struct Wire {
    /// None only while TLS begins.
    stream: Option<Stream>,
    received: BytesMut,
    /// Sent when it is dropped; empty as long as nobody listens to one.
    goodbye: &'static [u8],
}

enum Stream {
    Plain(Metered),
    Tls(Box<TlsStream<Metered>>),
}

impl Wire {
    pub async fn connect(address: SocketAddr, course: &mut Course) -> Result<Self, Failure> {
        Ok(Self {
            stream: Some(Stream::Plain(course.connect(address, MOST_BYTES).await?)),
            received: BytesMut::new(),
            goodbye: &[],
        })
    }

    /// Goes on in TLS. What the server sent before that would be anybody's words.
    pub async fn encrypt(
        &mut self,
        settings: &config::Tls,
        address: SocketAddr,
        course: &mut Course,
    ) -> Result<(), Failure> {
        if !self.received.is_empty() {
            return Err(Failure::new("the server spoke in the clear where TLS begins"));
        }
        let Some(Stream::Plain(plain)) = self.stream.take() else {
            return Err(Failure::new("TLS within TLS"));
        };
        course.enter(Phase::Prepare);
        let connector = tls::connector(settings, None, address.ip()).await?;
        let encrypted = connector.connect(plain, course).await?;
        self.stream = Some(Stream::Tls(Box::new(encrypted)));
        Ok(())
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Some(Stream::Tls(_)))
    }

    /// Another check begins.
    pub fn renew(&mut self) {
        match &mut self.stream {
            Some(Stream::Plain(stream)) => stream.renew(),
            Some(Stream::Tls(stream)) => stream.get_mut().0.renew(),
            None => {}
        }
    }

    /// From now on there is somebody to say goodbye to, with these bytes.
    pub fn logged_in(&mut self, goodbye: &'static [u8]) {
        self.goodbye = goodbye;
    }

    /// Who is there no longer is noticed within three seconds, though nothing is sent.
    pub fn keep_alive(&self) -> io::Result<()> {
        let Some(Stream::Plain(stream)) = &self.stream else {
            return Ok(());
        };
        let stream = stream.stream();
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(1))?;
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
        sockopt::set_tcp_keepcnt(stream, 2)?;
        Ok(sockopt::set_socket_keepalive(stream, true)?)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = match &mut self.stream {
            Some(Stream::Plain(stream)) => stream.write_all(bytes).await,
            Some(Stream::Tls(stream)) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                failed => failed,
            },
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        sent.map_err(|error| failure(&error))
    }

    /// What came and is not used yet.
    pub fn received(&mut self) -> &mut BytesMut {
        &mut self.received
    }

    /// Waits for more, some or all of it. Cancel safe.
    pub async fn receive(&mut self) -> Result<(), Failure> {
        self.received.reserve(AT_ONCE);
        let read = match &mut self.stream {
            Some(Stream::Plain(stream)) => stream.read_buf(&mut self.received).await,
            Some(Stream::Tls(stream)) => stream.read_buf(&mut self.received).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match read {
            Ok(0) => Err(Failure::new("the server closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Exactly so many bytes.
    pub async fn take(&mut self, count: usize) -> Result<BytesMut, Failure> {
        while self.received.remaining() < count {
            self.receive().await?;
        }
        Ok(self.received.split_to(count))
    }
}

/// Servers count and log who leaves without a word. What cannot be sent at once is not worth waiting for.
impl Drop for Wire {
    fn drop(&mut self) {
        if self.goodbye.is_empty() {
            return;
        }
        let _ = match &mut self.stream {
            Some(Stream::Plain(stream)) => stream.stream().try_write(self.goodbye).map(|_| ()),
            Some(Stream::Tls(stream)) => {
                let (socket, session) = stream.get_mut();
                let sealed = session.writer().write_all(self.goodbye);
                session.send_close_notify();
                sealed.and_then(|()| session.write_tls(&mut AtOnce(socket.stream())).map(|_| ()))
            }
            None => Ok(()),
        };
    }
}

struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
