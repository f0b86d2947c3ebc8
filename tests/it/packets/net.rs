//! One case before the program: the shape of its frames, an empty flow table, and what it reached.
//!
//! Cases speak of IPv4 addresses; in a case of IPv6, 198.18.1.11 stands for 2001:db8:18:1::11.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use lb_common::abi::Mode;
use lb_common::parse::{ACK, SYN};
use lb_common::verdict::Reason;
use lb_tests::lab::skipped;
use lb_tests::packets::{Action, Builder, Outcome, Protocol, Runner, cut, shorten};

use super::*;

/// What all frames of a case have, and the mode of the services that it speaks to.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub family: Family,
    /// Their EtherTypes, and what they say; the outermost first.
    pub tags: &'static [(u16, u16)],
    pub protocol: Protocol,
    pub mode: Mode,
}

pub struct Net {
    pub runner: MutexGuard<'static, Runner>,
    pub shape: Shape,
    /// Counters that moved, by name.
    reached: BTreeSet<&'static str>,
    /// The first frames, each once.
    sent: Vec<Vec<u8>>,
}

/// Of frames cut short for a case. Those that send more of them send the same again and again.
const MOST_CUT: usize = 24;

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

/// Plays a case, compares all counters at its end with the host's and with the documentation, and then sends its frames
/// once more, cut short.
pub fn play(test: &str, shape: Shape, case: fn(&mut Net)) {
    let Some(runner) = runner(test) else { return };
    let mut net = Net::new(runner, shape);
    case(&mut net);
    net.runner.check_counters().unwrap_or_else(|error| panic!("{error:#}"));
    documentation::check(test, &net.reached);
    net.send_cut();
}

impl Net {
    pub fn new(runner: MutexGuard<'static, Runner>, shape: Shape) -> Self {
        Self {
            runner,
            shape,
            reached: BTreeSet::new(),
            sent: Vec::new(),
        }
    }

    pub fn endpoint(&self, text: &str) -> SocketAddr {
        self.shape.family.endpoint(text)
    }

    pub fn backend(&self, host: u8) -> SocketAddr {
        SocketAddr::new(self.shape.family.address(backend_address(host)), BACKEND_PORT)
    }

    /// Where the service of this kind listens.
    pub fn listen(&self, kind: &Kind) -> SocketAddr {
        self.endpoint(&format!("{VIP}:{}", kind.port(self.shape.mode)))
    }

    /// The first of a flow, in the shape of the case: a SYN or a datagram.
    pub fn packet(&self, source: &str, destination: SocketAddr) -> Builder {
        Builder::between(self.endpoint(source), destination).with(|p| {
            p.tags = self.shape.tags.to_vec();
            p.protocol = self.shape.protocol;
        })
    }

    /// From the usual client to the usual service.
    pub fn first(&self) -> Builder {
        self.from(CLIENT)
    }

    pub fn from(&self, client: &str) -> Builder {
        self.packet(client, self.listen(&WEB))
    }

    pub fn to(&self, kind: &Kind) -> Builder {
        self.packet(CLIENT, self.listen(kind))
    }

    /// From a backend to this port of ours: the first answer of a flow.
    pub fn answer_of(&self, host: u8, snat: &str, port: u16) -> Builder {
        let answer = self.packet(
            &self.backend(host).to_string(),
            self.endpoint(&format!("{snat}:{port}")),
        );
        answer.macs(OUR_BACKEND_MAC, BACKEND_MAC).flags(SYN | ACK)
    }

    pub fn answer(&self, port: u16) -> Builder {
        self.answer_of(BACKEND, SNAT, port)
    }

