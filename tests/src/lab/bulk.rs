//! One TCP connection that carries much, both ways at once; each end compares every byte with what its place says.
//!
//! The client says first how much each way is to carry. The server's last byte says that all it got was right.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::{self, Timeout};

use super::topology::backend_addresses;
use super::{BIG_FILE, Namespace, Topology};

const LOOK_UP: Duration = Duration::from_millis(100);
/// Without a byte for so long a transfer is broken.
const PATIENCE: Duration = Duration::from_secs(5);
const CHUNK: usize = 1 << 16;
const RIGHT: u8 = b'!';

/// Serves until it is dropped.
pub struct BulkServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BulkServer {
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = namespace
            .inside(|| TcpListener::bind(address))?
            .with_context(|| format!("listen on {address}"))?;
        // It holds for `accept` too.
        sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(LOOK_UP))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        // The client learns what was wrong: the last byte is missing.
                        thread::spawn(move || serve(&stream));
                    }
                }
            }
        });
        let thread = Some(thread);
        Ok(Self { stop, thread })
    }

    /// On each backend of the network, at both of its addresses.
    pub fn on_each(net: &Topology) -> Result<Vec<Self>> {
        let addresses = net.backends.iter().zip(0..).flat_map(|(backend, index)| {
            let of_family = move |address| Self::start(backend, address);
            backend_addresses(index).map(of_family)
        });
        addresses.collect()
    }
}

impl Drop for BulkServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream) -> Result<()> {
    be_patient(stream)?;
    let mut lengths = [0; 16];
    (&*stream).read_exact(&mut lengths)?;
    let (up, down) = lengths.split_at(8);
    let [up, down] = [up, down].map(|bytes| u64::from_be_bytes(bytes.try_into().expect("half of sixteen bytes")));
    both(|| send(stream, down, |_| ()), || receive(stream, up, |_| ()))?;
    Ok((&*stream).write_all(&[RIGHT])?)
}

/// How many bytes each way carries.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    pub up: u64,
    pub down: u64,
}

impl Bulk {
    /// Sets it going.
    pub fn start(self, namespace: &Namespace, target: SocketAddr) -> Result<Transfer> {
        let moved = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&moved);
        let thread = namespace.inside(|| thread::spawn(move || self.run(target, &count)))?;
        Ok(Transfer { moved, thread })
    }

    fn run(self, target: SocketAddr, moved: &AtomicU64) -> Result<()> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
        be_patient(&stream)?;
        (&stream).write_all(&[self.up.to_be_bytes(), self.down.to_be_bytes()].concat())?;
        let count = |bytes| {
            moved.fetch_add(bytes, Ordering::Relaxed);
        };
        both(|| send(&stream, self.up, count), || receive(&stream, self.down, count))?;
        let mut last = [0];
        (&stream)
            .read_exact(&mut last)
            .context("wait for the server's last word")?;
        ensure!(last == [RIGHT], "the server's last word is {last:?}");
        stream.shutdown(Shutdown::Both).context("close")
    }
}

/// One that is under way.
pub struct Transfer {
    moved: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Transfer {
    /// How many bytes of both ways the client has sent or received so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Waits for the end.
    pub fn finish(self) -> Result<()> {
        self.thread.join().expect("a transfer does not panic")
    }
}

fn be_patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(())
}

fn both(send: impl FnOnce() -> Result<()> + Send, receive: impl FnOnce() -> Result<()>) -> Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(send);
        let received = receive();
        let sent = sending.join().expect("sending does not panic");
        received.and(sent)
    })
}

fn send(mut stream: &TcpStream, length: u64, count: impl Fn(u64)) -> Result<()> {
    for (number, size) in chunks(length) {
        let chunk = chunk(number);
        stream
            .write_all(&chunk[..size])
            .with_context(|| format!("send chunk {number}"))?;
        count(size as u64);
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, length: u64, count: impl Fn(u64)) -> Result<()> {
    let mut got = vec![0; CHUNK];
    for (number, size) in chunks(length) {
        stream
            .read_exact(&mut got[..size])
            .with_context(|| format!("receive chunk {number}"))?;
        ensure!(got[..size] == chunk(number)[..size], "wrong bytes in chunk {number}");
        count(size as u64);
    }
    Ok(())
}

/// Number and size of each.
fn chunks(length: u64) -> impl Iterator<Item = (u64, usize)> {
    let whole = CHUNK as u64;
    (0..length.div_ceil(whole)).map(move |number| (number, whole.min(length - number * whole) as usize))
}

/// No two are alike: a piece of the big file, with the number before it.
fn chunk(number: u64) -> Vec<u8> {
    let start = number as usize % (BIG_FILE.len() / CHUNK) * CHUNK;
    let mut chunk = BIG_FILE[start..start + CHUNK].to_vec();
    chunk[..8].copy_from_slice(&number.to_be_bytes());
    chunk
}
