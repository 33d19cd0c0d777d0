//! How many requests a customer may make: so many at once, then a steady rate (GCRA).
//!
//! A customer's state is one moment: when they will have "paid back" all requests so far, each costing `interval`.
//! A request is refused when that moment lies more than `burst` intervals ahead.

use std::{
    collections::HashMap,
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

/// Above this many customers the process forgets those who may ask again anyway.
const REMEMBERED: usize = 10_000;

/// A limit per customer, shared through Redis, per process while Redis is away.
pub struct RateLimit {
    name: &'static str,
    interval: Duration,
    burst: u32,
    began: Instant,
    /// When each customer is free again, by our own count, since `began`.
    own: Mutex<HashMap<String, Duration>>,
}

impl RateLimit {
    /// `per_second` requests in the long run, `burst` at once; both at least 1.
    pub fn new(name: &'static str, per_second: u32, burst: u32) -> Self {
        Self {
            name,
            interval: Duration::from_secs(1) / per_second.max(1),
            burst: burst.max(1),
            began: Instant::now(),
            own: Mutex::default(),
        }
    }

    /// `Err` says after how long to ask again.
    pub async fn take(&self, cache: &Cache, who: &str) -> Result<(), Duration> {
        let mut script = TAKE.prepare_invoke();
        script
            .key(cache.key(self.name, who))
            .arg(u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX))
            .arg(self.burst);
        match cache.run_script::<u64>("take_rate", &script).await {
            Ok(0) => Ok(()),
            Ok(wait) => Err(Duration::from_micros(wait)),
            Err(super::CacheAway) => self.take_alone(who, self.began.elapsed()),
        }
    }

    fn take_alone(&self, who: &str, now: Duration) -> Result<(), Duration> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let since = own.get(who).copied().unwrap_or_default().max(now);
        let free_at = since + self.interval;
        let wait = (free_at - now).saturating_sub(self.interval * self.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        if own.len() >= REMEMBERED {
            own.retain(|_, free_at| *free_at > now);
        }
        own.insert(who.to_owned(), free_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_steady_rate() {
        let limit = RateLimit::new("test", 10, 3);
        let at = Duration::from_millis;
        for _ in 0..3 {
            assert_eq!(limit.take_alone("ann", at(0)), Ok(()));
        }
        assert_eq!(limit.take_alone("ann", at(0)), Err(at(100)));
        assert_eq!(limit.take_alone("bob", at(0)), Ok(()));
        assert_eq!(limit.take_alone("ann", at(60)), Err(at(40)));
        assert_eq!(limit.take_alone("ann", at(100)), Ok(()));
        assert!(limit.take_alone("ann", at(100)).is_err());
    }
}
