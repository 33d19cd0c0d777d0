//! Tells the console what a worker process has in hand: its consumers' readings, to Redis, every other second.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    broker::pulse::{Pulses, Reading, Settled},
    cache::{
        Cache,
        heartbeat::{Heartbeat, LastMinute},
    },
};

const EVERY: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);

/// Tells until `stop`. With Redis away nothing is told, and the console says "unknown".
pub async fn beat(pulses: Pulses, cache: Cache, stop: CancellationToken) {
    let process = Uuid::now_v7().simple().to_string();
    let mut minutes = HashMap::<String, Minute>::new();
    let mut tick = tokio::time::interval(EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let (now, at) = (OffsetDateTime::now_utc().unix_timestamp(), Instant::now());
        let beats: Vec<Heartbeat> = pulses
            .read()
            .into_iter()
            .map(|reading| {
                let last_minute = minutes.entry(reading.queue.clone()).or_default().note(at, reading.settled);
                heartbeat(reading, last_minute, now)
            })
            .collect();
        let _ = cache.tell_heartbeats(&process, &beats).await;
    }
    // Whoever stopped in peace has nothing in hand.
    let _ = cache.tell_heartbeats(&process, &[]).await;
}

fn heartbeat(reading: Reading, last_minute: LastMinute, now: i64) -> Heartbeat {
    let now = u64::try_from(now).unwrap_or(0);
    Heartbeat {
        queue: reading.queue,
        in_hand: reading.in_hand,
        oldest_seconds: reading.oldest_due.map(|due| now.saturating_sub(due)),
        breaker_open: reading.breaker_open,
        last_minute,
    }
}

/// The counters of one consumer during the last minute, oldest first.
#[derive(Default)]
struct Minute(VecDeque<(Instant, Settled)>);

impl Minute {
    /// Notes where the counters are now; answers what was added within the minute.
    fn note(&mut self, at: Instant, now: Settled) -> LastMinute {
        self.0.push_back((at, now));
        // The one before the minute is kept: it is what is counted from.
        while self.0.get(1).is_some_and(|(then, _)| at.duration_since(*then) >= MINUTE) {
            self.0.pop_front();
        }
        let before = self.0.front().map_or(now, |(_, then)| *then);
        LastMinute {
            done: now.done.saturating_sub(before.done),
            retried: now.retried.saturating_sub(before.retried),
            parked: now.parked.saturating_sub(before.parked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_counts_what_came_within_it() {
        let begin = Instant::now();
        let mut minute = Minute::default();
        let done = |done| Settled { done, ..Settled::default() };
        assert_eq!(minute.note(begin, done(5)).done, 0, "what was before the first look is not of this minute");
        assert_eq!(minute.note(begin + Duration::from_secs(2), done(9)).done, 4);
        assert_eq!(minute.note(begin + Duration::from_secs(60), done(10)).done, 5);
        assert_eq!(minute.note(begin + Duration::from_secs(62), done(10)).done, 1);
        assert_eq!(minute.note(begin + Duration::from_secs(200), done(10)).done, 0);
        assert!(minute.0.len() <= 2);
    }
}
