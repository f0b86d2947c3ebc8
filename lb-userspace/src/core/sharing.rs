//! Divides the weight of a name among those that it leads to, in whole numbers for all of a service.
//!
//! All weights are brought into a smaller coin: 40, and 60 for three addresses, are 40 and 20 each; 1, and 1 for three,
//! are 3 and 1 each. The coin is as small as it has to be, and as `u16` has room for; beyond that the nearest number is
//! taken. More than nothing stays so. Without names nothing changes. Tested here.

/// Records of weight 0 beside others are to be chosen hardly ever (RFC 2782): as a hundredth of a weight of 1.
const OF_WEIGHT_0: u32 = 1;
const OF_WEIGHT_1: u32 = 100;

/// A weight, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    pub weight: u16,
    pub part: u32,
    /// Of how many parts.
    pub of: u32,
}

impl Shared {
    /// All of it.
    pub const fn whole(weight: u16) -> Self {
        Self { weight, part: 1, of: 1 }
    }

    /// Times `of`; no part is nothing.
    fn worth(self) -> u64 {
        u64::from(self.weight) * u64::from(self.part.max(1))
    }

    fn of(self) -> u64 {
        u64::from(self.of.max(1))
    }
}

/// Among records of these weights: all alike where none has any.
pub fn parts(weights: &[u16]) -> Vec<u32> {
    let any = weights.iter().any(|weight| *weight > 0);
    let part = |weight: &u16| match (any, weight) {
        (false, _) | (true, 0) => OF_WEIGHT_0,
        (true, weight) => u32::from(*weight) * OF_WEIGHT_1,
    };
    weights.iter().map(part).collect()
}

pub fn divided(shares: &[Shared]) -> Vec<u16> {
    let room = |shared: &Shared| u64::from(u16::MAX) * shared.of() / shared.worth();
    let some = || shares.iter().filter(|shared| shared.weight > 0);
    let largest = some().map(room).min().unwrap_or(1);
    let coin = some()
        .map(|shared| shared.of() / gcd(shared.worth(), shared.of()))
        .fold(1, |coin: u64, finest| {
            (coin / gcd(coin, finest)).saturating_mul(finest).min(largest)
        });
    shares.iter().map(|shared| in_coin(*shared, coin)).collect()
}

fn in_coin(shared: Shared, coin: u64) -> u16 {
    let (whole, of) = (shared.worth() * coin, shared.of());
    let nearest = (whole + of / 2) / of;
    u16::try_from(nearest.max(u64::from(shared.weight > 0))).unwrap_or(u16::MAX)
}

const fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 if a == 0 => 1,
        0 => a,
        _ => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shares of weights, each among so many that are alike.
    fn alike(weights: &[(u16, u32)]) -> Vec<u16> {
        let shared = |&(weight, of)| Shared { weight, part: 1, of };
        divided(&weights.iter().map(shared).collect::<Vec<_>>())
    }

    /// Of a name of this weight, by SRV weights, beside one of weight 1.
    fn ranked(weight: u16, weights: &[u16]) -> Vec<u16> {
        let parts = parts(weights);
        let of = parts.iter().sum();
        let shared = parts.into_iter().map(|part| Shared { weight, part, of });
        divided(&std::iter::once(Shared::whole(1)).chain(shared).collect::<Vec<_>>())
    }

    #[test]
    fn weights_are_shared_exactly_where_they_can_be() {
        assert_eq!(alike(&[(40, 1), (60, 1)]), [40, 60], "nobody shares");
        assert_eq!(alike(&[(40, 1), (60, 3), (60, 3), (60, 3)]), [40, 20, 20, 20]);
        assert_eq!(alike(&[(1, 1), (1, 3), (1, 3), (1, 3)]), [3, 1, 1, 1]);
        assert_eq!(alike(&[(1, 2), (1, 2), (1, 3), (1, 3), (1, 3)]), [3, 3, 2, 2, 2]);
        assert_eq!(alike(&[(0, 7), (5, 1)]), [0, 5]);
        assert!(alike(&[]).is_empty());
    }

    #[test]
    fn weights_of_records_are_kept_to_the_last_bit() {
        assert_eq!(ranked(1, &[3, 1]), [4, 3, 1]);
        assert_eq!(ranked(1, &[0, 0, 0]), [3, 1, 1, 1]);
        assert_eq!(ranked(1, &[1, 0]), [101, 100, 1]);
        let alone = |weights: &[u16]| {
            let parts = parts(weights);
            let of = parts.iter().sum();
            divided(
                &parts
                    .into_iter()
                    .map(|part| Shared { weight: 1, part, of })
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(alone(&[65_535, 256, 1]), [65_535, 256, 1]);
        assert_eq!(alone(&[65_535, 0]), [65_535, 1], "more than nothing");
    }

    proptest! {
        /// What a name's addresses get together is to the others as the weights are.
        #[test]
        fn shares_are_as_the_weights(one in 1_u16..=100, other in 1_u16..=100, sharers in 1_u32..=256) {
            let weights: Vec<(u16, u32)> = std::iter::once((one, 1)).chain((0..sharers).map(|_| (other, sharers))).collect();
            let divided = alike(&weights);
            let together: f64 = divided[1..].iter().map(|part| f64::from(*part)).sum();
            let (is, wanted) = (together / f64::from(divided[0]), f64::from(other) / f64::from(one));
            prop_assert!((is / wanted - 1.0).abs() < 1e-9, "{is} for {wanted}");
            prop_assert!(divided.iter().all(|part| *part > 0));
        }

        /// And each of them by its own weight, as near as whole numbers come.
        #[test]
        fn parts_are_as_the_records(weights in prop::collection::vec(1_u16.., 1..20)) {
            let divided = ranked(1, &weights);
            let together: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (weight, share) in weights.iter().zip(&divided[1..]) {
                let wanted = f64::from(divided[0]) * f64::from(*weight) / together as f64;
                prop_assert!((f64::from(*share) - wanted).abs() <= 1.0, "{share} for {wanted}");
            }
        }

        #[test]
        fn nobody_is_lost_and_nothing_overflows(all: Vec<(u16, u32, u32)>) {
            let shared = |(weight, part, of): (u16, u32, u32)| Shared { weight, part: part.min(of), of };
            let shared: Vec<Shared> = all.into_iter().map(shared).collect();
            let divided = divided(&shared);
            prop_assert!(divided.iter().zip(&shared).all(|(share, shared)| (*share > 0) == (shared.weight > 0)));
        }
    }
}
