//! A connection to who is asked, which brings so many bytes to a check and wakes it up so often.
//!
//! All that a server says comes through here, below TLS and every protocol: none of them need be trusted to stop, and
//! no server can keep the event loop busy. A short answer is not slowed down. Tested here, and in the lab.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How much is read in one turn of the event loop.
const AT_ONCE: usize = 4096;
/// So many parts are read as they come. Who sends more, and smaller ones, is read at intervals.
const UNPACED_READS: usize = 64;
const READ_INTERVAL: Duration = Duration::from_millis(10);

pub struct Metered {
    stream: TcpStream,
    most_bytes: usize,
    /// What may still come.
    bytes: usize,
    reads: usize,
    rest: Rest,
}

/// What happens before the next read.
enum Rest {
    None,
    Turn,
    Sleep(Pin<Box<Sleep>>),
}

impl Metered {
    pub fn new(stream: TcpStream, most_bytes: usize) -> Self {
        Self {
            stream,
            most_bytes,
            bytes: most_bytes,
            reads: 0,
            rest: Rest::None,
        }
    }

    /// The next check on a connection that is kept may bring as much as the first.
    pub fn renew(&mut self) {
        (self.bytes, self.reads) = (self.most_bytes, 0);
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.rest {
            Rest::None => return Poll::Ready(()),
            Rest::Turn => {
                self.rest = Rest::None;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Rest::Sleep(sleep) => ready!(sleep.as_mut().poll(context)),
        }
        self.rest = Rest::None;
        Poll::Ready(())
    }

    fn count(&mut self, read: usize, may_have_more: bool) {
        self.bytes -= read;
        self.reads += 1;
        self.rest = match (self.reads >= UNPACED_READS, may_have_more) {
            (true, _) => Rest::Sleep(Box::pin(sleep(READ_INTERVAL))),
            (false, false) => Rest::None,
            (false, true) => Rest::Turn,
        };
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(context));
        if this.bytes == 0 {
            let limit = this.most_bytes / 1024;
            return Poll::Ready(Err(io::Error::other(format!("an answer of more than {limit} KiB"))));
        }
        let room = buffer.remaining().min(this.bytes).min(AT_ONCE);
        let mut part = [0; AT_ONCE];
        let mut part = ReadBuf::new(&mut part[..room]);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let read = part.filled();
        buffer.put_slice(read);
        this.count(read.len(), read.len() == AT_ONCE);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection to somebody who says `part` again and again.
    async fn to_one_who_says(part: &'static [u8], most_bytes: usize) -> Metered {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            server.set_nodelay(true).unwrap();
            while server.write_all(part).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        Metered::new(stream, most_bytes)
    }

    #[tokio::test]
    async fn more_than_the_limit_is_an_error_until_it_is_renewed() {
        let mut connection = to_one_who_says(&[b'x'; 65536], 100 * 1024).await;
        for _ in 0..2 {
            let mut said = Vec::new();
            let error = connection.read_to_end(&mut said).await.unwrap_err();
            assert_eq!(
                (said.len(), error.to_string().as_str()),
                (100 * 1024, "an answer of more than 100 KiB")
            );
            connection.renew();
        }
    }

    /// However fast single bytes come, somebody who shares the loop has most of its turns.
    #[tokio::test]
    async fn a_server_that_dribbles_is_read_at_intervals() {
        let mut connection = to_one_who_says(b"x", usize::MAX).await;
        let (begin, mut reads) = (Instant::now(), 0);
        while begin.elapsed() < READ_INTERVAL * 20 {
            connection.read_u8().await.unwrap();
            reads += 1;
        }
        assert!(reads <= UNPACED_READS + 25, "{reads}");
    }

    #[tokio::test]
    async fn others_have_their_turn_between_parts() {
        let mut connection = to_one_who_says(&[b'x'; 65536], UNPACED_READS * AT_ONCE).await;
        let turns = std::rc::Rc::new(std::cell::Cell::new(0));
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        let mut said = Vec::new();
        tokio::select! {
            biased;
            _ = connection.read_to_end(&mut said) => {}
            () = others => {}
        }
        assert!(turns.get() > UNPACED_READS / 2, "{}", turns.get());
    }
}
