//! What a failure leads to: the delay before the next attempt, and when to stop trying.

use std::time::Duration;

/// The delay queues, shortest first. A message waits in the queue named after its tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    S1,
    S5,
    S30,
    M2,
    M10,
    H1,
}

impl Tier {
    pub const ALL: [Self; 6] = [Self::S1, Self::S5, Self::S30, Self::M2, Self::M10, Self::H1];

    /// The delay exchange's name; its queue has the same.
    pub fn name(self) -> &'static str {
        match self {
            Self::S1 => "delay.1s",
            Self::S5 => "delay.5s",
            Self::S30 => "delay.30s",
            Self::M2 => "delay.2m",
            Self::M10 => "delay.10m",
            Self::H1 => "delay.1h",
        }
    }

    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::S1 => 1,
            Self::S5 => 5,
            Self::S30 => 30,
            Self::M2 => 120,
            Self::M10 => 600,
            Self::H1 => 3_600,
        })
    }
}

/// Why an attempt did not succeed, as far as trying again is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The other side's answer was lost or meaningless; the deed may be done.
    Unknown,
    /// The other side asked for patience.
    Busy,
    /// A code or answer that this release does not know.
    Unfamiliar,
    /// What it needs is on its way: an alarm that rang early, an order that is still in another queue.
    Early,
    /// The other side is at work on it, for minutes or for days.
    Pending,
    /// It met an outage that other messages do not meet now; it makes room for them.
    Outage,
    /// The other side refuses it while it does the same for others.
    Singled,
    /// A newer release wrote what it is about.
    Newer,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Unfamiliar => "unfamiliar",
            Self::Early => "early",
            Self::Pending => "pending",
            Self::Outage => "outage",
            Self::Singled => "singled_out",
            Self::Newer => "newer_release",
        }
    }

    /// Attempts before a person is asked. Doubts about money never run out by counting: they end
    /// with the order's deadline, which the handler checks.
    fn limit(self) -> u32 {
        match self {
            Self::Unknown | Self::Busy | Self::Outage | Self::Newer => u32::MAX,
            Self::Singled => 4,
            Self::Unfamiliar => 6,
            Self::Early => 60,
            // Thirty days of hours, after the first minutes.
            Self::Pending => 740,
        }
    }

    /// Where attempt number `attempt` (1 for the first) waits before the next; `None` when it was the last.
    pub fn next(self, attempt: u32) -> Option<Tier> {
        if attempt >= self.limit() {
            return None;
        }
        Some(match (self, attempt) {
            (Self::Early, 0..=10) => Tier::S1,
            (Self::Early, _) => Tier::S5,
            (Self::Pending, 0..=2) => Tier::S30,
            (Self::Pending, 3..=5) => Tier::M2,
            (Self::Pending, 6..=12) => Tier::M10,
            // Soon after the outage is over, or the newer release is there, it must be done.
            (Self::Outage | Self::Newer, 0 | 1) => Tier::S1,
            (Self::Outage | Self::Newer, 2) => Tier::S5,
            (Self::Outage | Self::Newer, _) => Tier::S30,
            (_, 0 | 1) => Tier::S1,
            (_, 2) => Tier::S5,
            (_, 3) => Tier::S30,
            (_, 4) => Tier::M2,
            (_, 5) => Tier::M10,
            (_, _) => Tier::H1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p3_the_ladder_climbs_and_a_doubt_never_runs_out() {
        let mut last = Tier::S1;
        for attempt in 1..50 {
            let tier = Class::Unknown.next(attempt).expect("a doubt is never given up by counting");
            assert!(tier >= last);
            last = tier;
        }
        assert_eq!(last, Tier::H1);
    }

    #[test]
    fn what_we_do_not_understand_goes_to_a_person() {
        assert!(Class::Unfamiliar.next(5).is_some());
        assert_eq!(Class::Unfamiliar.next(6), None);
    }

    proptest! {
        #[test]
        fn p3_no_wait_is_shorter_than_the_one_before_and_what_is_given_up_stays_so(attempt in 0..u32::MAX) {
            use Class::{Busy, Early, Newer, Outage, Pending, Singled, Unfamiliar, Unknown};
            for class in [Unknown, Busy, Unfamiliar, Early, Pending, Outage, Singled, Newer] {
                match (class.next(attempt), class.next(attempt + 1)) {
                    (Some(now), Some(then)) => prop_assert!(then >= now, "{class:?}"),
                    (None, then) => prop_assert_eq!(then, None, "{:?}", class),
                    (Some(_), None) => {}
                }
            }
        }
    }
}
