//! A host that says adverts of VRRP in whatever form: frames made by hand, right or wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_userspace::core::vrrp::packet::{Advert, Checksum, Format, PROTOCOL, Version, write};
use lb_userspace::core::vrrp::sealed::{Secrets, Stamp, seal};

use super::packet_socket::{PacketSocket, Watcher};
use super::{Namespace, Twins, until};

const VRRP_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_MAC: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 0x12];
const ROOM_WITHIN: Duration = Duration::from_secs(5);
const IPV4: u16 = 0x0800;

pub struct Stranger {
    socket: PacketSocket,
    mac: [u8; 6],
}

/// An advert on its way, before anything is made wrong in it.
#[derive(Clone, Debug)]
pub struct Forged {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub mac: [u8; 6],
    pub ttl: u8,
    /// What is behind the IP header.
    pub payload: Vec<u8>,
}

impl Forged {
    /// To the group, of one address.
    pub fn new(source: Ipv4Addr, version: Version, id: u8, priority: u8, interval: Duration) -> Self {
        Self {
            source,
            destination: VRRP_GROUP,
            mac: GROUP_MAC,
            ttl: 255,
            payload: Vec::new(),
        }
        .says(version, id, priority, interval)
    }

    /// To one host, instead of the group: with a checksum for it, too.
    pub fn to(mut self, host: &Namespace, address: Ipv4Addr) -> Result<Self> {
        self.mac = Twins::mac(host)?;
        self.destination = address;
        let [kind, id, priority, _, high, low, ..] = self.payload[..] else {
            unreachable!("an advert has a header");
        };
        let centiseconds = u16::from_be_bytes([high, low]);
        assert_eq!(kind >> 4, 3, "in version 2 the checksum knows no destination");
        let interval = Duration::from_millis(10) * centiseconds.into();
        Ok(self.says(Version::V3, id, priority, interval))
    }

    /// As somebody says it who has this key, and begins today.
    pub fn sealed(mut self, secrets: &Secrets) -> Self {
        let format = Format {
            version: Version::V3,
            checksum: Checksum::PseudoHeader,
            password: None,
        };
        let stamp = Stamp { session: 1, number: 1 };
        let (from, to) = (IpAddr::V4(self.source), IpAddr::V4(self.destination));
        self.payload = seal(self.payload, stamp, secrets, &format, from, to);
        self
    }

    fn says(mut self, version: Version, id: u8, priority: u8, interval: Duration) -> Self {
        let advert = Advert {
            id,
            priority,
            interval,
            addresses: vec![super::VIP],
        };
        let format = Format {
            version,
            checksum: Checksum::PseudoHeader,
            password: None,
        };
        let (from, to) = (IpAddr::V4(self.source), IpAddr::V4(self.destination));
        self.payload = write(&advert, &format, from, to);
        self
    }
}

/// Everything of VRRP that comes to a host's `eth0`, frame by frame.
pub struct Recorder {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    _watcher: Watcher,
}

impl Recorder {
    pub fn start(host: &Namespace) -> Result<Self> {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&frames);
        let watcher = Watcher::start(host, IPV4, Duration::from_millis(1), move |socket| {
            let heard = std::iter::from_fn(|| socket.receive());
            let adverts = heard.filter(|frame| frame.get(14 + 9) == Some(&PROTOCOL));
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend(adverts);
        })?;
        Ok(Self {
            frames,
            _watcher: watcher,
        })
    }

    /// Of this sender, so far.
    pub fn of(&self, source: Ipv4Addr) -> Vec<Vec<u8>> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let said = frames
            .iter()
            .filter(|frame| frame.get(26..30) == Some(&source.octets()));
        said.cloned().collect()
    }
}

impl Stranger {
    /// From our own hardware address, or the switch would take it for a move.
    pub fn repeat(&self, frame: &[u8]) -> Result<()> {
        let mut frame = frame.to_vec();
        frame[6..12].copy_from_slice(&self.mac);
        until(ROOM_WITHIN, || Ok(self.socket.send(&frame)?)).context("send an advert again")
    }

    pub fn at(host: &Namespace) -> Result<Self> {
        let mac = Twins::mac(host)?;
        let socket = host.inside(|| PacketSocket::open("eth0", IPV4))??;
        Ok(Self { socket, mac })
    }

    /// Speaks under this MAC from now on.
    pub const fn assume(&mut self, mac: [u8; 6]) {
        self.mac = mac;
    }

    pub fn say(&self, forged: &Forged) -> Result<()> {
        let mut frame = [forged.mac, self.mac].concat();
        frame.extend(IPV4.to_be_bytes());
        let length = u16::try_from(20 + forged.payload.len()).context("a short advert")?;
        let mut header = vec![0x45, 0xc0];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, 0, 0, forged.ttl, PROTOCOL, 0, 0]);
        header.extend(forged.source.octets());
        header.extend(forged.destination.octets());
        let words = header.chunks_exact(2);
        let mut sum: u32 = words
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = !u16::try_from(sum).context("a sum of 16 bits")?;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(header);
        frame.extend(&forged.payload);
        // In a flood the interface has no room at times.
        until(ROOM_WITHIN, || Ok(self.socket.send(&frame)?)).context("send an advert")
    }
}
