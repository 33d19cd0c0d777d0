//! What a consumer can tell of itself at any moment: how much it has in hand, since when, and what became of the
//! rest. Who shows it is not decided here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use super::breaker::Breaker;

/// How many messages were settled, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    pub done: u64,
    pub retried: u64,
    pub parked: u64,
}

/// One look at a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub queue: String,
    /// Taken and not settled yet.
    pub in_hand: u32,
    /// When the longest due of those in hand was due (Unix seconds, by its sender's clock).
    pub oldest_due: Option<u64>,
    pub breaker_open: bool,
    /// Why the breaker is open.
    pub waits_for: Option<String>,
    /// Since the process began.
    pub settled: Settled,
}

/// The instruments of one consumer.
pub(super) struct Pulse {
    queue: String,
    breaker: Arc<Breaker>,
    in_hand: AtomicU32,
    /// How many batches in hand begin with a message that was due then.
    due: Mutex<BTreeMap<u64, u32>>,
    done: AtomicU64,
    retried: AtomicU64,
    parked: AtomicU64,
}

/// A batch in hand, until it is dropped.
pub(super) struct InHand<'a> {
    pulse: &'a Pulse,
    count: u32,
    oldest_due: Option<u64>,
}

impl Pulse {
    pub(super) fn take(&self, count: usize, oldest_due: Option<u64>) -> InHand<'_> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.in_hand.fetch_add(count, Ordering::Relaxed);
        if let Some(due) = oldest_due {
            *self.due.lock().unwrap_or_else(PoisonError::into_inner).entry(due).or_default() += 1;
        }
        InHand { pulse: self, count, oldest_due }
    }

    pub(super) fn count(&self, outcome: &str) {
        let counter = match outcome {
            "done" => &self.done,
            "retried" => &self.retried,
            "parked" => &self.parked,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Reading {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        Reading {
            queue: self.queue.clone(),
            in_hand: self.in_hand.load(Ordering::Relaxed),
            oldest_due: due.first_key_value().map(|(due, _)| *due),
            breaker_open: self.breaker.is_open(),
            waits_for: self.breaker.reason(),
            settled: Settled {
                done: self.done.load(Ordering::Relaxed),
                retried: self.retried.load(Ordering::Relaxed),
                parked: self.parked.load(Ordering::Relaxed),
            },
        }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.pulse.in_hand.fetch_sub(self.count, Ordering::Relaxed);
        let Some(due) = self.oldest_due else { return };
        let mut all = self.pulse.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batches) = all.get_mut(&due) {
            *batches -= 1;
            if *batches == 0 {
                all.remove(&due);
            }
        }
    }
}

/// The consumers of this process.
#[derive(Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Arc<Pulse>>>>);

impl Pulses {
    pub(super) fn begin(&self, queue: String, breaker: Arc<Breaker>) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            queue,
            breaker,
            in_hand: AtomicU32::default(),
            due: Mutex::default(),
            done: AtomicU64::default(),
            retried: AtomicU64::default(),
            parked: AtomicU64::default(),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        pulse
    }

    /// One reading per consumer, in the order in which they began.
    pub fn read(&self) -> Vec<Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|pulse| pulse.read()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::breaker::Met;

    #[test]
    fn what_is_in_hand_is_told_until_it_is_settled_and_the_oldest_of_it_counts() {
        let pulses = Pulses::default();
        let breaker = Arc::new(Breaker::default());
        let pulse = pulses.begin("payments".into(), breaker.clone());
        let young = pulse.take(3, Some(200));
        let old = pulse.take(1, Some(100));
        let same_age = pulse.take(1, Some(100));
        let ageless = pulse.take(1, None);
        breaker.trip("PostgreSQL is away", None, Met::InHand);
        pulse.count("done");
        let reading = pulses.read().remove(0);
        assert_eq!(reading.waits_for.as_deref(), Some("PostgreSQL is away"));
        assert_eq!((reading.in_hand, reading.oldest_due, reading.breaker_open), (6, Some(100), true));
        assert_eq!(reading.settled, Settled { done: 1, ..Settled::default() });

        drop(old);
        assert_eq!(pulse.read().oldest_due, Some(100));
        drop((same_age, ageless));
        assert_eq!((pulse.read().in_hand, pulse.read().oldest_due), (3, Some(200)));
        drop(young);
        assert_eq!((pulse.read().in_hand, pulse.read().oldest_due), (0, None));
    }
}
