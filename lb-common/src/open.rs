//! A new flow: the service's slot names its backend, a source port is found, both directions enter the table.
//!
//! The entry towards the client goes first, since its key is what has to be free: backend, SNAT address, port.

use crate::abi::{Backend, BackendId, Listen, Mode, NextHop};
use crate::decide::{Flows, Tables};
use crate::family::Address;
use crate::flow_table::{Claim, Claimed, FlowKey, Loop, Manner, SHIFTED, TO_CLIENT, claim};
use crate::frame::Frame;
use crate::lease;
use crate::parse::{ETHER_SOURCE, Parsed};
use crate::port_rest::Numbers;
use crate::ports;
use crate::steer::steer;
use crate::timestamps;
use crate::verdict::Reason;
use crate::wire::{Be16, Ip};

/// What is known of a flow before it is in the table. It is handed from stage to stage, and does not fit a stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<A> {
    /// The client's first packet.
    pub parsed: Parsed<A>,
    pub hash: u64,
    pub backend: BackendId,
    pub manner: Manner,
    /// Of the way to the backend where the packet is too big for it, else 0.
    pub mtu: u16,
    /// Of the backend's packets.
    pub reply: FlowKey<A>,
    /// Towards the client.
    pub back: NextHop,
    /// Of the client's first packet.
    pub syn: Numbers,
    /// Of the flow's timestamps, as in `port_rest`.
    pub shift: u16,
}

/// Memory for one `Opening`, of whoever opens a flow just now and of nobody else.
pub trait Scratch<A> {
    #[expect(
        clippy::mut_from_ref,
        reason = "each stage asks once, and a CPU has one packet in hand"
    )]
    fn opening(&self) -> Option<&mut Opening<A>>;
}

/// Opens the flow of `opening.parsed`, and tells where its entry is.
//
// VERIFIER (6.1): does not follow a pointer through a `Result`.
#[inline(always)]
pub fn open<F: Frame, A: Address, T: Tables + Flows<A>>(
    frame: &F,
    tables: &T,
    opening: &mut Opening<A>,
    ingress: u32,
) -> Result<u32, Reason> {
    let parsed = &opening.parsed;
    let key = &parsed.key;
    let service = tables.listen(&listen_of(key)).ok_or(Reason::NotOurs)?;
    lease::held(tables, service.lease)?;
    if !parsed.opens() {
        return Err(Reason::UnknownFlow);
    }
    if is_martian(key) {
        return Err(Reason::Martian);
    }
    let mode = Mode::of(service.mode);
    if parsed.ttl <= 1 && mode != Mode::DsrL2 {
        return Err(Reason::TtlExpired);
    }
    let hash = key.hash();
    let id = steer(tables, &service, key, hash).ok_or(Reason::NoBackend)?;
    let backend = tables
        .backend(id)
        .filter(|backend| backend.fingerprint != 0)
        .ok_or(Reason::NoBackend)?;
    if !backend.next_hop.is_known() {
        return Err(Reason::NextHopUnknown);
    }
    opening.reply = FlowKey {
        source: A::from_ip(&backend.address),
        destination: A::default(),
        source_port: backend.port,
        destination_port: Be16::default(),
        protocol: key.protocol,
    };
    (opening.hash, opening.backend) = (hash, id);
    opening.manner = Manner {
        mode,
        lease: service.lease,
    };
    if mode != Mode::Nat {
        return enter_one_way(tables, opening, backend);
    }
    opening.back = way_back(frame, tables, &key.source.ip(), ingress).ok_or(Reason::NextHopUnknown)?;
    read_numbers(frame, tables, opening);
    let to_client = ports::claim_port(tables, opening, backend)?;
    opening.shift = ports::shift(tables, opening);
    enter(tables, opening, backend, &to_client)
}

