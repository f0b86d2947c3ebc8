//! A frame from its fields, with checksums computed from scratch: the definition that the program's updates must meet.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

pub const SYN: u8 = 0x02;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    /// That of the family; the payload is all of the message, but for its checksum.
    Icmp,
    /// Any other, by its IP protocol number; the payload follows the IP header.
    Other(u8),
}

/// An IPv6 extension header: its number, and what follows its first two bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub number: u8,
    /// Two bytes less than a multiple of eight.
    pub content: Vec<u8>,
}

/// Every field may be set; those that are not have the values of an ordinary packet. Both addresses are of the family
/// that the frame is to have.
#[derive(Clone, Debug)]
pub struct Builder {
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    /// VLAN tags, the outermost first: their EtherType, and what they say.
    pub tags: Vec<(u16, u16)>,
    pub ether_type: u16,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Of IPv4.
    pub identification: u16,
    pub fragment: u16,
    /// Of IPv4.
    pub options: Vec<u8>,
    /// Traffic class and flow label of IPv6.
    pub class_and_label: u32,
    pub extensions: Vec<Extension>,
    pub protocol: Protocol,
    pub source_port: u16,
    pub destination_port: u16,
    pub flags: u8,
    /// Sequence and acknowledgment number.
    pub sequence: (u32, u32),
    /// Of TCP, a multiple of four bytes.
    pub tcp_options: Vec<u8>,
    pub window: u16,
    pub payload: Vec<u8>,
    pub udp_checksum: bool,
    /// Added to the transport checksum, to make it wrong on purpose.
    pub checksum_error: u16,
}

/// A TCP SYN from `source` to `destination`, each `address:port`.
pub fn packet(source: &str, destination: &str) -> Builder {
    let parse = |text: &str| text.parse::<SocketAddr>().expect("address:port");
    Builder::between(parse(source), parse(destination))
}

