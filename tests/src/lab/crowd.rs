//! Many connections open side by side, from one client's address.
//!
//! Each of its threads has a table of open files of its own: so many connections are more than one process may have.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::client::Connection;
use super::{Namespace, Tally};

#[derive(Default)]
pub struct Crowd {
    hands: Vec<Hand>,
    size: usize,
}

/// A thread, with the connections it holds.
struct Hand {
    /// Asks on each of them, and tells there who answered.
    ask: Sender<Sender<Tally>>,
    thread: JoinHandle<()>,
}

impl Crowd {
    /// Lets this process, and those it starts from now on, open as many files as it may.
    pub fn make_room() -> Result<()> {
        let limit = getrlimit(Resource::Nofile);
        let limit = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, limit).context("raise the limit of open files")
    }

    /// One more from each of these ports, by `hands` more threads, which wait this long for each. How many could not be
    /// opened. Ports are given, since the kernel's search for a free one takes milliseconds when half of them are used.
    pub fn grow(
        &mut self,
        namespace: &Namespace,
        target: SocketAddr,
        ports: Range<u16>,
        hands: usize,
        patience: Duration,
    ) -> Result<usize> {
        let count = ports.len();
        let (sender, opened) = channel();
        let spawn = |hand: usize| {
            let own = ports.clone().skip(hand).step_by(hands);
            let (opened, (ask, asked)) = (sender.clone(), channel());
            let thread = thread::spawn(move || hold(own, target, patience, &opened, &asked));
            Hand { ask, thread }
        };
        self.hands
            .extend(namespace.inside(|| (0..hands).map(spawn).collect::<Vec<_>>())?);
        let opened: usize = opened.iter().take(hands).sum();
        self.size += opened;
        Ok(count - opened)
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Asks on each.
    pub fn ask_all(&self) -> Tally {
        let (sender, answers) = channel();
        for hand in &self.hands {
            hand.ask
                .send(sender.clone())
                .expect("a hand waits for what it is asked");
        }
        drop(sender);
        answers.iter().fold(Tally::default(), Tally::plus)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for Hand { ask, thread } in self.hands.drain(..) {
            drop(ask);
            let _ = thread.join();
        }
    }
}

fn hold(
    ports: impl Iterator<Item = u16>,
    target: SocketAddr,
    patience: Duration,
    opened: &Sender<usize>,
    asked: &Receiver<Sender<Tally>>,
) {
    // SAFETY: this thread uses none of the files that others open or close from now on.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }.expect("a thread may have files of its own");
    let mut connections: Vec<_> = ports
        .filter_map(|port| Connection::open_from((Ipv4Addr::UNSPECIFIED, port).into(), target, patience).ok())
        .collect();
    let _ = opened.send(connections.len());
    for answer in asked {
        let mut tally = Tally::default();
        connections
            .iter_mut()
            .for_each(|connection| tally.add(connection.who(false)));
        let _ = answer.send(tally);
    }
}
