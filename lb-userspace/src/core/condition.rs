//! Concludes how a backend stands: its state in one word, why, and the weight it has at this moment.
//!
//! A backend that no frame can reach is down, whatever its checks say: in the slot table it would only waste its share
//! of the new flows. One that has never been judged takes none: a check takes less time than a client's second SYN.
//! Disabled and draining outrank down, since an operator who said so looks for that word.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_common::abi::{Mode, NextHop};
use serde::{Deserialize, Serialize};

use super::alarm::shift::Shifted;
use super::config::Config;
use super::health::judge::{Judge, Standing};
use super::members::Member;
use super::next_hops::{NextHops, Unreachable};
use super::overrides::{Override, Said};
use super::world::Moment;

/// How long a backend may be out of reach until its flows count as lost: a link or a neighbour often comes back.
const OUT_OF_REACH: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Up,
    Down,
    /// Answers well, and is not the one to use now.
    Standby,
    Draining,
    Disabled,
    /// Never judged.
    Checking,
    /// A name without an address, so nobody yet.
    Unresolved,
}

impl State {
    /// As documents and people have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Standby => "standby",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
            Self::Checking => "checking",
            Self::Unresolved => "unresolved",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub state: State,
    /// Empty when there is nothing to say.
    pub reason: String,
    /// When it came into this state.
    pub since: Moment,
    /// From then on it cannot, or must not, serve the flows it has.
    pub dead_from: Option<Instant>,
    /// As the file, an alarm or an operator has it.
    pub weight: u16,
    /// It is only held down, and this would be its share.
    pub held: Option<u16>,
    /// At this moment; 0 takes no new flows.
    pub effective_weight: u16,
    /// The same in the coin of its service, which may be a smaller one for all of it.
    pub share: u16,
    /// Not known: no frame can reach it.
    pub next_hop: NextHop,
    /// The node itself has no way to it.
    pub is_own_fault: bool,
    /// What our packets to it come from.
    pub snat: Vec<IpAddr>,
}

/// The network's part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub next_hop: Result<NextHop, Unreachable>,
    pub snat: Vec<IpAddr>,
}

impl Way {
    pub fn to(member: &Member, config: &Config, hops: &NextHops) -> Self {
        let address = member.address.ip();
        let service = member.name.as_ref().and_then(|name| config.services.get(&name.service));
        let path = hops.route_to(address);
        let shared = service.and_then(|service| config.shared_listens(service));
        let snat = match service.map_or(&[][..], |service| &service.snat) {
            [] if shared.is_some() => shared.into_iter().flatten().collect(),
            [] => path.and_then(|path| path.source).into_iter().collect(),
            given => given.to_vec(),
        };
        let mode = service.map(|service| service.mode).unwrap_or_default();
        let next_hop = hops.next_hop(address).and_then(|next_hop| {
            if let Some(path) = path.filter(|path| mode == Mode::DsrL2 && path.next != address) {
                let gateway = path.next;
                return Err(Unreachable::BeyondGateway { address, gateway });
            }
            if mode == Mode::DsrL2 {
                return Ok(next_hop);
            }
            if snat.is_empty() && member.leaving.is_none() {
                let interface = hops.network.links[&next_hop.ifindex].name.clone();
                return Err(Unreachable::NoSource { address, interface });
            }
            Ok(next_hop)
        });
        Self { next_hop, snat }
    }
}

