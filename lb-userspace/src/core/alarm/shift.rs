//! The weights of a service while an alarm rings, and on the way back: of each backend its weight and its share.
//!
//! What an operator said of a backend is its weight in both. The way back goes by shares, since the weights of an
//! alarm may be of another scale than the file's. Tested here.

use std::collections::BTreeMap;

use lb_common::abi::BackendId;

/// All shares together, on the way back.
const COIN: u64 = 10_000;

pub struct Shift<'a> {
    pub alarm: &'a str,
    /// The others keep theirs.
    pub weights: &'a BTreeMap<String, u16>,
    /// How much of the way back is done, of so many steps; 0: it rings.
    pub back: u16,
    pub steps: u16,
}

/// A backend, by what file and operator say.
pub struct Before<'a> {
    pub id: BackendId,
    pub name: &'a str,
    pub weight: u16,
    /// By an operator: no alarm changes that.
    pub is_fixed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shifted {
    /// As people are shown it; 0 only if it gets nothing.
    pub weight: u16,
    /// In a coin that is the same for all of the service.
    pub share: u16,
    /// Completes "weight 0". None: it is not the alarm's.
    pub by: Option<String>,
}

impl Shift<'_> {
    pub fn apply(&self, backends: &[Before<'_>]) -> BTreeMap<BackendId, Shifted> {
        let named = |backend: &Before<'_>| self.weights.get(backend.name).filter(|_| !backend.is_fixed);
        let alarms: Vec<u16> = backends
            .iter()
            .map(|backend| *named(backend).unwrap_or(&backend.weight))
            .collect();
        let sum = |weights: &mut dyn Iterator<Item = u16>| weights.map(u64::from).sum::<u64>();
        let (from, to) = (
            sum(&mut alarms.iter().copied()),
            sum(&mut backends.iter().map(|b| b.weight)),
        );
        let (done, left) = (u64::from(self.back), u64::from(self.steps.saturating_sub(self.back)));
        let shifted = backends.iter().zip(&alarms).map(|(backend, &alarms)| {
            let by = named(backend).map(|_| format!("by alarm {}", self.alarm));
            let (weight, share, by) = match self.back {
                0 => (alarms, alarms, by),
                _ => {
                    let parts = u64::from(alarms) * left * to + u64::from(backend.weight) * done * from;
                    let share = rounded(COIN * parts, u64::from(self.steps) * from * to);
                    let way = format!(
                        "by alarm {}, {} % of the way back",
                        self.alarm,
                        100 * done / u64::from(self.steps)
                    );
                    (rounded(u64::from(share) * to, COIN), share, by.map(|_| way))
                }
            };
            (backend.id, Shifted { weight, share, by })
        });
        shifted.collect()
    }
}

/// More than nothing stays so.
fn rounded(number: u64, by: u64) -> u16 {
    let by = by.max(1);
    let nearest = (number + by / 2) / by;
    u16::try_from(nearest.max(u64::from(number > 0))).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEPS: u16 = 20;

    fn before<'a>(id: BackendId, name: &'a str, weight: u16, is_fixed: bool) -> Before<'a> {
        Before {
            id,
            name,
            weight,
            is_fixed,
        }
    }

    /// Weights and shares of rack and cloud, in this order.
    fn shifted(back: u16, alarm: [u16; 2], file: [u16; 2], fixed: bool) -> Vec<(u16, u16)> {
        let weights = [("rack", alarm[0]), ("cloud", alarm[1])];
        let weights = weights.map(|(name, weight)| (name.to_owned(), weight)).into();
        let shift = Shift {
            alarm: "a",
            weights: &weights,
            back,
            steps: STEPS,
        };
        let backends = [before(1, "rack", file[0], fixed), before(2, "cloud", file[1], false)];
        let shifted = shift.apply(&backends);
        shifted
            .values()
            .map(|shifted| (shifted.weight, shifted.share))
            .collect()
    }

    #[test]
    fn the_way_back_is_even() {
        let at = |back| shifted(back, [0, 100], [40, 60], false);
        assert_eq!(at(0), [(0, 0), (100, 100)]);
        assert_eq!(at(1), [(2, 200), (98, 9800)]);
        assert_eq!(at(10), [(20, 2000), (80, 8000)]);
        assert_eq!(at(STEPS), [(40, 4000), (60, 6000)]);
    }

    #[test]
    fn scales_do_not_matter() {
        assert_eq!(shifted(1, [0, 1000], [1, 1], false), [(1, 250), (2, 9750)]);
        assert_eq!(shifted(19, [0, 1000], [1, 1], false), [(1, 4750), (1, 5250)]);
        assert_eq!(shifted(10, [60, 40], [0, 100], false), [(30, 3000), (70, 7000)]);
    }

    #[test]
    fn an_operators_weight_stays() {
        assert_eq!(shifted(0, [0, 100], [40, 60], true), [(40, 40), (100, 100)]);
        let half = shifted(10, [0, 100], [40, 60], true);
        assert_eq!(half, [(34, 3429), (66, 6571)], "between 40 of 140 and 40 of 100");
    }

    proptest! {
        /// Whoever is to have something at one end has something on the way, and nothing overflows.
        #[test]
        fn nobody_is_lost_on_the_way(alarm: [u16; 2], file: [u16; 2], back in 0..=STEPS, fixed: bool) {
            let (alarm, file) = (alarm.map(|w| w % 1001), file.map(|w| w % 1001));
            let alarms = [if fixed { file[0] } else { alarm[0] }, alarm[1]];
            prop_assume!(alarms != [0, 0] && file != [0, 0]);
            let shifted = shifted(back, alarm, file, fixed);
            for (place, (weight, share)) in shifted.into_iter().enumerate() {
                let begins = alarms[place] > 0 && back < STEPS;
                let ends = file[place] > 0 && back > 0;
                prop_assert_eq!(share > 0, begins || ends);
                prop_assert_eq!(weight > 0, share > 0);
            }
        }
    }
}