impl Builder {
    /// A TCP SYN.
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            tags: Vec::new(),
            ether_type: if destination.is_ipv4() { IPV4 } else { IPV6 },
            source: source.ip(),
            destination: destination.ip(),
            ttl: 64,
            identification: 0x1234,
            fragment: 0x4000,
            options: Vec::new(),
            class_and_label: 0x0abc_def1,
            extensions: Vec::new(),
            protocol: Protocol::Tcp,
            source_port: source.port(),
            destination_port: destination.port(),
            flags: SYN,
            sequence: (1000, 0),
            tcp_options: Vec::new(),
            window: 0xffff,
            payload: Vec::new(),
            udp_checksum: true,
            checksum_error: 0,
        }
    }

    pub fn udp(mut self) -> Self {
        self.protocol = Protocol::Udp;
        self
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub fn macs(mut self, destination: [u8; 6], source: [u8; 6]) -> Self {
        (self.destination_mac, self.source_mac) = (destination, source);
        self
    }

    pub fn from(mut self, source: SocketAddr) -> Self {
        (self.source, self.source_port) = (source.ip(), source.port());
        self
    }

    pub fn to(mut self, destination: SocketAddr) -> Self {
        (self.destination, self.destination_port) = (destination.ip(), destination.port());
        self
    }

    /// The same the other way.
    pub fn turned(self) -> Self {
        Self {
            destination_mac: self.source_mac,
            source_mac: self.destination_mac,
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }

    /// The IP header is one that begins here: of the load balancer's own.
    pub fn with_header_of_ours(mut self) -> Self {
        (self.ttl, self.identification, self.fragment, self.class_and_label) = (64, 0, 0x4000, 0);
        self.options.clear();
        self.extensions.clear();
        self
    }

    /// A fragment of the packet that has `segment` behind its IP header: this part of that.
    pub fn fragment_of(self, segment: &[u8], part: Range<usize>, identification: u16) -> Self {
        let more = u16::from(part.end < segment.len());
        let offset = part.start as u16;
        let number = self.protocol_number();
        self.with(|p| {
            (p.protocol, p.payload) = (Protocol::Other(number), segment[part].to_vec());
            if p.source.is_ipv4() {
                (p.identification, p.fragment) = (identification, (more << 13) | (offset / 8));
            } else {
                let place = (offset | more).to_be_bytes();
                p.extensions.push(Extension {
                    number: 44,
                    content: [place, [0; 2], identification.to_be_bytes()].concat(),
                });
            }
        })
    }

    /// For what is different in one case only.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Where the IP header begins.
    pub fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Where the TCP or UDP header begins.
    pub fn l4(&self) -> usize {
        self.l3() + self.ip(0).len()
    }

    pub fn build(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut frame = [self.destination_mac, self.source_mac].concat();
        for (ether_type, tag) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(self.ether_type.to_be_bytes());
        frame.extend(self.ip(segment.len()));
        frame.extend(segment);
        frame
    }

    /// The IP header, extensions and all, before so many bytes.
    fn ip(&self, length: usize) -> Vec<u8> {
        match self.destination {
            IpAddr::V4(_) => self.ipv4(length),
            IpAddr::V6(_) => self.ipv6(length),
        }
    }

    fn ipv4(&self, length: usize) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = (header + length) as u16;
        let mut ip = vec![0x40 | (header / 4) as u8, 0];
        ip.extend(total.to_be_bytes());
        ip.extend(self.identification.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, self.protocol_number(), 0, 0]);
        ip.extend(self.addresses());
        ip.extend(&self.options);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }

    fn ipv6(&self, length: usize) -> Vec<u8> {
        let numbers = self.extensions.iter().map(|extension| extension.number);
        let numbers: Vec<u8> = numbers.chain([self.protocol_number()]).collect();
        let mut extensions = Vec::new();
        for (extension, next) in self.extensions.iter().zip(&numbers[1..]) {
            extensions.extend([*next, (extension.content.len() / 8) as u8]);
            extensions.extend(&extension.content);
        }
        let mut ip = (6 << 28 | self.class_and_label).to_be_bytes().to_vec();
        ip.extend(((extensions.len() + length) as u16).to_be_bytes());
        ip.extend([numbers[0], self.ttl]);
        ip.extend(self.addresses());
        ip.extend(extensions);
        ip
    }

    /// Both, as they stand in the header.
    fn addresses(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
            mixed => panic!("{mixed:?} are of two families"),
        }
    }

    pub fn protocol_number(&self) -> u8 {
        match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp if self.source.is_ipv4() => 1,
            Protocol::Icmp => 58,
            Protocol::Other(number) => number,
        }
    }

    fn segment(&self) -> Vec<u8> {
        let ports = [self.source_port.to_be_bytes(), self.destination_port.to_be_bytes()].concat();
        let (mut segment, at) = match self.protocol {
            Protocol::Other(_) => return self.payload.clone(),
            Protocol::Tcp => {
                let numbers = [self.sequence.0.to_be_bytes(), self.sequence.1.to_be_bytes()].concat();
                let window = self.window.to_be_bytes().to_vec();
                let words = 5 + self.tcp_options.len() / 4;
                let rest = [vec![(words << 4) as u8, self.flags], window, vec![0; 4]].concat();
                let options = self.tcp_options.clone();
                ([ports, numbers, rest, options, self.payload.clone()].concat(), 16)
            }
            Protocol::Udp => {
                let length = (8 + self.payload.len()) as u16;
                let rest = [length.to_be_bytes(), [0, 0]].concat();
                ([ports, rest, self.payload.clone()].concat(), 6)
            }
            Protocol::Icmp => (self.payload.clone(), 2),
        };
        if self.protocol == Protocol::Udp && !self.udp_checksum {
            return segment;
        }
        let mut pseudo = Vec::new();
        if self.protocol != Protocol::Icmp || self.source.is_ipv6() {
            // Those of both families have one sum.
            pseudo.extend(self.addresses());
            pseudo.extend((segment.len() as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, self.protocol_number()]);
        }
        pseudo.extend(&segment);
        let sum = match checksum(&pseudo) {
            0 if self.protocol == Protocol::Udp => 0xffff,
            sum => sum,
        };
        segment[at..at + 2].copy_from_slice(&sum.wrapping_add(self.checksum_error).to_be_bytes());
        segment
    }
}

pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