impl Condition {
    pub fn conclude(
        member: &Member,
        said: Option<&Override>,
        shifted: Option<&Shifted>,
        way: &Way,
        judge: Option<&Judge>,
        now: Moment,
    ) -> Self {
        let mut reasons = Vec::new();
        let (mut weight, mut share) = shifted.map_or((member.weight, member.weight), |to| (to.weight, to.share));
        let alarm = shifted.and_then(|shifted| shifted.by.as_deref());
        reasons.extend(alarm.map(|alarm| format!("weight {weight} {alarm}")));
        if let Some((override_weight, said)) = said.and_then(|said| said.weight.as_ref()) {
            weight = *override_weight;
            share = if shifted.is_some() { share } else { weight };
            reasons.push(format!("weight {weight} by {}", said.by));
        }
        let disable = said.and_then(|said| said.disable.as_ref());
        let drain = said.and_then(|said| said.drain.as_ref());
        let draining = member.leaving.is_some() || drain.is_some() || weight == 0 && alarm.is_none();
        if let Some(leaving) = member.leaving {
            reasons = vec![leaving.why().to_owned()];
        } else if disable.is_some() || drain.is_some() {
            let word = |word, said: Option<&Said>| said.map(|said| format!("{word} by {}", said.by));
            reasons = [word("disabled", disable), word("drained", drain)]
                .into_iter()
                .flatten()
                .chain(reasons)
                .collect();
        } else if weight == 0 && reasons.is_empty() {
            reasons.push("weight 0".to_owned());
        }
        match &way.next_hop {
            Ok(_) => reasons.extend(judge.map(|judge| judge.reason().to_owned())),
            Err(unreachable) => reasons.push(unreachable.to_string()),
        }
        reasons.retain(|reason| !reason.is_empty());
        let state = match &way.next_hop {
            _ if disable.is_some() => State::Disabled,
            _ if draining => State::Draining,
            Err(_) => State::Down,
            Ok(_) => match judge.map_or(State::Up, |judge| state(judge.standing())) {
                // Its flows go on: it is well, and alarms do not end anything.
                State::Up if weight == 0 => State::Standby,
                state => state,
            },
        };
        let is_held = judge.is_some_and(Judge::is_held);
        // Checks have taken their time to be sure.
        let is_down = judge.is_some_and(|judge| judge.standing() == Standing::Down) && !is_held;
        let lost = is_down || judge.is_some_and(Judge::has_other_role);
        let dead_from = match &way.next_hop {
            _ if disable.is_some() || lost => Some(now.monotonic),
            Err(_) => Some(now.monotonic + OUT_OF_REACH),
            Ok(_) => None,
        };
        let held = (is_held && state == State::Down && way.next_hop.is_ok() && weight > 0).then_some(share);
        let (effective_weight, share) = if state == State::Up { (weight, share) } else { (0, 0) };
        Self {
            state,
            reason: reasons.join("; "),
            since: now,
            dead_from,
            weight,
            held,
            effective_weight,
            share,
            next_hop: way.next_hop.clone().unwrap_or_default(),
            is_own_fault: way.next_hop.as_ref().is_err_and(Unreachable::is_own_fault),
            snat: way.snat.clone(),
        }
    }

    /// Keeps since when it is in its state, and dead. When the node has a way again, one that was not dead yet gets its
    /// time anew: its neighbour has to be found first.
    pub fn continue_from(&mut self, before: &Self) {
        let now = self.since.monotonic;
        let is_way_back = before.is_own_fault && !self.is_own_fault;
        let dead_before = before.dead_from.filter(|dead| *dead <= now || !is_way_back);
        if self.state == before.state {
            self.since = before.since;
        }
        self.dead_from = self
            .dead_from
            .map(|from| dead_before.map_or(from, |before| before.min(from)));
    }

    /// It serves although it is held down.
    pub fn release(&mut self, why: &str) {
        if let Some(share) = self.held.take() {
            self.state = State::Up;
            self.effective_weight = self.weight;
            self.share = share;
            self.add_reason(why);
        }
    }

    pub fn add_reason(&mut self, reason: &str) {
        if !self.reason.is_empty() {
            self.reason.push_str("; ");
        }
        self.reason.push_str(reason);
    }

    /// Whether nothing but the way to it has been lost.
    pub fn is_lost_beside(&self, before: &Self) -> bool {
        self.state == State::Down
            && !self.next_hop.is_known()
            && before.state == State::Up
            && before.next_hop.is_known()
    }
}

const fn state(standing: Standing) -> State {
    match standing {
        Standing::Checking => State::Checking,
        Standing::Presumed | Standing::Up => State::Up,
        Standing::Standby => State::Standby,
        Standing::Down => State::Down,
    }
}
