//! A breaker: when what a worker depends on is away, it stops taking messages and probes with one.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Failures in a row that open it. Below that, a failure is the message's own affair.
const THRESHOLD: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// Counts failures in a row. Closed below the threshold; open from there until a probe succeeds.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
}

impl Breaker {
    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// One more message could not be handled because the other side was away.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The other side is certainly away: open at once.
    pub(super) fn trip(&self) {
        self.failures.fetch_max(THRESHOLD - 1, Ordering::Relaxed);
        self.failed();
    }

    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= THRESHOLD
    }

    /// How long to wait before the next probe: longer with each failed one.
    pub(super) fn pause(&self) -> Duration {
        let probes = self.failures.load(Ordering::Relaxed).saturating_sub(THRESHOLD).min(8);
        (SHORTEST * 2u32.pow(probes)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_on_one_success() {
        let breaker = Breaker::default();
        for _ in 1..THRESHOLD {
            breaker.failed();
        }
        assert!(!breaker.is_open());
        breaker.failed();
        assert!(breaker.is_open());
        breaker.succeeded();
        assert!(!breaker.is_open());
        breaker.trip();
        assert!(breaker.is_open());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let breaker = Breaker::default();
        breaker.trip();
        assert_eq!(breaker.pause(), SHORTEST);
        for _ in 0..100 {
            breaker.trip();
        }
        assert_eq!(breaker.pause(), LONGEST);
    }
}
