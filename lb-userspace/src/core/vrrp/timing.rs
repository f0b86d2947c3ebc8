//! How long everything lasts: pure arithmetic on intervals and priorities.
//!
//! The order that all rests on: lease (2.5 intervals) < a peer's patience (3 intervals and its skew) < its ownership
//! (after its claim). Tested here.

use std::time::Duration;

use super::packet::Version;

/// A master's longer interval is believed up to this, so that no forged advert silences a backup for minutes.
const MOST_ADOPTED: u32 = 10;
const SILENCE_CLAIM: Duration = Duration::from_millis(5);
const HANDOVER_CLAIM: Duration = Duration::from_millis(2);
const PREEMPTION_CLAIM: Duration = Duration::from_millis(100);
/// Of its intervals: a master below our priority that advertises so long although we told it does not hear us.
const DEAF: u32 = 6;
/// After an interval grew, so many adverts tell of it at the pace that peers still expect.
pub const SETTLING: u8 = 3;
/// How long a deaf master is let be.
pub const DEAF_REST: Duration = Duration::from_secs(10);
/// When addresses that were just taken are announced again: switches drop bursts.
pub const ANNOUNCE_AGAIN: Duration = Duration::from_secs(5);
/// From the first advert of who takes over until neighbours know it: its claim, its announcement, and the way. Clients that are
/// reset then find the new master with their next SYN.
pub const TAKEOVER: Duration = Duration::from_millis(20);
/// Between announcements that others cause.
pub const ANNOUNCEMENTS_APART: Duration = Duration::from_secs(1);
/// How long an instance stays out that could not do what a master has to do; twice as long each time it soon fails again.
pub const DISABLED: Duration = Duration::from_secs(1);
pub const DISABLED_LONGEST: Duration = Duration::from_secs(60);

/// The higher the priority, the sooner.
pub fn skew(version: Version, priority: u8, interval: Duration) -> Duration {
    let lacking = 256 - u32::from(priority);
    let whole = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    whole * lacking / 256
}

/// How long a master is silent until a backup takes it for dead.
pub fn down(version: Version, priority: u8, interval: Duration) -> Duration {
    interval * 3 + skew(version, priority, interval)
}

/// How long after an advert its sender may hold the addresses without another.
pub fn lease(interval: Duration) -> Duration {
    interval * 5 / 2
}

/// A shorter one is not followed: it would let one forged advert end the wait early, and waiting longer is safe.
pub fn adopted(ours: Duration, theirs: Duration) -> Duration {
    theirs.clamp(ours, ours * MOST_ADOPTED)
}

/// Between the first advert and ownership, for a live master that was not heard to contradict. Long enough for a
/// network's round trip, no more.
pub fn silence_claim(interval: Duration) -> Duration {
    (interval / 4).min(SILENCE_CLAIM)
}

/// The same where the master said that it goes.
pub fn handover_claim(interval: Duration) -> Duration {
    (interval / 8).min(HANDOVER_CLAIM)
}

/// From when a live master of lower priority was last heard until its lease is over, should it not have heard our claim.
/// Bounded: one that is no Naru leaves without saying so, and clients would wait.
pub fn preemption_claim(interval: Duration) -> Duration {
    lease(interval).min(PREEMPTION_CLAIM)
}

pub fn deaf(interval: Duration) -> Duration {
    interval * DEAF
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn skew_is_a_part_of_the_interval_or_of_a_second() {
        assert_eq!(skew(Version::V3, 254, ms(10)), Duration::from_nanos(78_125));
        assert_eq!(skew(Version::V3, 100, ms(1000)), Duration::from_nanos(609_375_000));
        assert_eq!(skew(Version::V2, 100, ms(5000)), Duration::from_nanos(609_375_000));
        assert_eq!(down(Version::V3, 100, ms(10)), Duration::from_nanos(36_093_750));
        assert_eq!(down(Version::V2, 100, ms(1000)), Duration::from_nanos(3_609_375_000));
    }

    #[test]
    fn a_lease_ends_before_any_peer_takes_over() {
        for interval in [ms(10), ms(30), ms(1000), ms(40_950)] {
            for (version, priority) in [(Version::V3, 255), (Version::V3, 1), (Version::V2, 254)] {
                assert!(
                    lease(interval) < down(version, priority, interval),
                    "{interval:?} {priority}"
                );
            }
        }
    }

    #[test]
    fn a_forged_interval_neither_silences_nor_hastens() {
        assert_eq!(adopted(ms(30), ms(40_950)), ms(300));
        assert_eq!(adopted(ms(30), ms(10)), ms(30));
        assert_eq!(adopted(ms(30), ms(100)), ms(100));
    }

    #[test]
    fn claims_are_short() {
        assert_eq!(silence_claim(ms(10)), Duration::from_micros(2500));
        assert_eq!(silence_claim(ms(1000)), ms(5));
        assert_eq!(handover_claim(ms(30)), ms(2));
        assert_eq!(preemption_claim(ms(30)), ms(75));
        assert_eq!(preemption_claim(ms(1000)), ms(100));
    }
}
