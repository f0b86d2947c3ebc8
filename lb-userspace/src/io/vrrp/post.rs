//! A letter box between threads of which the receiving one waits by `poll` for this and other things: readable when
//! something is in it. And that waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

pub struct Outbox<T> {
    sender: Sender<T>,
    bell: Arc<OwnedFd>,
}

pub struct Inbox<T> {
    receiver: Receiver<T>,
    bell: Arc<OwnedFd>,
}

pub fn post<T>() -> Result<(Outbox<T>, Inbox<T>)> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("make an eventfd")?;
    let bell = Arc::new(bell);
    let (sender, receiver) = mpsc::channel();
    let outbox = Outbox {
        sender,
        bell: bell.clone(),
    };
    Ok((outbox, Inbox { receiver, bell }))
}

impl<T> Outbox<T> {
    /// To nobody, if the other thread has ended.
    pub fn send(&self, letter: T) {
        let _ended = self.sender.send(letter);
        let _full = rustix::io::write(self.bell.as_fd(), &1_u64.to_ne_bytes());
    }
}

impl<T> Inbox<T> {
    pub fn take(&self) -> Result<T, TryRecvError> {
        match self.receiver.try_recv() {
            Err(TryRecvError::Empty) => {
                self.silence();
                // What came before the bell was silent.
                self.receiver.try_recv()
            }
            taken => taken,
        }
    }

    /// What comes by then.
    pub fn wait(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    fn silence(&self) {
        match rustix::io::read(self.bell.as_fd(), &mut [0; 8]) {
            Ok(_) | Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => unreachable!("an eventfd is read: {}", io::Error::from(error)),
        }
    }
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Until one of these is readable, or it is so late.
pub fn wait_for<'fd>(sources: impl IntoIterator<Item = BorrowedFd<'fd>>, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs().cast_signed(),
        tv_nsec: left.subsec_nanos().into(),
    };
    let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut sources: Vec<_> = sources.into_iter().map(readable).collect();
    let _interrupted = poll(&mut sources, Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(inbox: &Inbox<u8>) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut sources = [PollFd::new(inbox, PollFlags::IN)];
        poll(&mut sources, Some(&now)).expect("poll") > 0
    }

    #[test]
    fn it_is_readable_until_it_was_found_empty() {
        let (outbox, inbox) = post().expect("make a letter box");
        assert!(!rings(&inbox));
        outbox.send(1);
        outbox.send(2);
        assert!(rings(&inbox));
        assert_eq!(inbox.take(), Ok(1));
        assert!(rings(&inbox));
        assert_eq!(inbox.take(), Ok(2));
        assert_eq!(inbox.take(), Err(TryRecvError::Empty));
        assert!(!rings(&inbox));
        drop(outbox);
        assert_eq!(inbox.take(), Err(TryRecvError::Disconnected));
    }
}
