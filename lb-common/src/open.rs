//! A new flow: the service's slot names its backend, a source port is found, both directions enter the table.
//!
//! The entry towards the client goes first, since its key is what has to be free: backend, SNAT address, port.

use crate::abi::{Backend, BackendId, Listen, NextHop, SNAT_PORTS_HIGH, SNAT_PORTS_LOW, ServiceId};
use crate::checksum::Delta;
use crate::decide::Tables;
use crate::flow_table::{Claim, Claimed, FlowKey, Found, Rewrite, State, TO_CLIENT, claim, partner, release};
use crate::parse::{ETHER_SOURCE, Frame, Parsed};
use crate::verdict::Reason;
use crate::wire::{Be16, Be32};

/// How many source ports are tried for a new flow.
const PORT_TRIES: u32 = 16;
/// Before the port of a flow that is over is taken. What its peers still owe each other would reach the wrong ones.
const FREE_TRIES: u32 = 12;
/// In ticks: a second, the last of several retransmissions.
const SILENCE: u32 = 8;

#[inline(always)]
pub fn open<F: Frame, T: Tables>(frame: &F, tables: &T, parsed: &Parsed, ingress: u32) -> Result<Found, Reason> {
    let key = &parsed.key;
    let service = tables.listen(&listen_of(key)).ok_or(Reason::NotOurs)?;
    if !parsed.opens() {
        return Err(Reason::UnknownFlow);
    }
    if is_martian(key) {
        return Err(Reason::Martian);
    }
    if parsed.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let hash = key.hash();
    let id = tables.slot(service.id as ServiceId, hash).ok_or(Reason::NoBackend)?;
    let backend = tables
        .backend(id)
        .filter(|backend| backend.fingerprint != 0)
        .ok_or(Reason::NoBackend)?;
    if !backend.next_hop.is_known() {
        return Err(Reason::NextHopUnknown);
    }
    let back = way_back(frame, tables, key.source, ingress).ok_or(Reason::NextHopUnknown)?;

    let (to_client, reply) = claim_port(tables, key, backend, hash)?;
    let to_backend = match claim(tables, key) {
        Claimed::Ours(claim) => claim,
        other => {
            to_client.abandon();
            return Err(if matches!(other, Claimed::Full) {
                Reason::FlowTableFull
            } else {
                Reason::FlowRace
            });
        }
    };
    Ok(publish(
        tables,
        key,
        &reply,
        to_backend,
        to_client,
        (id, backend),
        &back,
    ))
}

/// The backend that a new flow of this key would get now.
#[inline(always)]
pub fn chosen<T: Tables>(tables: &T, key: &FlowKey) -> Option<BackendId> {
    let service = tables.listen(&listen_of(key))?;
    tables.slot(service.id as ServiceId, key.hash())
}

#[inline(always)]
const fn listen_of(key: &FlowKey) -> Listen {
    Listen {
        address: key.destination,
        port: key.destination_port,
        protocol: key.protocol,
        unused: 0,
    }
}

/// Sources that cannot be a client's: 0/8, 127/8, multicast and beyond, and the listen address itself.
#[inline(always)]
const fn is_martian(key: &FlowKey) -> bool {
    let first = key.source.get() >> 24;
    first == 0 || first == 127 || first >= 224 || key.source.be == key.destination.be
}

/// An on-link client is its own next hop, and the frame in hand came from it.
#[inline(always)]
fn way_back<F: Frame, T: Tables>(frame: &F, tables: &T, client: Be32, ingress: u32) -> Option<NextHop> {
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

/// Claims the reply's entry under the client's own port or the next free one after a place that its key decides,
/// so that a client which comes again from one port keeps meeting the same port of ours.
#[inline(always)]
fn claim_port<T: Tables>(tables: &T, key: &FlowKey, backend: &Backend, hash: u64) -> Result<(Claim, FlowKey), Reason> {
    let mut port = if is_snat_port(key.source_port.get()) {
        key.source_port
    } else {
        snat_port(hash as u32)
    };
    let mut tried = 0;
    let mut blocked = Reason::SnatPortsExhausted;
    while tried < PORT_TRIES {
        let reply = FlowKey {
            source: backend.address,
            destination: backend.snat,
            source_port: backend.port,
            destination_port: port,
            protocol: key.protocol,
        };
        match claim(tables, &reply) {
            Claimed::Ours(claim) => return Ok((claim, reply)),
            // Rather than to be refused, the port of a flow that is over and that both sides are silent about.
            Claimed::Taken(old) if tried >= FREE_TRIES && is_silent(tables, &old) && release(tables, &old) => {}
            Claimed::Taken(_) | Claimed::Busy => port = snat_port((hash as u32).wrapping_add((tried + 1) * 4099)),
            Claimed::Full => {
                blocked = Reason::FlowTableFull;
                port = snat_port((hash as u32).wrapping_add((tried + 1) * 4099));
            }
        }
        tried += 1;
    }
    Err(blocked)
}

#[inline(always)]
fn is_silent<T: Tables>(tables: &T, flow: &Found) -> bool {
    let quiet = |flow: &Found| tables.now().wrapping_sub(flow.entry.last_seen()) >= SILENCE;
    flow.word.is(State::Closing) && quiet(flow) && partner(tables, flow).is_none_or(|other| quiet(&other))
}

const LOW_COUNT: u32 = (SNAT_PORTS_LOW.1 - SNAT_PORTS_LOW.0) as u32 + 1;
const HIGH_COUNT: u32 = (SNAT_PORTS_HIGH.1 - SNAT_PORTS_HIGH.0) as u32 + 1;

#[inline(always)]
const fn is_snat_port(port: u16) -> bool {
    port >= SNAT_PORTS_LOW.0 && port <= SNAT_PORTS_LOW.1 || port >= SNAT_PORTS_HIGH.0
}

/// Numbers all source ports round and round.
#[inline(always)]
const fn snat_port(number: u32) -> Be16 {
    let n = number % (LOW_COUNT + HIGH_COUNT);
    Be16::new(if n < LOW_COUNT {
        SNAT_PORTS_LOW.0 + n as u16
    } else {
        SNAT_PORTS_HIGH.0 + (n - LOW_COUNT) as u16
    })
}

#[inline(always)]
fn publish<T: Tables>(
    tables: &T,
    key: &FlowKey,
    reply: &FlowKey,
    to_backend: Claim,
    to_client: Claim,
    (id, backend): (BackendId, &Backend),
    back: &NextHop,
) -> Found {
    let now = tables.now();
    to_client.fill(reply, &rewrite_between(reply, key, back), to_backend.index, now);
    to_backend.fill(
        key,
        &rewrite_between(key, reply, &backend.next_hop),
        to_client.index,
        now,
    );
    to_client.publish(id, TO_CLIENT);
    tables.count_new_flow(id);
    to_backend.publish(id, 0)
}

/// What turns a packet of one direction into one that the other direction answers.
#[inline(always)]
fn rewrite_between(from: &FlowKey, answer: &FlowKey, next_hop: &NextHop) -> Rewrite {
    let addresses = Delta::NONE
        .replace32(from.source.be, answer.destination.be)
        .replace32(from.destination.be, answer.source.be);
    let ports = addresses
        .replace16(from.source_port.be, answer.destination_port.be)
        .replace16(from.destination_port.be, answer.source_port.be);
    Rewrite {
        source: answer.destination,
        destination: answer.source,
        source_port: answer.destination_port,
        destination_port: answer.source_port,
        next_hop: *next_hop,
        ip_delta: addresses.plus(Delta::TTL_DECREMENT).fold(),
        l4_delta: ports.fold(),
    }
}
