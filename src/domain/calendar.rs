//! Times that came from outside, read once into a range that every part can bear.
//!
//! RFC 3339 writes the years 0000 to 9999, PostgreSQL stores microseconds from 4713 BC, WeChat and its customers read
//! China time (+08:00), Prometheus reads seconds since 1970. `time` panics where an offset carries a moment out of its
//! own range. A [`Moment`] lies far inside all of these ranges, so that arithmetic of days on it needs no further check.
//! `clippy.toml` forbids the readers and offsets of `time` that can fail or panic elsewhere.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{
    Date, Duration, OffsetDateTime, UtcOffset,
    format_description::{FormatItem, well_known::Rfc3339},
    macros::{datetime, format_description},
};

use super::ids::Malformed;

const EARLIEST: OffsetDateTime = datetime!(2000-01-01 00:00:00 UTC);
/// Not in the range itself.
const END: OffsetDateTime = datetime!(2200-01-01 00:00:00 UTC);
const LATEST: OffsetDateTime = datetime!(2199-12-31 23:59:59.999999 UTC);

/// The offset of the dates that WeChat and its customers read.
pub const CHINA: UtcOffset = time::macros::offset!(+8);

/// A time from 2000 up to and without 2200, in UTC, in whole microseconds as PostgreSQL stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(OffsetDateTime);

impl Moment {
    /// Reads RFC 3339 with any offset.
    ///
    /// # Errors
    /// When the text is no such time, or the time is outside the range.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const WRONG: Malformed =
            Malformed("must be a time like 2026-12-01T19:30:00+08:00, from the year 2000 to the year 2199");
        // The longest time with an offset and nanoseconds has 35 bytes.
        if text.len() > 64 {
            return Err(WRONG);
        }
        #[expect(clippy::disallowed_methods, reason = "the next statement checks the range")]
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| WRONG)?;
        Self::try_from(at).map_err(|_| WRONG)
    }

    /// From nanoseconds since 1970, as cursors carry them.
    #[expect(clippy::disallowed_methods, reason = "`try_from` checks the range")]
    pub fn of_nanos(nanos: i128) -> Option<Self> {
        Self::try_from(OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?).ok()
    }

    /// From seconds since 1970, as tokens and messages carry them.
    #[expect(clippy::disallowed_methods, reason = "`try_from` checks the range")]
    pub fn of_seconds(seconds: i64) -> Option<Self> {
        Self::try_from(OffsetDateTime::from_unix_timestamp(seconds).ok()?).ok()
    }

    /// The same, with the nearest end of the range for seconds outside it.
    #[expect(clippy::disallowed_methods, reason = "`nearest` holds it in the range")]
    pub fn nearest_of_seconds(seconds: i64) -> Self {
        let outside = Self(if seconds < 0 { EARLIEST } else { LATEST });
        OffsetDateTime::from_unix_timestamp(seconds).map_or(outside, Self::nearest)
    }

    /// The moment that lies `later` after `now`; the nearest one in the range when that is outside it.
    pub fn after(now: OffsetDateTime, later: Duration) -> Self {
        Self::nearest(now.saturating_add(later))
    }

    /// The same time where the range has it, else the nearest end of the range.
    pub fn nearest(at: OffsetDateTime) -> Self {
        Self::try_from(at).unwrap_or(Self(if at < EARLIEST { EARLIEST } else { LATEST }))
    }

    pub fn get(self) -> OffsetDateTime {
        self.0
    }
}

impl TryFrom<OffsetDateTime> for Moment {
    type Error = Malformed;

    fn try_from(at: OffsetDateTime) -> Result<Self, Malformed> {
        let fits = EARLIEST <= at && at < END;
        let utc = at.checked_to_offset(UtcOffset::UTC).filter(|_| fits);
        let whole = utc.and_then(|utc| utc.replace_nanosecond(utc.microsecond().saturating_mul(1_000)).ok());
        whole.map(Self).ok_or(Malformed("must be a time from the year 2000 to the year 2199"))
    }
}

impl From<Moment> for OffsetDateTime {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0))
    }
}

/// As RFC 3339 in UTC. A time that RFC 3339 cannot write (a row from before the range was checked) is shown as the
/// nearest one of the range, so that one row never spoils a list.
pub fn show(at: OffsetDateTime) -> String {
    let utc = at.checked_to_offset(UtcOffset::UTC).unwrap_or(at);
    utc.format(&Rfc3339).unwrap_or_else(|_| Moment::nearest(at).0.format(&Rfc3339).unwrap_or_default())
}

/// The same time in China; the nearest one of the range where the offset leads out of the calendar.
pub fn in_china(at: OffsetDateTime) -> OffsetDateTime {
    at.checked_to_offset(CHINA)
        .filter(|there| (0..=9999).contains(&there.year()))
        .or_else(|| Moment::nearest(at).0.checked_to_offset(CHINA))
        .unwrap_or(at)
}

