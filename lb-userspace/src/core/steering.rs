//! Builds the slot table of a service: who may take new flows, and how often. What picks the slot of a new flow is
//! `lb_common::steer`.
//!
//! For Maglev and by source: weighted Maglev in two rounds. The first shares the table out by the weights of the file. The second corrects it
//! to the weights of this moment: a backend above its share gives up its last slots, those below take turns on what
//! is free. So a drained backend moves its own slots only, and gets the same ones back. Shares are exact within one
//! slot, but a weight above 0 always has one. What the file removes is gone from the first round too: of the slots
//! of the others 0.6 % move then (10 backends).
//!
//! For taking turns: each backend as often as its weight says, spread evenly. For comparing counts: each backend once.
//!
//! Nothing here depends on order or ids: two nodes with one file steer alike. Established flows never ask the table.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lb_common::abi::{Algorithm, BackendId};

use super::fingerprint::mix;

/// Just below powers of two: a walk is a permutation of as many bits, and skips the few numbers beyond the table. Few
/// sizes, since nearly all slots change hands from one to the other.
const SIZES: [usize; 2] = [16_381, 65_521];
const SLOTS_PER_BACKEND: usize = 500;
/// The most slots of those that take turns.
const MAX_TURNS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub backend: BackendId,
    /// What the permutation grows from: alike on every node, which ids are not.
    pub fingerprint: u64,
    /// In the file.
    pub weight: u16,
    /// At this moment; 0 gets no slots.
    pub effective_weight: u16,
}

/// Empty when no backend may take new flows.
pub fn slots(algorithm: Algorithm, shares: &[Share]) -> Vec<BackendId> {
    match algorithm {
        Algorithm::Maglev | Algorithm::Source => maglev(shares),
        Algorithm::RoundRobin => turns(shares),
        Algorithm::LeastConnections => willing(shares).iter().map(|share| share.backend).collect(),
    }
}

/// Those that take new flows, in an order that ids and the file have no part in.
fn willing(shares: &[Share]) -> Vec<&Share> {
    let mut willing: Vec<&Share> = shares.iter().filter(|share| share.effective_weight > 0).collect();
    willing.sort_by_key(|share| share.fingerprint);
    willing
}

/// Each time it is whose next turn comes first, where those of a weight come at even distances.
fn turns(shares: &[Share]) -> Vec<BackendId> {
    let shares = willing(shares);
    let weights: Vec<u16> = shares.iter().map(|share| share.effective_weight).collect();
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: usize = weights.iter().map(|&weight| usize::from(weight / divisor)).sum();
    let quotas = quotas(&weights, total.min(MAX_TURNS.max(weights.len())));
    let due = |owner: usize, taken: usize| {
        (taken < quotas[owner]).then(|| Reverse(((2 * taken as u64 + 1) << 32) / quotas[owner] as u64))
    };
    let mut heap: BinaryHeap<_> = (0..shares.len())
        .filter_map(|owner| Some((due(owner, 0)?, Reverse(owner), 0)))
        .collect();
    let mut slots = Vec::new();
    while let Some((_, Reverse(owner), taken)) = heap.pop() {
        slots.push(shares[owner].backend);
        heap.extend(due(owner, taken + 1).map(|due| (due, Reverse(owner), taken + 1)));
    }
    slots
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn maglev(shares: &[Share]) -> Vec<BackendId> {
    let mut shares: Vec<&Share> = shares
        .iter()
        .filter(|s| s.weight > 0 || s.effective_weight > 0)
        .collect();
    shares.sort_by_key(|share| share.fingerprint);
    if shares.iter().all(|share| share.effective_weight == 0) {
        return Vec::new();
    }
    let mut table = Table::new(&shares);
    for round in [|share: &Share| share.weight, |share: &Share| share.effective_weight] {
        let weights: Vec<u16> = shares.iter().map(|share| round(share)).collect();
        let quotas = quotas(&weights, table.owners.len());
        table.release(&quotas);
        table.fill(&weights, &quotas);
    }
    table
        .owners
        .iter()
        .flatten()
        .map(|&owner| shares[owner].backend)
        .collect()
}

/// Largest remainder; then one slot for each weight that got none, from whoever has most.
fn quotas(weights: &[u16], size: usize) -> Vec<usize> {
    let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let mut quotas: Vec<usize> = weights
        .iter()
        .map(|&weight| size * usize::from(weight) / total)
        .collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| Reverse(size * usize::from(weights[i]) % total));
    let left = size - quotas.iter().sum::<usize>();
    for &i in &by_remainder[..left] {
        quotas[i] += 1;
    }
    for i in 0..weights.len() {
        if weights[i] > 0 && quotas[i] == 0 {
            let most = (0..quotas.len()).max_by_key(|&i| quotas[i]).expect("there is a weight");
            quotas[most] -= 1;
            quotas[i] = 1;
        }
    }
    quotas
}

