//! Divides the weight of a name among its addresses, in whole numbers for all of a service.
//!
//! All weights are brought into a smaller coin: 40, and 60 for three addresses, are 40 and 20 each; 1, and 1 for three,
//! are 3 and 1 each. The coin is as small as it has to be, and as `u16` has room for; beyond that the nearest number is
//! taken. More than nothing stays so. Without names nothing changes. Tested here.

/// A weight, and among how many it is shared.
pub type Shared = (u16, u16);

pub fn divided(weights: &[Shared]) -> Vec<u16> {
    let most = weights.iter().map(|(weight, _)| u64::from(*weight)).max().unwrap_or(0);
    let largest = u64::from(u16::MAX) / most.max(1);
    let shared = weights.iter().filter(|(weight, _)| *weight > 0);
    let coin = shared
        .map(|&(weight, sharers)| u64::from(sharers) / gcd(weight.into(), sharers.into()))
        .fold(1, |coin, finest| (coin / gcd(coin, finest) * finest).min(largest));
    weights
        .iter()
        .map(|&(weight, sharers)| part(weight, sharers, coin))
        .collect()
}

fn part(weight: u16, sharers: u16, coin: u64) -> u16 {
    let (whole, sharers) = (u64::from(weight) * coin, u64::from(sharers.max(1)));
    let nearest = (whole + sharers / 2) / sharers;
    u16::try_from(nearest.max(u64::from(weight > 0))).unwrap_or(u16::MAX)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_are_shared_exactly_where_they_can_be() {
        assert_eq!(divided(&[(40, 1), (60, 1)]), [40, 60], "nobody shares");
        assert_eq!(divided(&[(40, 1), (60, 3), (60, 3), (60, 3)]), [40, 20, 20, 20]);
        assert_eq!(divided(&[(1, 1), (1, 3), (1, 3), (1, 3)]), [3, 1, 1, 1]);
        assert_eq!(divided(&[(1, 2), (1, 2), (1, 3), (1, 3), (1, 3)]), [3, 3, 2, 2, 2]);
        assert_eq!(divided(&[(0, 7), (5, 1)]), [0, 5]);
        assert!(divided(&[]).is_empty());
    }

    proptest! {
        /// What a name's addresses get together is to the others as the weights are.
        #[test]
        fn shares_are_as_the_weights(one in 1_u16..=100, other in 1_u16..=100, sharers in 1_u16..=256) {
            let weights: Vec<Shared> = std::iter::once((one, 1)).chain((0..sharers).map(|_| (other, sharers))).collect();
            let divided = divided(&weights);
            let together: f64 = divided[1..].iter().map(|part| f64::from(*part)).sum();
            let (is, wanted) = (together / f64::from(divided[0]), f64::from(other) / f64::from(one));
            prop_assert!((is / wanted - 1.0).abs() < 1e-9, "{is} for {wanted}");
            prop_assert!(divided.iter().all(|part| *part > 0));
        }

        #[test]
        fn nobody_is_lost_and_nothing_overflows(weights: Vec<(u16, u16)>) {
            let divided = divided(&weights);
            prop_assert!(divided.iter().zip(&weights).all(|(part, (weight, _))| (*part > 0) == (*weight > 0)));
        }
    }
}
