//! A breaker: when what a worker depends on is away, it stops taking messages and probes with one.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard};

/// Failures in a row that open it. Below that, a failure is the message's own affair.
const THRESHOLD: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);

/// Closed below the threshold of failures in a row; open from there until something succeeds.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    /// Probes since it opened. Not failures: a hundred messages that were in hand when the server went away are
    /// one outage and must not make the pause longer.
    probes: AtomicU32,
    turn: Mutex<()>,
}

/// Leave to try; nobody else has it at the same time.
pub(super) struct Turn<'a> {
    _alone: MutexGuard<'a, ()>,
}

impl Breaker {
    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.probes.store(0, Ordering::Relaxed);
    }

    /// One more message could not be handled because the other side was away.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The other side is certainly away: open at once.
    pub(super) fn trip(&self) {
        self.failures.fetch_max(THRESHOLD, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= THRESHOLD
    }

    /// Waits for the turn to probe, and then for a pause that grows with every probe; not for the pause when
    /// somebody else's probe has closed the breaker meanwhile.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let alone = self.turn.lock().await;
        if self.is_open() {
            tokio::time::sleep(self.next_pause()).await;
        }
        Turn { _alone: alone }
    }

    fn next_pause(&self) -> Duration {
        let doublings = self.probes.fetch_add(1, Ordering::Relaxed).min(8);
        (SHORTEST * 2u32.pow(doublings)).min(LONGEST)
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
    fn pauses_grow_with_probes_alone_and_to_a_limit() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.trip();
        }
        assert_eq!([(); 3].map(|()| breaker.next_pause()), [SHORTEST, SHORTEST * 2, SHORTEST * 4]);
        for _ in 0..100 {
            assert!(breaker.next_pause() <= LONGEST);
        }
        breaker.succeeded();
        assert_eq!(breaker.next_pause(), SHORTEST);
    }

    #[tokio::test]
    async fn of_many_in_hand_one_probes_and_the_others_follow_at_once() {
        let breaker = Breaker::default();
        breaker.trip();
        let all = (0..100).map(async |_| {
            let _turn = breaker.turn().await;
            breaker.succeeded();
        });
        let patience = SHORTEST * 40;
        tokio::time::timeout(patience, futures_util::future::join_all(all)).await.expect("one pause, not a hundred");
    }
}
