//! Money: whole fen, checked. There is no other unit inside.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::Malformed;

/// An amount in fen (1 yuan = 100 fen).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fen(pub i64);

impl Fen {
    pub const ZERO: Self = Self(0);
    /// The largest amount that a message, a callback or a bill may name: ten billion yuan, ten thousand times the
    /// largest price. Sums over millions of such amounts stay inside 64 bits.
    pub const LARGEST: Self = Self(1_000_000_000_000);

    /// Whether this can be the sum of one payment or refund.
    pub fn is_amount(self) -> bool {
        Self::ZERO < self && self <= Self::LARGEST
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// An amount that a person names.
    ///
    /// # Errors
    /// It is not one fen or more, or above [`Fen::LARGEST`].
    pub fn amount(fen: i64) -> Result<Self, Malformed> {
        let amount = Some(Self(fen)).filter(|amount| amount.is_amount());
        amount.ok_or(Malformed("must be a whole number of fen from 1 to 1000000000000"))
    }

    /// Reads yuan with decimals, as WeChat's bills write them: `200.00`, `0.0`, `12`. Exact, never by way of a float.
    /// `None` for anything else, a fraction of a fen and a sum below zero among it.
    pub fn from_yuan(yuan: &str) -> Option<Self> {
        let (whole, decimals) = yuan.split_once('.').unwrap_or((yuan, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let (tenths, beyond) = decimals.split_at_checked(2).unwrap_or((decimals, ""));
        if !is_number(whole) || !is_number(decimals) || beyond.bytes().any(|byte| byte != b'0') {
            return None;
        }
        let fen: i64 = tenths.parse().ok()?;
        let fen = if tenths.len() == 1 { fen * 10 } else { fen };
        whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(fen).map(Self)
    }

    /// `None` also when the result would be negative: nobody owes less than nothing.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).filter(|fen| *fen >= 0).map(Self)
    }
}

impl std::str::FromStr for Fen {
    type Err = Malformed;

    /// Whole fen, as command lines give amounts.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::amount(whole_number(text))
    }
}

/// Digits alone (no sign, no blank), so that a command line takes what JSON takes; what is no such number is below
/// every range, what 64 bits do not hold above it.
pub(super) fn whole_number(text: &str) -> i64 {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().unwrap_or(i64::MAX) } else { i64::MIN }
}

/// As people read it: `¥200.00`.
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        write!(f, "{sign}¥{}.{:02}", fen / 100, fen % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Fen(i64::MAX).checked_add(Fen(1)), None);
        assert_eq!(Fen(100).checked_sub(Fen(101)), None);
        assert_eq!(Fen(100).checked_sub(Fen(100)), Some(Fen::ZERO));
    }

    #[test]
    fn yuan_become_fen_exactly_or_not_at_all() {
        for (yuan, fen) in [
            ("200.00", 20_000),
            ("0.07", 7),
            ("0.0", 0),
            ("12", 1_200),
            ("0.1", 10),
            ("1.20000", 120),
            ("92233720368547758.07", i64::MAX),
        ] {
            assert_eq!(Fen::from_yuan(yuan), Some(Fen(fen)), "{yuan}");
        }
        for wrong in ["", ".", "1.", ".5", "-1.00", "+1.00", "1,000.00", "0.001", "1e3", "１", "92233720368547758.08"]
        {
            assert_eq!(Fen::from_yuan(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn shown_in_yuan() {
        assert_eq!(Fen(20_000).to_string(), "¥200.00");
        assert_eq!(Fen(5).to_string(), "¥0.05");
        assert_eq!(Fen(-150).to_string(), "-¥1.50");
    }

    proptest! {
        #[test]
        fn a_sum_gives_back_its_parts_or_is_none(a in any::<i64>(), b in any::<i64>()) {
            match Fen(a).checked_add(Fen(b)) {
                Some(sum) => {
                    prop_assert_eq!(i128::from(sum.0), i128::from(a) + i128::from(b));
                    prop_assert_eq!(sum.checked_sub(Fen(b)), (a >= 0).then_some(Fen(a)));
                }
                None => prop_assert!(i64::try_from(i128::from(a) + i128::from(b)).is_err()),
            }
        }

        #[test]
        fn no_difference_is_below_nothing(a in any::<i64>(), b in any::<i64>()) {
            prop_assert!(Fen(a).checked_sub(Fen(b)).is_none_or(|rest| rest.0 >= 0));
        }

        #[test]
        fn what_people_read_is_every_fen_of_it(fen in any::<i64>()) {
            let digits: String = Fen(fen).to_string().chars().filter(|c| c.is_ascii_digit() || *c == '-').collect();
            prop_assert_eq!(digits.parse::<i64>(), Ok(fen));
        }
    }
}
