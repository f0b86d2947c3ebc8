//! A frame from its fields, with checksums computed from scratch: the definition that the program's updates must meet.

use std::net::Ipv4Addr;

pub const SYN: u8 = 0x02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    /// Any other, by its IP protocol number; the payload follows the IP header.
    Other(u8),
}

/// Every field may be set; those that are not have the values of an ordinary packet.
#[derive(Clone, Debug)]
pub struct Builder {
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    pub ether_type: u16,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: u8,
    pub fragment: u16,
    pub options: Vec<u8>,
    pub protocol: Protocol,
    pub source_port: u16,
    pub destination_port: u16,
    pub flags: u8,
    pub sequence: (u32, u32),
    pub payload: Vec<u8>,
    pub udp_checksum: bool,
    /// Added to the transport checksum, to make it wrong on purpose.
    pub checksum_error: u16,
}

/// A TCP SYN from `source` to `destination`, each `address:port`.
pub fn packet(source: &str, destination: &str) -> Builder {
    let parse = |text: &str| text.parse::<std::net::SocketAddrV4>().expect("address:port");
    let (source, destination) = (parse(source), parse(destination));
    Builder {
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        ether_type: 0x0800,
        source: *source.ip(),
        destination: *destination.ip(),
        ttl: 64,
        fragment: 0x4000,
        options: Vec::new(),
        protocol: Protocol::Tcp,
        source_port: source.port(),
        destination_port: destination.port(),
        flags: SYN,
        sequence: (1000, 0),
        payload: Vec::new(),
        udp_checksum: true,
        checksum_error: 0,
    }
}

impl Builder {
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

    /// For what is different in one case only.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let segment = self.segment();
        let header = 20 + self.options.len();
        let total = (header + segment.len()) as u16;
        let mut ip = vec![0x40 | (header / 4) as u8, 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0x12, 0x34]);
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, self.protocol_number(), 0, 0]);
        ip.extend(self.source.octets());
        ip.extend(self.destination.octets());
        ip.extend(&self.options);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut frame = [self.destination_mac, self.source_mac].concat();
        frame.extend(self.ether_type.to_be_bytes());
        frame.extend(ip);
        frame.extend(segment);
        frame
    }

    fn protocol_number(&self) -> u8 {
        match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Other(number) => number,
        }
    }

    fn segment(&self) -> Vec<u8> {
        let ports = [self.source_port.to_be_bytes(), self.destination_port.to_be_bytes()].concat();
        let (mut segment, at) = match self.protocol {
            Protocol::Other(_) => return self.payload.clone(),
            Protocol::Tcp => {
                let numbers = [self.sequence.0.to_be_bytes(), self.sequence.1.to_be_bytes()].concat();
                (
                    [ports, numbers, vec![0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]].concat(),
                    16,
                )
            }
            Protocol::Udp => {
                let length = (8 + self.payload.len()) as u16;
                ([ports, length.to_be_bytes().to_vec(), vec![0, 0]].concat(), 6)
            }
        };
        segment.extend(&self.payload);
        if self.protocol == Protocol::Udp && !self.udp_checksum {
            return segment;
        }
        let mut pseudo = [self.source.octets(), self.destination.octets()].concat();
        pseudo.extend([0, self.protocol_number()]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        pseudo.extend(&segment);
        let sum = match checksum(&pseudo) {
            0 if self.protocol == Protocol::Udp => 0xffff,
            sum => sum,
        };
        segment[at..at + 2].copy_from_slice(&sum.wrapping_add(self.checksum_error).to_be_bytes());
        segment
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
