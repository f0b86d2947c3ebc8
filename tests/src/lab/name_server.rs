//! A name server that answers each name in a manner of its own: as no real one does, and as bad ones do.
//!
//! By UDP, and by TCP where it has that. It counts how often it was asked. Tested by the cases that use it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Namespace;

const LOOK: Duration = Duration::from_millis(20);
/// A datagram with more is said to be cut off.
const DATAGRAM: usize = 1232;

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const SRV: u16 = 33;

/// What a name is answered with.
#[derive(Clone, Debug)]
pub enum Manner {
    /// In another order each time.
    Records(Vec<Record>),
    /// One of them each time, by chance.
    OneOf(Vec<Record>),
    /// 2 is SERVFAIL, 3 that there is no such name, 5 REFUSED.
    Code(u8),
    Silent,
    /// It fits into no datagram.
    CutOff(Vec<Record>),
    /// Another kind of nonsense each time.
    Nonsense,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub ttl: u32,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub enum Data {
    Address(Ipv4Addr),
    Alias(String),
    Service {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
}

pub struct NameServer {
    address: SocketAddr,
    told: Arc<Told>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    manners: Mutex<BTreeMap<String, Manner>>,
    asked: Mutex<BTreeMap<String, u64>>,
    stop: AtomicBool,
}

impl Record {
    pub fn address(address: IpAddr, ttl: u32) -> Self {
        let IpAddr::V4(address) = address else {
            unreachable!("a lab of IPv4")
        };
        let data = Data::Address(address);
        Self { ttl, data }
    }

    pub fn alias(to: &str, ttl: u32) -> Self {
        let data = Data::Alias(to.to_owned());
        Self { ttl, data }
    }

    pub fn service(priority: u16, weight: u16, port: u16, target: &str, ttl: u32) -> Self {
        let target = target.to_owned();
        let data = Data::Service {
            priority,
            weight,
            port,
            target,
        };
        Self { ttl, data }
    }

    fn kind(&self) -> u16 {
        match self.data {
            Data::Address(_) => A,
            Data::Alias(_) => CNAME,
            Data::Service { .. } => SRV,
        }
    }

    /// Of the name that was asked about.
    fn write(&self, message: &mut Vec<u8>) {
        let data = match &self.data {
            Data::Address(address) => address.octets().to_vec(),
            Data::Alias(to) => labels(to),
            Data::Service {
                priority,
                weight,
                port,
                target,
            } => {
                let numbers = [priority, weight, port]
                    .into_iter()
                    .flat_map(|number| number.to_be_bytes());
                numbers.chain(labels(target)).collect()
            }
        };
        message.extend([0xc0, 12]);
        message.extend(self.kind().to_be_bytes());
        message.extend(1_u16.to_be_bytes());
        message.extend(self.ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
}

impl NameServer {
    /// Whoever has no manner is not there.
    pub fn start(namespace: &Namespace, address: IpAddr, tcp: bool) -> Result<Self> {
        let address = SocketAddr::new(address, 53);
        let told = Arc::new(Told::default());
        let threads = namespace.inside(|| {
            let datagrams = UdpSocket::bind(address).context("listen by UDP")?;
            datagrams.set_read_timeout(Some(LOOK))?;
            let by_udp = Arc::clone(&told);
            let mut threads = vec![thread::spawn(move || by_udp.answer_datagrams(&datagrams))];
            if tcp {
                let listener = TcpListener::bind(address).context("listen by TCP")?;
                listener.set_nonblocking(true)?;
                let by_tcp = Arc::clone(&told);
                threads.push(thread::spawn(move || by_tcp.answer_connections(&listener)));
            }
            Ok::<_, anyhow::Error>(threads)
        })??;
        Ok(Self { address, told, threads })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn answer(&self, name: &str, manner: Manner) {
        lock(&self.told.manners).insert(name.to_owned(), manner);
    }

    /// How often it was asked about the name.
    pub fn asked(&self, name: &str) -> u64 {
        lock(&self.told.asked).get(name).copied().unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Told {
    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut query = [0; 4096];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut query) else {
                continue;
            };
            if let Some(answer) = self.answer(&query[..length], DATAGRAM) {
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn answer_connections(&self, listener: &TcpListener) {
        while !self.stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => drop(self.answer_connection(stream)),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// One question, and the connection is closed.
    fn answer_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        if let Some(answer) = self.answer(&query, u16::MAX.into()) {
            stream.write_all(&(answer.len() as u16).to_be_bytes())?;
            stream.write_all(&answer)?;
        }
        Ok(())
    }

    fn answer(&self, query: &[u8], most: usize) -> Option<Vec<u8>> {
        let (name, kind, question) = question(query)?;
        let turn = {
            let mut asked = lock(&self.asked);
            let count = asked.entry(name.clone()).or_default();
            *count += 1;
            *count
        };
        let manner = lock(&self.manners).get(&name).cloned().unwrap_or(Manner::Code(3));
        let of_kind = |records: Vec<Record>| {
            let fits = |record: &Record| record.kind() == kind || record.kind() == CNAME;
            records.into_iter().filter(fits).collect::<Vec<_>>()
        };
        Some(match manner {
            Manner::Records(records) => respond(query, question, &shuffled(of_kind(records), turn), 0, most),
            Manner::OneOf(records) => {
                let mut records = shuffled(of_kind(records), turn);
                records.truncate(1);
                respond(query, question, &records, 0, most)
            }
            Manner::Code(code) => respond(query, question, &[], code, most),
            Manner::Silent => return None,
            Manner::CutOff(_) if most == DATAGRAM => respond(query, question, &[], 0, 0),
            Manner::CutOff(records) => respond(query, question, &of_kind(records), 0, most),
            Manner::Nonsense => nonsense(query, question, turn),
        })
    }
}

/// The name in lower case, the type, and the question's own bytes.
fn question(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let rest = query.get(12..)?;
    let (mut at, mut words) = (0, Vec::new());
    while let Some(&length) = rest.get(at).filter(|length| **length > 0) {
        let label = rest.get(at + 1..at + 1 + usize::from(length))?;
        words.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + usize::from(length);
    }
    let kind = rest.get(at + 1..at + 3)?;
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    Some((words.join("."), kind, rest.get(..at + 5)?))
}

/// What does not fit is left out, and the answer said to be cut off.
fn respond(query: &[u8], question: &[u8], records: &[Record], code: u8, most: usize) -> Vec<u8> {
    let mut answers = Vec::new();
    records.iter().for_each(|record| record.write(&mut answers));
    let cut_off = 12 + question.len() + answers.len() > most;
    let count = if cut_off { 0 } else { records.len() as u16 };
    // An authority's answer that there is nothing says for how long.
    let authority = count == 0 && !cut_off && matches!(code, 0 | 3);
    let mut message = query[..2].to_vec();
    message.extend([0x84 | u8::from(cut_off) << 1, code]);
    message.extend(1_u16.to_be_bytes());
    message.extend(count.to_be_bytes());
    message.extend(u16::from(authority).to_be_bytes());
    message.extend([0, 0]);
    message.extend(question);
    if count > 0 {
        message.extend(answers);
    }
    if authority {
        let mut soa = [labels("ns.example"), labels("admin.example")].concat();
        soa.extend([1_u32, 60, 60, 600, 1].into_iter().flat_map(u32::to_be_bytes));
        message.extend(labels("example"));
        message.extend(SOA.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 1]);
        message.extend((soa.len() as u16).to_be_bytes());
        message.extend(soa);
    }
    message
}

/// Each begins with the number of the question, so that none is thrown away unread.
fn nonsense(query: &[u8], question: &[u8], turn: u64) -> Vec<u8> {
    let one = Record::address(Ipv4Addr::new(198, 18, 1, 99).into(), 5);
    let whole = respond(query, question, &[one], 0, DATAGRAM);
    let with = |at: usize, bytes: &[u8]| {
        let mut message = whole.clone();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        message
    };
    let behind = 12 + question.len();
    match turn % 8 {
        // The end is missing, the header is, there are more records than there are.
        0 => whole[..whole.len() - 3].to_vec(),
        1 => whole[..3].to_vec(),
        2 => with(6, &[0xff, 0xff]),
        // A name that points to itself, or beyond; data that is longer than the message.
        3 => with(behind, &[0xc0, behind as u8]),
        4 => with(behind, &[0xff, 0xff]),
        5 => with(behind + 10, &[0xff, 0xff]),
        // Of another class; a question of its own, in the place of an answer.
        6 => with(behind + 4, &[0, 3]),
        _ => query.to_vec(),
    }
}

fn labels(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes()))
        .collect();
    bytes.push(0);
    bytes
}

fn shuffled(records: Vec<Record>, turn: u64) -> Vec<Record> {
    let mut keyed: Vec<(u64, Record)> = (0..)
        .map(|place: u64| (place ^ turn.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .zip(records)
        .collect();
    keyed.sort_by_key(|(key, _)| key.rotate_left(32));
    keyed.into_iter().map(|(_, record)| record).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
