//! A circuit breaker: when what a worker depends on fails for every message, it stops taking messages and probes with one.
//!
//! A message that met the outage is a *victim*: it stays in hand and waits for its turn to probe. Beside the victims one
//! fresh message at a time is tried, since only another message can show that the failure is one message's own.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::sleep_until,
};

use crate::evidence::Mark;

/// Failures in a row that open it. Below that, a failure is the message's own affair.
const THRESHOLD: u32 = 8;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// Between two log lines about an outage that lasts.
const REMIND: Duration = Duration::from_secs(300);
/// Of a reason, in characters: enough for a server's message, small enough for a document.
const REASON_MAX: usize = 300;

/// Closed below the threshold of failures in a row; open from there until something succeeds.
#[derive(Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
    /// Wakes whoever waits for a pause or for room when the state changes.
    changed: Notify,
}

#[derive(Default)]
struct State {
    failures: u32,
    outage: Option<Outage>,
    victims: u32,
    /// Messages that passed since the process began.
    passed: u64,
    /// Of the victims' probes, and of fresh messages. A hundred messages that were in hand when the server went away are
    /// one outage and must not make a pause longer.
    victims_pace: Pace,
    fresh_pace: Pace,
}

struct Outage {
    reason: String,
    /// Proof of the end beside which a message that passes proves nothing, as it may not have needed what is refused.
    until: Option<Mark>,
    since: Instant,
    logged: Instant,
}

/// Pauses that grow with each probe.
#[derive(Default)]
struct Pace {
    probes: u32,
    next: Option<Instant>,
}

impl Pace {
    fn slow_down(&mut self) {
        let pause = (SHORTEST * 2u32.pow(self.probes.min(8))).min(LONGEST);
        self.probes += 1;
        self.next = Some(Instant::now() + pause);
    }
}

/// How a message met the outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// In hand while the breaker opened.
    InHand,
    /// Taken while it was open.
    Fresh,
    /// Again: it is a victim and has probed.
    Again,
}

/// What is to be logged after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Opened,
    StillOpen(Duration),
    None,
}

/// Leave to try; only one message has it at a time.
pub(super) struct Turn<'a> {
    _alone: tokio::sync::MutexGuard<'a, ()>,
}

/// A message in hand that met the outage, until it is dropped.
pub(super) struct Victim<'a>(&'a Breaker);

impl Drop for Victim<'_> {
    fn drop(&mut self) {
        self.0.state().victims -= 1;
        self.0.changed.notify_waiters();
    }
}

impl Breaker {
    /// A message passed. Returns how long the outage lasted when this ends it: a victim that passes proves the end, and
    /// so does any message once no victim is in hand; where there is a mark, only the mark proves it.
    pub(super) fn succeeded(&self, is_victim: bool) -> Option<Duration> {
        let mut state = self.state();
        state.passed += 1;
        let (over, lasted) = match &state.outage {
            None => (true, None),
            Some(Outage { until: Some(mark), since, .. }) => (mark.is_passed(), Some(since.elapsed())),
            Some(Outage { until: None, since, .. }) => (is_victim || state.victims == 0, Some(since.elapsed())),
        };
        if !over {
            if !is_victim {
                state.fresh_pace.next = None;
            }
            return None;
        }
        let State { victims, passed, .. } = *state;
        *state = State { victims, passed, ..State::default() };
        drop(state);
        self.changed.notify_waiters();
        lasted
    }

    /// One more message could not be handled because the other side was silent. `is_fresh`: taken while it was open.
    pub(super) fn failed(&self, is_fresh: bool) {
        let mut state = self.state();
        state.failures += 1;
        if state.failures >= THRESHOLD && (is_fresh || state.fresh_pace.next.is_none()) {
            state.fresh_pace.slow_down();
        }
    }

    /// The other side is certainly away, or refuses everything: opens at once.
    pub(super) fn trip(&self, reason: &str, until: Option<&Mark>, met: Met) -> News {
        let mut state = self.state();
        state.failures = state.failures.max(THRESHOLD);
        match met {
            Met::InHand if state.victims_pace.next.is_none() => state.victims_pace.slow_down(),
            Met::InHand => {}
            Met::Fresh => state.fresh_pace.slow_down(),
            Met::Again => state.victims_pace.slow_down(),
        }
        let (reason, until) = (reason.chars().take(REASON_MAX).collect(), until.cloned());
        let now = Instant::now();
        let Some(outage) = &mut state.outage else {
            state.outage = Some(Outage { reason, until, since: now, logged: now });
            return News::Opened;
        };
        (outage.reason, outage.until) = (reason, until);
        if now.duration_since(outage.logged) < REMIND {
            return News::None;
        }
        outage.logged = now;
        News::StillOpen(now.duration_since(outage.since))
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().failures >= THRESHOLD
    }

