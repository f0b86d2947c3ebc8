//! The laws of slot tables.

use std::collections::BTreeMap;

use lb_common::abi::Algorithm;
use proptest::prelude::*;

use super::*;

fn share(backend: BackendId, seed: u64, weight: u16) -> Share {
    Share {
        backend,
        fingerprint: mix(seed << 16 | u64::from(backend)),
        weight,
        effective_weight: weight,
    }
}

fn service(seed: u64, weights: &[u16]) -> Vec<Share> {
    (1..)
        .zip(weights)
        .map(|(id, &weight)| share(id, seed, weight))
        .collect()
}

fn slots(shares: &[Share]) -> Vec<BackendId> {
    super::slots(Algorithm::Maglev, shares)
}

fn counts(slots: &[BackendId]) -> BTreeMap<BackendId, usize> {
    let mut counts = BTreeMap::new();
    for &backend in slots {
        *counts.entry(backend).or_default() += 1;
    }
    counts
}

/// Slots that changed hands though their owner in `before` was not `gone`, of all such slots.
fn moved(before: &[BackendId], after: &[BackendId], gone: BackendId) -> (usize, usize) {
    assert_eq!(before.len(), after.len());
    let others = before.iter().zip(after).filter(|(owner, _)| **owner != gone);
    (others.clone().filter(|(a, b)| a != b).count(), others.count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shares_are_exact_within_one_slot(
        seed: u64,
        weights in proptest::collection::vec((0..=100u16, 0..=100u16), 1..20),
    ) {
        let mut shares = service(seed >> 16, &weights.iter().map(|w| w.0).collect::<Vec<_>>());
        for (share, &(_, now)) in shares.iter_mut().zip(&weights) {
            share.effective_weight = now;
        }
        let table = slots(&shares);
        let counts = counts(&table);
        let total: f64 = weights.iter().map(|w| f64::from(w.1)).sum();
        prop_assert_eq!(table.is_empty(), total == 0.0);
        for share in &shares {
            let exact = if total == 0.0 { 0.0 } else { table.len() as f64 * f64::from(share.effective_weight) / total };
            let count = counts.get(&share.backend).copied().unwrap_or_default();
            prop_assert!((count as f64 - exact).abs() < 1.0 || (exact < 1.0 && count == 1), "{} of {}", count, exact);
            prop_assert_eq!(count == 0, share.effective_weight == 0);
        }
    }

    #[test]
    fn order_and_ids_do_not_matter(seed: u64, weights in proptest::collection::vec(0..10u16, 1..20)) {
        let shares = service(seed >> 16, &weights);
        let renumbered: Vec<Share> =
            shares.iter().rev().map(|s| Share { backend: s.backend + 100, ..*s }).collect();
        let expected: Vec<BackendId> = slots(&shares).iter().map(|backend| backend + 100).collect();
        prop_assert_eq!(slots(&renumbered), expected);
    }

    #[test]
    fn a_drained_backend_moves_its_own_slots_only(seed: u64, weights in proptest::collection::vec(1..10u16, 2..12)) {
        let mut shares = service(seed >> 16, &weights);
        let before = slots(&shares);
        shares[0].effective_weight = 0;
        let after = slots(&shares);
        prop_assert_eq!(moved(&before, &after, shares[0].backend).0, 0);
    }

    #[test]
    fn a_backend_removed_from_the_file_moves_few_slots_of_the_others(seed: u64) {
        let shares = service(seed >> 16, &[1; 10]);
        let (moved, others) = moved(&slots(&shares), &slots(&shares[1..]), shares[0].backend);
        prop_assert!(moved * 100 < others, "{} of {}", moved, others);
    }
}

#[test]
fn tables_grow_with_the_service() {
    let sizes = [1, 32, 33, 200].map(|backends| slots(&service(7, &vec![1; backends])).len());
    assert_eq!(sizes, [16_381, 16_381, 65_521, 65_521]);
    assert!(slots(&[]).is_empty());
    assert!(slots(&service(7, &[0, 0])).is_empty());
}

#[test]
fn turns_are_as_frequent_as_the_weights_and_evenly_spread() {
    let turns = super::slots(Algorithm::RoundRobin, &service(7, &[20, 40, 0, 60]));
    assert_eq!(counts(&turns), BTreeMap::from([(1, 1), (2, 2), (4, 3)]));
    let heaviest: Vec<usize> = (0..turns.len()).filter(|&at| turns[at] == 4).collect();
    assert!(heaviest.windows(2).all(|pair| pair[1] - pair[0] <= 3), "{turns:?}");
    let huge = super::slots(Algorithm::RoundRobin, &service(7, &[1000; 100]));
    assert_eq!(huge.len(), 100);
    let odd = super::slots(Algorithm::RoundRobin, &service(7, &[997, 991, 983, 977, 971]));
    assert_eq!(odd.len(), MAX_TURNS);
}

#[test]
fn whoever_counts_flows_compares_each_willing_backend_once() {
    let mut compared = super::slots(Algorithm::LeastConnections, &service(7, &[5, 0, 1]));
    compared.sort_unstable();
    assert_eq!(compared, [1, 3]);
}
