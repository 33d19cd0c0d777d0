//! A session to be added, in values that both doors (API and command line) parse the same way.

use super::{
    calendar::Moment,
    ids::{CourseId, Malformed, ScheduleId},
    money::{Fen, whole_number},
    session_rules::SessionRules,
    text::Title,
};

/// A session to be added. Its fields cannot hold what the books or a message cannot bear.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    pub schedule_id: ScheduleId,
    pub course_id: CourseId,
    /// Used only when the course is new.
    pub course: Title,
    pub starts_at: Moment,
    pub price_fen: Price,
    pub capacity: Capacity,
    pub rules: SessionRules,
}

/// Seats of a room: 1 to 100 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity(i32);

impl Capacity {
    pub const MAX: i32 = 100_000;

    pub fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for Capacity {
    type Error = Malformed;

    fn try_from(seats: i64) -> Result<Self, Malformed> {
        let seats = i32::try_from(seats).ok().filter(|seats| (1..=Self::MAX).contains(seats));
        seats.map(Self).ok_or(Malformed("must be a whole number from 1 to 100000"))
    }
}

/// What one seat costs: 1 fen to a million yuan. WeChat's single payments are far below that, and sums over all seats
/// of all sessions stay far inside 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(Fen);

impl Price {
    /// In fen.
    pub const MAX: i64 = 100_000_000;

    pub fn get(self) -> Fen {
        self.0
    }
}

impl TryFrom<i64> for Price {
    type Error = Malformed;

    fn try_from(fen: i64) -> Result<Self, Malformed> {
        let fits = (1..=Self::MAX).contains(&fen);
        if fits { Ok(Self(Fen(fen))) } else { Err(Malformed("must be a whole number of fen from 1 to 100000000")) }
    }
}

/// Command lines give numbers as text.
macro_rules! from_text {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                Self::try_from(whole_number(text))
            }
        }
    };
}

from_text!(Capacity);
from_text!(Price);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_a_price_has_an_upper_bound() {
        for fen in [i64::MIN, -1, 0, 100_000_001, i64::MAX] {
            assert!(Price::try_from(fen).is_err(), "{fen}");
        }
        assert_eq!(Price::try_from(100_000_000).unwrap().get(), Fen(100_000_000));
        assert_eq!("20000".parse::<Price>().unwrap().get(), Fen(20_000));
        for text in ["", "+5", "-5", "5.0", "１", "9223372036854775808", "5\0"] {
            assert!(text.parse::<Price>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_room_has_between_one_and_a_hundred_thousand_seats() {
        for seats in [i64::MIN, 0, 100_001, i64::from(i32::MAX) + 1, 1 << 32 | 5] {
            assert!(Capacity::try_from(seats).is_err(), "{seats}");
        }
        assert_eq!(Capacity::try_from(100_000).unwrap().get(), 100_000);
    }
}
