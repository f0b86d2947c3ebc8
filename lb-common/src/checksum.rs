//! Internet checksums, updated and never recomputed (RFC 1624): a wrong checksum stays wrong by the same amount.
//!
//! Sums are one's complement over 16-bit words as they lie in memory, so the host's byte order does not matter.

/// What replacing some words adds to a checksum's complement, folded to 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    sum: u64,
}

impl Delta {
    pub const NONE: Self = Self { sum: 0 };

    /// The time to live falls by one: it is the first byte of its word, and the caller saw that it is not 0.
    pub const TTL_DECREMENT: Self = Self {
        sum: u16::from_ne_bytes([0xfe, 0xff]) as u64,
    };

    #[inline(always)]
    pub const fn replace32(self, old: u32, new: u32) -> Self {
        Self {
            sum: self.sum + (!old) as u64 + new as u64,
        }
    }

    #[inline(always)]
    pub const fn replace16(self, old: u16, new: u16) -> Self {
        Self {
            sum: self.sum + (!old) as u64 + new as u64,
        }
    }

    #[inline(always)]
    pub const fn add32(self, word: u32) -> Self {
        Self {
            sum: self.sum + word as u64,
        }
    }

    #[inline(always)]
    pub const fn add16(self, word: u16) -> Self {
        Self {
            sum: self.sum + word as u64,
        }
    }

    #[inline(always)]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            sum: self.sum + other.sum,
        }
    }

    #[inline(always)]
    pub const fn fold(self) -> u16 {
        // Three folds bring any sum of a few 32-bit numbers below 2^16.
        let sum = (self.sum & 0xffff_ffff) + (self.sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }
}

/// The checksum after a change of `delta`.
#[inline(always)]
pub const fn apply(checksum: u16, delta: u16) -> u16 {
    let sum = (!checksum) as u32 + delta as u32;
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// For UDP: 0 says "no checksum" and stays so; a sum that comes out as 0 is written as its other form.
#[inline(always)]
pub const fn apply_udp(checksum: u16, delta: u16) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match apply(checksum, delta) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The definition, in one's complement over big-endian words.
    fn full(bytes: &[u8]) -> u16 {
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    proptest! {
        #[test]
        fn an_update_equals_a_recomputation(mut bytes in prop::collection::vec(any::<u8>(), 40), new: u32, port: u16) {
            prop_assume!(bytes[8] != 0);
            let before = full(&bytes).to_be();
            let delta = Delta::TTL_DECREMENT
                .replace32(word(&bytes, 12), new)
                .replace16(u16::from_ne_bytes([bytes[20], bytes[21]]), port);
            bytes[8] -= 1;
            bytes[12..16].copy_from_slice(&new.to_ne_bytes());
            bytes[20..22].copy_from_slice(&port.to_ne_bytes());
            let after = apply(before, delta.fold()).to_be();
            // One's complement has two zeroes; a checksum of 0xffff and one of 0 verify alike.
            let normal = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(normal(after), normal(full(&bytes)));
        }

        #[test]
        fn undoing_a_change_gives_the_checksum_back(checksum: u16, old: u32, new: u32) {
            let there = apply(checksum, Delta::NONE.replace32(old, new).fold());
            let back = apply(there, Delta::NONE.replace32(new, old).fold());
            let normal = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(normal(back), normal(checksum));
        }
    }

    #[test]
    fn udp_without_a_checksum_keeps_none() {
        let delta = Delta::NONE.replace32(1, 2).fold();
        assert_eq!(apply_udp(0, delta), 0);
        let never_zero: Vec<u16> = (1..=u16::MAX)
            .map(|sum| apply_udp(sum, delta))
            .filter(|sum| *sum == 0)
            .collect();
        assert!(never_zero.is_empty());
    }
}
