//! When the event loop wakes up for a deadline: at the next line of a grid, so that what falls due within it is done
//! in one turn.
//!
//! Checks of many backends fall due one by one, all the time. Each turn of the loop for one of them alone finds cold
//! caches, and costs more than the check does. What is due already is never put off.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Nobody waits longer. Checks may begin late by ten milliseconds, and those that confirm a failure come 30 apart.
const GRID: Duration = Duration::from_millis(5);

/// Returns at the first line that is not before the deadline. Cancel safe.
pub async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(line_after(deadline, Instant::now()).into()).await,
        None => std::future::pending().await,
    }
}

fn line_after(deadline: Instant, now: Instant) -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    if deadline <= now {
        return deadline;
    }
    let lines = deadline
        .saturating_duration_since(*FIRST)
        .as_nanos()
        .div_ceil(GRID.as_nanos());
    let after_first = u64::try_from(lines * GRID.as_nanos()).map(Duration::from_nanos);
    after_first.map_or(deadline, |after| *FIRST + after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_close_to_each_other_are_met_together_and_none_early_or_much_later() {
        let _begins_the_grid = line_after(Instant::now() + GRID, Instant::now());
        let now = Instant::now();
        let lines: Vec<_> = (1..=1000)
            .map(|tenths| {
                let deadline = now + Duration::from_micros(100) * tenths;
                let line = line_after(deadline, now);
                assert!((deadline..deadline + GRID).contains(&line));
                line
            })
            .collect();
        let mut different = lines.clone();
        different.dedup();
        assert!((20..=21).contains(&different.len()), "{}", different.len());
        // Those that confirm a failure stay as far apart as they should.
        assert_eq!(line_after(lines[0] + GRID * 6, now), lines[0] + GRID * 6);
        assert_eq!(line_after(now, now), now);
    }
}
