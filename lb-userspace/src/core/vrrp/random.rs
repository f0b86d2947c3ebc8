//! Numbers that nobody can foretell, drawn from a seed that somebody else has read from the kernel.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub type Seed = [u8; 32];

pub struct Random {
    seed: Seed,
    drawn: u64,
}

impl Random {
    pub const fn new(seed: Seed) -> Self {
        Self { seed, drawn: 0 }
    }

    /// For somebody who draws numbers of his own.
    pub fn seed(&mut self) -> Seed {
        self.drawn += 1;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.seed).expect("HMAC takes a key of any length");
        mac.update(&self.drawn.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    pub fn draw(&mut self) -> u128 {
        let seed = self.seed();
        let half = seed.first_chunk().expect("a seed has 32 bytes");
        u128::from_be_bytes(*half)
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_number_comes_twice_and_each_seed_has_its_own() {
        let mut all: Vec<u128> = Vec::new();
        for seed in 0..4 {
            let mut random = Random::new([seed; 32]);
            let mut other = Random::new(random.seed());
            all.extend((0..100).flat_map(|_| [random.draw(), other.draw()]));
        }
        assert_eq!(BTreeSet::from_iter(&all).len(), all.len());
    }
}
