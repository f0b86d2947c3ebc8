//! One case before the program: its address family, its VLAN tags, an empty flow table.
//!
//! Cases speak of IPv4 addresses; in a case of IPv6, 198.18.1.11 stands for 2001:db8:18:1::11.

use std::net::{IpAddr, SocketAddr};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use lb_common::parse::{ACK, SYN};
use lb_common::verdict::Reason;
use lb_tests::lab::skipped;
use lb_tests::packets::{Action, Builder, Outcome, Runner};

use super::*;

/// What all frames of a case have.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub family: Family,
    /// Their EtherTypes, and what they say; the outermost first.
    pub tags: &'static [(u16, u16)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn address(self, [a, b, c, d]: [u8; 4]) -> IpAddr {
        match self {
            Self::Ipv4 => [a, b, c, d].into(),
            // The same digits, read as hexadecimal ones.
            Self::Ipv6 => format!("2001:db8:{b}:{c}::{d}").parse().expect("an address"),
        }
    }

    /// Of `address:port` in IPv4; anything of IPv6 is taken as it is.
    pub fn endpoint(self, text: &str) -> SocketAddr {
        match text.parse().expect("address:port") {
            SocketAddr::V4(v4) => SocketAddr::new(self.address(v4.ip().octets()), v4.port()),
            six => six,
        }
    }
}

pub struct Net {
    runner: MutexGuard<'static, Runner>,
    shape: Shape,
}

/// Loading it takes longer than all cases together.
static RUNNER: LazyLock<Mutex<Runner>> = LazyLock::new(|| Mutex::new(Runner::new(&state()).expect("a runner")));

/// None, and SKIP said, where the tests have no right to load programs.
pub fn runner(test: &str) -> Option<MutexGuard<'static, Runner>> {
    if skipped(test) {
        return None;
    }
    let mut runner = RUNNER.lock().unwrap_or_else(PoisonError::into_inner);
    runner.reset().expect("a runner as at first");
    Some(runner)
}

/// For what would disturb the other cases.
pub fn runner_of_its_own(test: &str) -> Option<Runner> {
    (!skipped(test)).then(|| Runner::new(&state()).expect("a runner"))
}

/// Plays a case, and compares all counters at its end.
pub fn play(test: &str, shape: Shape, case: fn(&mut Net)) {
    let Some(runner) = runner(test) else { return };
    let mut net = Net { runner, shape };
    case(&mut net);
    net.runner.check_traffic().unwrap_or_else(|error| panic!("{error:#}"));
}

impl Net {
    pub fn endpoint(&self, text: &str) -> SocketAddr {
        self.shape.family.endpoint(text)
    }

    /// As of `packets::packet`, in the shape of the case.
    pub fn packet(&self, source: &str, destination: &str) -> Builder {
        Builder::between(self.endpoint(source), self.endpoint(destination)).with(|p| p.tags = self.shape.tags.to_vec())
    }

    /// From the usual client to the service.
    pub fn syn(&self) -> Builder {
        self.packet(CLIENT, VIP)
    }

    /// From the backend to this port of ours.
    pub fn answer(&self, port: u16) -> Builder {
        let answer = self.packet(BACKEND, &format!("{SNAT}:{port}"));
        answer.macs(OUR_BACKEND_MAC, BACKEND_MAC).flags(SYN | ACK)
    }

    /// What the backend is to get of a client's packet.
    pub fn to_backend(&self, from: &Builder, port: u16) -> Vec<u8> {
        from.clone()
            .macs(BACKEND_MAC, OUR_BACKEND_MAC)
            .from(self.endpoint(&format!("{SNAT}:{port}")))
            .to(self.endpoint(BACKEND))
            .with(|p| p.ttl -= 1)
            .build()
    }

    /// What the client is to get of the backend's.
    pub fn to_client(&self, from: &Builder, client: &str, mac: [u8; 6]) -> Vec<u8> {
        from.clone()
            .macs(mac, OUR_CLIENT_MAC)
            .from(self.endpoint(VIP))
            .to(self.endpoint(client))
            .with(|p| p.ttl -= 1)
            .build()
    }

