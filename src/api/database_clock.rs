//! The database's clock as the ingress knows it: deadlines are compared with that one alone, and a process's own clock may
//! be minutes off.

use std::sync::atomic::{AtomicI64, Ordering};

use time::{Duration, OffsetDateTime};

/// No reading yet.
const UNKNOWN: i64 = i64::MIN;

/// How far the database's clock is ahead of ours, in microseconds.
pub struct DatabaseClock(AtomicI64);

impl Default for DatabaseClock {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl DatabaseClock {
    /// Takes a reading of the database's clock that was asked for and answered between two of our own.
    pub(super) fn read(&self, asked: OffsetDateTime, database: OffsetDateTime, answered: OffsetDateTime) {
        let between: OffsetDateTime = asked + (answered - asked) / 2;
        let ahead: Duration = database - between;
        if let Ok(micros) = i64::try_from(ahead.whole_microseconds()) {
            self.0.store(micros, Ordering::Relaxed);
        }
    }

    /// The database's time when ours is `ours`; `None` before the first reading.
    pub(super) fn now(&self, ours: OffsetDateTime) -> Option<OffsetDateTime> {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => None,
            micros => ours.checked_add(Duration::microseconds(micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_databases_time_is_ours_and_the_difference() {
        let clock = DatabaseClock::default();
        let ours = datetime!(2026-12-01 12:00:00 UTC);
        assert_eq!(clock.now(ours), None);
        clock.read(ours, datetime!(2026-12-01 12:10:01 UTC), ours + Duration::seconds(2));
        assert_eq!(clock.now(ours), Some(datetime!(2026-12-01 12:10:00 UTC)));
    }
}
