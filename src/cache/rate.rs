//! How many requests a customer may make: so many at once, then a steady rate (GCRA).
//!
//! A customer's state is one moment: when they will have "paid back" all requests so far, each costing `interval`.
//! A request is refused when that moment lies more than `burst` intervals ahead.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::Script;

use super::Cache;

/// By Redis's clock, in microseconds. Answers how long to wait, 0 when the request may pass.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local free_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + interval
        local wait = free_at - now - interval * burst
        if wait > 0 then
            return wait
        end
        redis.call('SET', KEYS[1], string.format('%.0f', free_at), 'PX', math.ceil((free_at - now) / 1000))
        return 0",
    )
});

/// A limit per customer, shared through Redis, per process while Redis is away.
pub struct RateLimit {
    name: &'static str,
    own: LocalRate<String>,
}

impl RateLimit {
    /// `per_second` requests in the long run, `burst` at once; both at least 1.
    pub fn new(name: &'static str, per_second: u32, burst: u32) -> Self {
        Self { name, own: LocalRate::new(per_second, burst) }
    }

    /// `Err` says after how long to ask again.
    pub async fn take(&self, cache: &Cache, who: &str) -> Result<(), Duration> {
        let mut script = TAKE.prepare_invoke();
        script
            .key(cache.key(self.name, who))
            .arg(u64::try_from(self.own.interval.as_micros()).unwrap_or(u64::MAX))
            .arg(self.own.burst);
        match cache.run_script::<u64>("take_rate", &script).await {
            Ok(0) => Ok(()),
            Ok(wait) => Err(Duration::from_micros(wait)),
            Err(super::CacheAway) => self.own.take(who.to_owned()),
        }
    }
}

/// The same limit as one process counts it.
pub struct LocalRate<Who> {
    interval: Duration,
    burst: u32,
    began: Instant,
    own: Mutex<Count<Who>>,
}

struct Count<Who> {
    /// When each is free again, since `began`.
    free_at: HashMap<Who, Duration>,
    /// With so many in memory, those who may ask again anyway are forgotten.
    tidy_at: usize,
}

const REMEMBERED: usize = 10_000;

impl<Who: Eq + Hash> LocalRate<Who> {
    /// As [`RateLimit::new`].
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            burst: burst.max(1),
            began: Instant::now(),
            own: Mutex::new(Count { free_at: HashMap::new(), tidy_at: REMEMBERED }),
        }
    }

    /// `Err` says after how long to ask again.
    pub fn take(&self, who: Who) -> Result<(), Duration> {
        self.take_at(who, self.began.elapsed())
    }

    fn take_at(&self, who: Who, now: Duration) -> Result<(), Duration> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let since = own.free_at.get(&who).copied().unwrap_or_default().max(now);
        let free_at = since + self.interval;
        let wait = (free_at - now).saturating_sub(self.interval * self.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        own.free_at.insert(who, free_at);
        if own.free_at.len() >= own.tidy_at {
            own.free_at.retain(|_, free_at| *free_at > now);
            // Twice what is left: a crowd that stays is not gone through for each newcomer.
            own.tidy_at = (own.free_at.len() * 2).max(REMEMBERED);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_steady_rate() {
        let limit = LocalRate::new(10, 3);
        let at = Duration::from_millis;
        for _ in 0..3 {
            assert_eq!(limit.take_at("ann", at(0)), Ok(()));
        }
        assert_eq!(limit.take_at("ann", at(0)), Err(at(100)));
        assert_eq!(limit.take_at("bob", at(0)), Ok(()));
        assert_eq!(limit.take_at("ann", at(60)), Err(at(40)));
        assert_eq!(limit.take_at("ann", at(100)), Ok(()));
        assert!(limit.take_at("ann", at(100)).is_err());
    }
    #[test]
    fn those_who_may_ask_again_are_forgotten() {
        let limit = LocalRate::new(1_000, 10);
        for who in 0..REMEMBERED * 3 {
            assert_eq!(limit.take_at(who, Duration::from_millis(who as u64)), Ok(()));
        }
        assert!(limit.own.lock().unwrap().free_at.len() <= REMEMBERED);
    }
}