    #[track_caller]
    pub fn send(&mut self, frame: &[u8]) -> Outcome {
        self.runner.send(frame).unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[track_caller]
    pub fn passes(&mut self, frame: &[u8], reason: Reason) {
        self.stops(frame, Action::Pass, reason);
    }

    #[track_caller]
    pub fn drops(&mut self, frame: &[u8], reason: Reason) {
        self.stops(frame, Action::Drop, reason);
    }

    #[track_caller]
    fn stops(&mut self, frame: &[u8], action: Action, reason: Reason) {
        let untouched = Outcome {
            action,
            reason: Some(reason),
            frame: frame.to_vec(),
        };
        assert_eq!(self.send(frame), untouched);
    }

    /// It reaches the backend, from this port of ours.
    #[track_caller]
    pub fn reaches(&mut self, from: &Builder, port: u16) {
        let expected = Outcome {
            action: Action::Redirect,
            reason: None,
            frame: self.to_backend(from, port),
        };
        assert_eq!(self.send(&from.build()), expected, "{from:?}");
    }

    /// An answer reaches the client.
    #[track_caller]
    pub fn returns(&mut self, answer: &Builder, client: &str, mac: [u8; 6]) {
        let expected = Outcome {
            action: Action::Tx,
            reason: None,
            frame: self.to_client(answer, client, mac),
        };
        assert_eq!(self.send(&answer.build()), expected, "{answer:?}");
    }

    /// We answer it ourselves, with this frame.
    #[track_caller]
    pub fn answers(&mut self, from: &Builder, answer: &Builder, reason: Reason) {
        let expected = Outcome {
            action: Action::Tx,
            reason: Some(reason),
            frame: answer.build(),
        };
        assert_eq!(self.send(&from.build()), expected, "{from:?}");
    }

    /// An answer of our own to a packet: its IP header is a new one.
    pub fn own_answer(&self, to: &Builder) -> Builder {
        to.clone().turned().with(|p| {
            (p.ttl, p.identification, p.class_and_label) = (64, 0, 0);
            p.payload.clear();
        })
    }

    /// Of a client's SYN: the backend answers, and the client confirms.
    #[track_caller]
    pub fn establish(&mut self, from: &Builder) {
        let outcome = self.send(&from.build());
        assert_eq!(outcome.reason, None, "{from:?}");
        let port = self.source_port(from, &outcome);
        self.send(&self.answer(port).build());
        self.send(&from.clone().flags(ACK).build());
    }

    /// All backends are lost; what is sent to the peers of their flows, and by which interface.
    pub fn lose_backends(&mut self) -> Vec<(u32, Vec<u8>)> {
        self.runner.lose_backends().unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub fn end_flow(&mut self, of: &Builder) {
        self.runner.end_flow(of);
    }

    /// Of the frame that became of `from`.
    pub fn source_port(&self, from: &Builder, outcome: &Outcome) -> u16 {
        let at = from.l4();
        u16::from_be_bytes([outcome.frame[at], outcome.frame[at + 1]])
    }

    pub fn states(&self) -> Vec<&'static str> {
        self.runner.kernel.flows().iter().map(|flow| flow.state).collect()
    }

    /// Of each flow.
    pub fn backends(&self) -> Vec<SocketAddr> {
        let flows = self.runner.kernel.flows().iter();
        flows.map(|flow| flow.backend_address).collect()
    }

    /// Puts `to` in all slots of `from`; ids are those of the IPv4 backends.
    pub fn replace_backend(&mut self, from: u16, to: u16) {
        let family = self.shape.family;
        let replaced = self.runner.replace_backend(id(family, from), id(family, to));
        replaced.expect("other slots");
    }

    /// Everything as at first.
    pub fn reset(&mut self) {
        self.runner.reset().expect("a runner as at first");
    }
}