/// Owners are places in the list of shares.
struct Table {
    owners: Vec<Option<usize>>,
    taken: Vec<usize>,
    seeds: Vec<u64>,
}

impl Table {
    fn new(shares: &[&Share]) -> Self {
        let wanted = shares.len() * SLOTS_PER_BACKEND;
        let size = SIZES
            .into_iter()
            .find(|&size| size >= wanted)
            .unwrap_or(SIZES[SIZES.len() - 1]);
        let seeds = shares.iter().map(|share| share.fingerprint).collect();
        Self {
            owners: vec![None; size],
            taken: vec![0; shares.len()],
            seeds,
        }
    }

    /// All slots in an order of the backend's own. Maglev's first slot and step give it too, but where two backends
    /// have like steps they meet again and again, and one table in a hundred then moves three times as much.
    fn walk(&self, owner: usize) -> impl Iterator<Item = usize> + use<> {
        let size = self.owners.len();
        let (count, half) = (
            size.next_power_of_two() as u64,
            size.next_power_of_two().trailing_zeros() / 2,
        );
        let one = mix(self.seeds[owner]);
        let two = mix(one);
        // Each step has an inverse: adding, multiplying by an odd number, folding the upper half into the lower.
        let permute = move |n: u64| {
            let n = n.wrapping_add(one).wrapping_mul(two | 1) % count;
            let n = (n ^ (n >> half)).wrapping_mul(one >> 32 | 1) % count;
            (n ^ (n >> half)).wrapping_mul(two >> 32 | 1) % count
        };
        (0..count)
            .map(move |n| permute(n) as usize)
            .filter(move |&slot| slot < size)
    }

    /// Whoever has more than its quota keeps the slots that come first on its walk.
    fn release(&mut self, quotas: &[usize]) {
        for (owner, &quota) in quotas.iter().enumerate() {
            if self.taken[owner] <= quota {
                continue;
            }
            let own = self.walk(owner).filter(|&slot| self.owners[slot] == Some(owner));
            let surplus: Vec<usize> = own.skip(quota).collect();
            for slot in surplus {
                self.owners[slot] = None;
            }
            self.taken[owner] = quota;
        }
    }

    /// In turns as frequent as the weights say, each takes the first free slot on its walk.
    fn fill(&mut self, weights: &[u16], quotas: &[usize]) {
        let mut walks: Vec<_> = (0..quotas.len()).map(|owner| self.walk(owner)).collect();
        let turn = |owner: usize, taken: usize| {
            let due = ((2 * taken as u64 + 1) << 32) / u64::from(weights[owner]);
            (taken < quotas[owner]).then_some(Reverse((due, owner)))
        };
        let mut turns: BinaryHeap<_> = (0..quotas.len())
            .filter(|&owner| weights[owner] > 0)
            .filter_map(|owner| turn(owner, self.taken[owner]))
            .collect();
        while let Some(Reverse((_, owner))) = turns.pop() {
            let free = walks[owner].find(|&slot| self.owners[slot].is_none());
            let slot = free.expect("quotas add up to the size, and a walk visits every slot");
            self.owners[slot] = Some(owner);
            self.taken[owner] += 1;
            turns.extend(turn(owner, self.taken[owner]));
        }
    }
}