    /// The port of ours that the next flow tries first.
    pub fn next_port(&mut self, port: u16) {
        self.runner.next_port(port).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// What NAT makes of a client's packet.
    pub fn translated(&self, from: &Builder, port: u16) -> Builder {
        from.clone()
            .macs(BACKEND_MAC, OUR_BACKEND_MAC)
            .from(self.endpoint(&format!("{SNAT}:{port}")))
            .to(self.backend(BACKEND))
            .with(|p| p.ttl -= 1)
    }

    /// What the backend is to get of a client's packet, as the mode has it; `port` is that of ours, with NAT.
    pub fn to_backend(&self, from: &Builder, port: u16) -> Builder {
        match self.shape.mode {
            Mode::Nat => self.translated(from, port),
            Mode::DsrL2 => from.clone().macs(BACKEND_MAC, OUR_BACKEND_MAC),
            Mode::DsrIpip => self.within_another(from),
        }
    }

    /// The packet in one from us to the backend.
    fn within_another(&self, from: &Builder) -> Builder {
        let inner = from.clone().with(|p| p.ttl -= 1).build()[from.l3()..].to_vec();
        let outer = from.clone().macs(BACKEND_MAC, OUR_BACKEND_MAC).with(|p| {
            p.protocol = Protocol::Other(if p.source.is_ipv4() { 4 } else { 41 });
            p.payload = inner;
            p.source = self.endpoint(&format!("{SNAT}:0")).ip();
            p.destination = self.backend(BACKEND).ip();
        });
        outer.with_header_of_ours()
    }

    /// What the client is to get of the backend's.
    pub fn to_client(&self, from: &Builder, client: &str, mac: [u8; 6]) -> Builder {
        from.clone()
            .macs(mac, OUR_CLIENT_MAC)
            .from(self.listen(&WEB))
            .to(self.endpoint(client))
            .with(|p| p.ttl -= 1)
    }

    /// An answer of our own to a packet.
    pub fn own_answer(&self, to: &Builder) -> Builder {
        to.clone().turned().with_header_of_ours().with(|p| p.payload.clear())
    }

    #[track_caller]
    pub fn send(&mut self, frame: &[u8]) -> Outcome {
        let flows_before = self.runner.model.new_flows();
        let outcome = self.runner.send(frame).unwrap_or_else(|error| panic!("{error:#}"));
        self.reached.insert(outcome.reason.map_or("traffic", Reason::name));
        if self.runner.model.new_flows() > flows_before {
            self.reached.insert("new_flows");
        }
        if self.sent.len() < MOST_CUT && !self.sent.iter().any(|sent| sent == frame) {
            self.sent.push(frame.to_vec());
        }
        outcome
    }

    /// All frames once more, each in every length that it can be cut to, once with headers that still tell of all of it
    /// and once with such as tell the truth. What becomes of them is what the host says.
    ///
    /// Of a virtual machine that is too much: `NARU_CUT_STEP` says how many bytes less each time.
    fn send_cut(&mut self) {
        // One tag is no other way through the program than two.
        if self.shape.tags.len() == 1 {
            return;
        }
        let step = random::number("NARU_CUT_STEP", 1) as usize;
        self.reset();
        for frame in std::mem::take(&mut self.sent) {
            for length in (14..frame.len()).rev().step_by(step) {
                self.send(cut(&frame, length));
                if let Some(shorter) = shorten(&frame, length) {
                    self.send(&shorter);
                }
            }
            self.send(&frame);
        }
        self.runner.check_counters().unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[track_caller]
    fn comes_to(&mut self, frame: &[u8], action: Action, reason: Option<Reason>, sent: Vec<u8>) {
        let expected = Outcome {
            action,
            reason,
            frame: sent,
        };
        assert_eq!(self.send(frame), expected, "{:?}", self.shape);
    }

    #[track_caller]
    pub fn passes(&mut self, frame: &[u8], reason: Reason) {
        self.comes_to(frame, Action::Pass, Some(reason), frame.to_vec());
    }

    #[track_caller]
    pub fn drops(&mut self, frame: &[u8], reason: Reason) {
        self.comes_to(frame, Action::Drop, Some(reason), frame.to_vec());
    }

    /// It leaves on the backends' side, like this.
    #[track_caller]
    pub fn becomes(&mut self, frame: &[u8], expected: &Builder) {
        self.comes_to(frame, Action::Redirect, None, expected.build());
    }

    /// It leaves on the clients' side, like this.
    #[track_caller]
    pub fn comes_back_as(&mut self, frame: &[u8], expected: &Builder) {
        self.comes_to(frame, Action::Tx, None, expected.build());
    }

    /// It reaches the backend; with NAT from this port of ours.
    #[track_caller]
    pub fn reaches(&mut self, from: &Builder, port: u16) {
        let expected = self.to_backend(from, port);
        self.becomes(&from.build(), &expected);
    }

    /// An answer reaches the client.
    #[track_caller]
    pub fn returns(&mut self, answer: &Builder, client: &str, mac: [u8; 6]) {
        let expected = self.to_client(answer, client, mac);
        self.comes_back_as(&answer.build(), &expected);
    }

    /// We answer it ourselves, with this frame.
    #[track_caller]
    pub fn answers(&mut self, from: &Builder, answer: &Builder, reason: Reason) {
        self.comes_to(&from.build(), Action::Tx, Some(reason), answer.build());
    }

    /// Of a client's first packet: the backend answers, and the client confirms.
    #[track_caller]
    pub fn establish(&mut self, from: &Builder) {
        let outcome = self.send(&from.build());
        assert_eq!(outcome.reason, None, "{from:?}");
        let port = self.source_port(from, &outcome);
        self.send(&self.answer(port).build());
        self.send(&from.clone().flags(ACK).build());
    }

    /// Of the frame that became of `from`.
    pub fn source_port(&self, from: &Builder, outcome: &Outcome) -> u16 {
        let at = from.l4();
        u16::from_be_bytes([outcome.frame[at], outcome.frame[at + 1]])
    }

    pub fn states(&self) -> Vec<&'static str> {
        self.runner.kernel.flows().iter().map(|flow| flow.state).collect()
    }

    /// How many flows each backend has, by the last number of its address.
    pub fn shares(&self) -> BTreeMap<u8, usize> {
        let mut shares = BTreeMap::new();
        for flow in self.runner.kernel.flows().iter() {
            let id = flow.backend - id(self.shape.family, self.shape.mode, 0);
            *shares.entry(id as u8).or_default() += 1;
        }
        shares
    }

    /// Puts `to` in all slots of `from`.
    pub fn replace_backend(&mut self, from: u8, to: u8) {
        let id = |host| id(self.shape.family, self.shape.mode, host);
        let replaced = self.runner.replace_backend(id(from), id(to));
        replaced.expect("other slots");
    }

    /// Everything as at first.
    pub fn reset(&mut self) {
        self.runner.reset().expect("a runner as at first");
    }
}