/// Puts both directions into the table.
///
/// A function of its own in the kernel too, as is `claim_port`: its stack is short.
#[inline(never)]
fn enter<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    opening: &Opening<A>,
    backend: &Backend,
    to_client: &Claim,
) -> Result<u32, Reason> {
    let (key, reply) = (&opening.parsed.key, &opening.reply);
    let to_backend = claimed(claim(tables, key)).inspect_err(|_| to_client.abandon::<A, _>(tables))?;
    let now = tables.now();
    to_client.fill(tables, (reply, key), &opening.back, to_backend.index, now);
    to_backend.fill(tables, (key, reply), &backend.next_hop, to_client.index, now);
    let mut marks = 0;
    if opening.shift != 0 {
        marks = SHIFTED;
        to_client.put_for_l4_delta::<A, _>(tables, opening.shift);
        to_backend.put_for_l4_delta::<A, _>(tables, opening.shift);
    }
    to_client.publish::<A, _>(tables, opening.backend, opening.manner, marks | TO_CLIENT);
    tables.count_new_flow(opening.backend);
    to_backend.publish::<A, _>(tables, opening.backend, opening.manner, marks);
    Ok(to_backend.index)
}

/// The backend answers the client itself: there is one direction only.
#[inline(never)]
fn enter_one_way<A: Address, T: Tables + Flows<A>>(
    tables: &T,
    opening: &mut Opening<A>,
    backend: &Backend,
) -> Result<u32, Reason> {
    // Several sources spread the packets over the queues of the backend's network card.
    if let Some(source) = ports::source(backend, opening.hash as u32) {
        opening.reply.destination = source;
    }
    opening.mtu = if backend.mtu > u16::MAX as u32 {
        u16::MAX
    } else {
        backend.mtu as u16
    };
    let (key, reply) = (&opening.parsed.key, &opening.reply);
    let claim = claimed(claim(tables, key))?;
    claim.fill(tables, (key, reply), &backend.next_hop, claim.index, tables.now());
    claim.put_for_l4_delta::<A, _>(tables, opening.mtu);
    tables.count_new_flow(opening.backend);
    claim.publish::<A, _>(tables, opening.backend, opening.manner, 0);
    Ok(claim.index)
}

/// Reads what a backend will compare of a client's first packet.
//
// VERIFIER: a function of its own, after which it knows as much of the frame as before.
#[inline(never)]
fn read_numbers<F: Frame, A: Address>(frame: &F, loops: &impl Loop, opening: &mut Opening<A>) {
    let parsed = opening.parsed.bounded();
    let at = timestamps::find(frame, loops, &parsed);
    opening.syn = Numbers::new(parsed.sequence, at.and_then(|at| timestamps::value(frame, at)));
}

#[inline(always)]
fn claimed<A>(claimed: Claimed<A>) -> Result<Claim, Reason> {
    match claimed {
        Claimed::Ours(claim) => Ok(claim),
        Claimed::Full => Err(Reason::FlowTableFull),
        Claimed::Taken(_) | Claimed::Busy => Err(Reason::FlowRace),
    }
}

#[inline(always)]
pub fn listen_of<A: Address>(key: &FlowKey<A>) -> Listen {
    Listen {
        address: key.destination.ip(),
        port: key.destination_port,
        protocol: key.protocol,
        unused: 0,
    }
}

/// Sources that cannot be a client's; the listen address itself is one.
#[inline(always)]
fn is_martian<A: Address>(key: &FlowKey<A>) -> bool {
    key.source.is_martian() || key.source.difference(&key.destination) == 0
}

/// An on-link client is its own next hop, and the frame in hand came from it.
#[inline(always)]
fn way_back<F: Frame, T: Tables>(frame: &F, tables: &T, client: &Ip, ingress: u32) -> Option<NextHop> {
    let route = tables.route(client)?;
    let mut back = route.next_hop;
    if route.on_link != 0 {
        if back.ifindex != ingress {
            return None;
        }
        let mac = [
            frame.read::<u16>(ETHER_SOURCE)?,
            frame.read(ETHER_SOURCE + 2)?,
            frame.read(ETHER_SOURCE + 4)?,
        ];
        let [a, b, c] = mac.map(u16::to_ne_bytes);
        back.ether = back.ether.towards([a[0], a[1], b[0], b[1], c[0], c[1]]);
    }
    back.is_known().then_some(back)
}