/// A day of China's calendar in the years of [`Moment`], as bills are dated: `2026-11-22`.
///
/// # Errors
/// The text is no such day.
pub fn china_day(text: &str) -> Result<Date, Malformed> {
    const DAY: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]");
    let day = Date::parse(text, DAY).ok().filter(|day| text.len() == 10 && (2000..2200).contains(&day.year()));
    day.ok_or(Malformed("must be a day like 2026-11-22, from the year 2000 to the year 2199"))
}

/// `#[serde(with = …)]` for times of documents and messages: writing never fails, reading admits the range only.
pub mod rfc3339 {
    use super::{Deserialize, Deserializer, Moment, OffsetDateTime, Serializer, show};

    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show(*at))
    }

    /// # Errors
    /// When the value is no time of the range.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        Moment::deserialize(deserializer).map(Moment::get)
    }

    /// The same for a time that may be null.
    pub mod option {
        use super::{Deserialize, Deserializer, Moment, OffsetDateTime, Serializer, show};

        /// # Errors
        /// Only those of the serializer.
        pub fn serialize<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => serializer.serialize_some(&show(*at)),
                None => serializer.serialize_none(),
            }
        }

        /// # Errors
        /// When the value is neither null nor a time of the range.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
            Ok(Option::<Moment>::deserialize(deserializer)?.map(Moment::get))
        }
    }
}

/// `#[serde(with = …)]` for times that are not worth losing the document for: one that cannot be read, or lies outside
/// the range, is none. WeChat fills some members that it has no value for with `""`.
pub mod lenient {
    use super::{Deserialize, Deserializer, Moment, OffsetDateTime};

    pub use super::rfc3339::option::serialize;

    /// # Errors
    /// Only those of the format itself.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
        let value = Option::<serde_json::Value>::deserialize(deserializer)?;
        Ok(value.and_then(|value| Moment::parse(value.as_str()?).ok()).map(Moment::get))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show(self.0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// E1: years that some part cannot bear, and offsets that lead out of the calendar, are no times.
    #[test]
    fn e1_a_time_outside_the_range_is_refused() {
        for text in [
            "0000-01-01T00:00:00Z",
            "0000-01-01T00:00:00+08:00",
            "1999-12-31T23:59:59.999999999Z",
            "2200-01-01T00:00:00Z",
            "2199-12-31T23:59:59-08:00",
            "2000-01-01T00:00:00+08:00",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:30:00-08:00",
            "9999-12-31T23:59:59-23:59",
            "-0001-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-12-01",
            "2026-12-01T19:30:00",
            "2026-12-01T19:30:00+08:00\0",
            " 2026-12-01T19:30:00Z",
            "",
        ] {
            assert!(Moment::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_is_kept_as_postgresql_stores_it() {
        for (text, shown) in [
            ("2026-12-01T19:30:00+08:00", "2026-12-01T11:30:00Z"),
            ("2026-12-01T11:30:00.123456789Z", "2026-12-01T11:30:00.123456Z"),
            ("2000-01-01T08:00:00+08:00", "2000-01-01T00:00:00Z"),
            ("2200-01-01T07:59:59.9999999+08:00", "2199-12-31T23:59:59.999999Z"),
            ("2199-12-31T23:59:59.999999Z", "2199-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Moment::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    /// Every time that `time` can hold.
    fn any_time() -> impl Strategy<Value = OffsetDateTime> {
        let range =
            datetime!(-9999-01-02 00:00:00 UTC).unix_timestamp()..datetime!(9999-12-31 00:00:00 UTC).unix_timestamp();
        let edges = prop::sample::select(vec![
            datetime!(-9999-01-01 00:00:00 UTC),
            datetime!(9999-12-31 23:59:59.999999999 UTC),
            datetime!(9999-12-31 23:59:59.999999999 -23:59),
            datetime!(-9999-01-01 00:00:00 +23:59),
            datetime!(0000-01-01 00:00:00 +08:00),
        ]);
        let inner = range.prop_map(|seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        prop_oneof![3 => inner, 1 => edges]
    }

    proptest! {
        #[test]
        fn e1_any_time_can_be_shown_and_told_in_china(at in any_time()) {
            prop_assert!(!show(at).is_empty());
            prop_assert!((0..=9999).contains(&in_china(at).year()));
            let moment = Moment::nearest(at);
            prop_assert_eq!(Moment::parse(&moment.to_string()), Ok(moment));
            prop_assert_eq!(Moment::try_from(at).is_ok(), at >= EARLIEST && at < END);
        }

        #[test]
        fn e1_any_text_as_a_time_is_answered(text in "[0-9TZ:+.-]{0,40}|.{0,40}") {
            if let Ok(moment) = Moment::parse(&text) {
                let day_before = Moment::after(moment.get(), Duration::days(-1));
                prop_assert!(day_before <= moment);
            }
        }
    }
}