    /// Why it is open; `None` when it is closed.
    pub(super) fn reason(&self) -> Option<String> {
        let state = self.state();
        (state.failures >= THRESHOLD).then(|| match &state.outage {
            Some(outage) => outage.reason.clone(),
            None => "no answer, several times in a row".to_owned(),
        })
    }

    /// Counts a message in hand as one that met the outage.
    pub(super) fn victim(&self) -> Victim<'_> {
        self.state().victims += 1;
        self.changed.notify_waiters();
        Victim(self)
    }

    pub(super) fn victims(&self) -> usize {
        self.state().victims as usize
    }

    /// Messages that passed since the process began.
    pub(super) fn passed(&self) -> u64 {
        self.state().passed
    }

    /// The next change of what [`Breaker::is_open`] and [`Breaker::victims`] return, from this call on.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Waits for a victim's turn to probe and for its pause; the pause ends when another message closes the breaker.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let alone = self.turn.lock().await;
        self.pause(|state| &state.victims_pace).await;
        Turn { _alone: alone }
    }

    /// Waits until a fresh message may be tried.
    pub(super) async fn fresh_turn(&self) {
        self.pause(|state| &state.fresh_pace).await;
    }

    async fn pause(&self, pace: fn(&State) -> &Pace) {
        loop {
            let changed = self.changed.notified();
            let next = {
                let state = self.state();
                if state.failures < THRESHOLD {
                    return;
                }
                pace(&state).next
            };
            let Some(next) = next.filter(|next| *next > Instant::now()) else { return };
            tokio::select! {
                () = sleep_until(next.into()) => return,
                () = changed => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Evidence;

    fn next_pause(breaker: &Breaker) -> Duration {
        let next = breaker.state().victims_pace.next.expect("a pause");
        next.duration_since(Instant::now())
    }

    #[test]
    fn opens_after_failures_in_a_row_and_closes_on_one_success() {
        let breaker = Breaker::default();
        for _ in 1..THRESHOLD {
            breaker.failed(false);
        }
        assert!(!breaker.is_open());
        breaker.failed(false);
        assert!(breaker.is_open() && breaker.reason().is_some());
        breaker.succeeded(false);
        assert!(!breaker.is_open());
        assert_eq!(breaker.trip("gone", None, Met::InHand), News::Opened);
        assert_eq!(breaker.trip("gone", None, Met::Again), News::None, "one log line for one outage");
        assert_eq!((breaker.is_open(), breaker.reason().as_deref()), (true, Some("gone")));
    }

    #[test]
    fn pauses_grow_with_probes_alone_and_to_a_limit() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.trip("gone", None, Met::InHand);
        }
        assert!(next_pause(&breaker) <= SHORTEST);
        breaker.trip("gone", None, Met::Again);
        assert!(next_pause(&breaker) > SHORTEST);
        for _ in 0..100 {
            breaker.trip("gone", None, Met::Again);
            assert!(next_pause(&breaker) <= LONGEST);
        }
        breaker.succeeded(true);
        breaker.trip("gone", None, Met::InHand);
        assert!(next_pause(&breaker) <= SHORTEST);
    }

    #[test]
    fn d1_another_message_closes_nothing_while_a_victim_still_fails() {
        let breaker = Breaker::default();
        breaker.trip("a right is missing", None, Met::InHand);
        let victim = breaker.victim();
        breaker.succeeded(false);
        assert!(breaker.is_open() && breaker.passed() == 1);
        drop(victim);
        assert!(breaker.succeeded(false).is_some());
        assert!(!breaker.is_open());
    }

    #[test]
    fn d1_where_there_is_a_mark_only_the_mark_closes() {
        let (breaker, answers) = (Breaker::default(), Evidence::default());
        breaker.trip("NO_AUTH", Some(&answers.mark()), Met::InHand);
        assert_eq!((breaker.succeeded(true), breaker.succeeded(false)), (None, None), "it may not have asked WeChat");
        assert!(breaker.is_open());
        answers.note();
        assert!(breaker.succeeded(false).is_some() && !breaker.is_open());
    }

    #[tokio::test]
    async fn of_many_in_hand_one_probes_and_the_others_follow_at_once() {
        let breaker = Breaker::default();
        breaker.trip("gone", None, Met::InHand);
        let all = (0..100).map(async |_| {
            let _victim = breaker.victim();
            let _turn = breaker.turn().await;
            breaker.succeeded(true);
        });
        let patience = SHORTEST * 40;
        tokio::time::timeout(patience, futures_util::future::join_all(all)).await.expect("one pause, not a hundred");
    }
}
