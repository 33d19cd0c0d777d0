//! The rules under which a session is sold and given back: when it is on sale, how many seats one customer may have,
//! what a customer takes back by themselves.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::{calendar::Moment, document::ScheduleDocument, ids::Malformed, money::Fen};

/// When a session is on sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleTimes {
    /// `None`: at once.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    pub opens_at: Option<OffsetDateTime>,
    /// The start of the session at the latest.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    pub closes_at: OffsetDateTime,
}

/// Where a session is in its sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sale {
    NotYet,
    Open,
    Over,
}

impl SaleTimes {
    /// The opening counts as open, the closing as over.
    pub fn at(&self, now: OffsetDateTime) -> Sale {
        if now >= self.closes_at {
            Sale::Over
        } else if self.opens_at.is_some_and(|opens_at| now < opens_at) {
            Sale::NotYet
        } else {
            Sale::Open
        }
    }
}

/// The rules of a session to be added, consistent with its start.
#[derive(Debug, Clone)]
pub struct SessionRules {
    pub sale_opens_at: Option<Moment>,
    /// `None`: the start, also when the start is moved.
    pub sale_closes_at: Option<Moment>,
    pub seats_per_customer: SeatsPerCustomer,
    pub refund_rules: RefundRules,
}

/// The rules of a session that is added without its own.
#[derive(Debug, Clone)]
pub struct DefaultRules {
    pub seats_per_customer: SeatsPerCustomer,
    pub refund_rules: RefundRules,
}

/// What a door was given of the rules of a session.
#[derive(Debug, Clone, Default)]
pub struct GivenRules {
    pub sale_opens_at: Option<Moment>,
    pub sale_closes_at: Option<Moment>,
    pub seats_per_customer: Option<SeatsPerCustomer>,
    pub refund_rules: Option<RefundRules>,
}

impl GivenRules {
    /// The rules of a session that starts then; what was not given is the default.
    ///
    /// # Errors
    /// The sale would be empty or outlive the start: the member that says so, and why.
    pub fn complete(
        &self,
        starts_at: Moment,
        defaults: &DefaultRules,
    ) -> Result<SessionRules, (&'static str, Malformed)> {
        if self.sale_closes_at.is_some_and(|closes_at| closes_at > starts_at) {
            return Err(("sale_closes_at", Malformed("must not be after the start")));
        }
        let closes_at = self.sale_closes_at.unwrap_or(starts_at);
        if self.sale_opens_at.is_some_and(|opens_at| opens_at >= closes_at) {
            return Err(("sale_opens_at", Malformed("must be before the end of the sale")));
        }
        Ok(SessionRules {
            sale_opens_at: self.sale_opens_at,
            sale_closes_at: self.sale_closes_at,
            seats_per_customer: self.seats_per_customer.unwrap_or(defaults.seats_per_customer),
            refund_rules: self.refund_rules.clone().unwrap_or_else(|| defaults.refund_rules.clone()),
        })
    }

    /// Whether a session has these rules, as far as they were given.
    pub fn became(&self, schedule: &ScheduleDocument) -> bool {
        self.sale_opens_at.is_none_or(|at| schedule.sale_opens_at == Some(at.get()))
            && self.sale_closes_at.is_none_or(|at| schedule.sale_closes_at == at.get())
            && self.seats_per_customer.is_none_or(|seats| schedule.seats_per_customer == seats.get())
            && self.refund_rules.as_ref().is_none_or(|rules| schedule.refund_rules == *rules)
    }
}

/// Held and booked seats that one customer may have in one session: 1 to 100 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatsPerCustomer(i32);

impl SeatsPerCustomer {
    pub fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for SeatsPerCustomer {
    type Error = Malformed;

    fn try_from(seats: i64) -> Result<Self, Malformed> {
        let seats = i32::try_from(seats).ok().filter(|seats| (1..=100_000).contains(seats));
        seats.map(Self).ok_or(Malformed("must be a whole number from 1 to 100000"))
    }
}

impl std::str::FromStr for SeatsPerCustomer {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::try_from(text.parse::<i64>().unwrap_or_default())
    }
}

/// Until so many hours before the start, a customer takes back so much of what is still paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundRule {
    #[schema(minimum = 0, maximum = 8760, example = 24)]
    pub until_hours_before: u16,
    #[schema(minimum = 1, maximum = 100, example = 100)]
    pub percent: u8,
}

/// What customers take back by themselves, and until when; the earliest rule first. None: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Vec<RefundRule>", into = "Vec<RefundRule>")]
pub struct RefundRules(Vec<RefundRule>);

impl RefundRules {
    const MAX: usize = 10;
    /// A year.
    const HOURS_MAX: u16 = 8_760;

    /// Reads a JSON array.
    ///
    /// # Errors
    /// When it is none, or its rules contradict each other.
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        serde_json::from_str::<Vec<RefundRule>>(json)
            .map_err(|_| Malformed("must be a list like [{\"until_hours_before\":24,\"percent\":100}]"))
            .and_then(Self::try_from)
    }

    pub fn rules(&self) -> &[RefundRule] {
        &self.0
    }

    /// The rule that holds at `now` for a session that starts then, and until when; `None` after the last one.
    pub fn at(&self, starts_at: OffsetDateTime, now: OffsetDateTime) -> Option<(RefundRule, OffsetDateTime)> {
        let ends = |rule: &RefundRule| starts_at.saturating_sub(Duration::hours(rule.until_hours_before.into()));
        self.0.iter().map(|rule| (*rule, ends(rule))).find(|(_, until)| now < *until)
    }
}

impl RefundRule {
    /// What goes back of `left`, rounded down to whole fen.
    pub fn share(self, left: Fen) -> Fen {
        let share = i128::from(left.0.max(0)) * i128::from(self.percent) / 100;
        Fen(i64::try_from(share).unwrap_or(left.0))
    }
}

impl TryFrom<Vec<RefundRule>> for RefundRules {
    type Error = Malformed;

    fn try_from(mut rules: Vec<RefundRule>) -> Result<Self, Malformed> {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.until_hours_before));
        let in_range =
            rules.iter().all(|rule| (1..=100).contains(&rule.percent) && rule.until_hours_before <= Self::HOURS_MAX);
        // Who waits longer never takes back more.
        let ordered = rules
            .windows(2)
            .all(|pair| pair[0].until_hours_before > pair[1].until_hours_before && pair[0].percent >= pair[1].percent);
        if rules.len() <= Self::MAX && in_range && ordered {
            Ok(Self(rules))
        } else {
            Err(Malformed(
                "must have at most 10 rules, each with other hours before the start (0 to 8760) and a percentage (1 to 100) that does not grow towards the start",
            ))
        }
    }
}

impl From<RefundRules> for Vec<RefundRule> {
    fn from(rules: RefundRules) -> Self {
        rules.0
    }
}

impl fmt::Display for RefundRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let words: Vec<_> = self
            .0
            .iter()
            .map(|rule| format!("{} % until {} h before", rule.percent, rule.until_hours_before))
            .collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-12-10 19:00:00 UTC);

    #[test]
    fn a_sale_is_open_from_its_opening_until_before_its_closing() {
        let times = SaleTimes { opens_at: Some(datetime!(2026-12-01 10:00:00 UTC)), closes_at: START };
        for (now, sale) in [
            (datetime!(2026-12-01 09:59:59.999 UTC), Sale::NotYet),
            (datetime!(2026-12-01 10:00:00 UTC), Sale::Open),
            (datetime!(2026-12-10 18:59:59.999 UTC), Sale::Open),
            (START, Sale::Over),
        ] {
            assert_eq!(times.at(now), sale, "{now}");
        }
        assert_eq!(SaleTimes { opens_at: None, closes_at: START }.at(datetime!(2000-01-01 00:00:00 UTC)), Sale::Open);
    }

    /// B8: what a customer takes back follows from the rules and the time, and nothing else.
    #[test]
    fn b8_the_first_rule_that_still_holds_decides() {
        let rules =
            RefundRules::parse(r#"[{"until_hours_before":2,"percent":50},{"until_hours_before":48,"percent":100}]"#)
                .unwrap();
        let percent = |hours: i64| rules.at(START, START - Duration::hours(hours)).map(|(rule, _)| rule.percent);
        assert_eq!(
            [percent(49), percent(48), percent(3), percent(2), percent(-1)],
            [Some(100), Some(50), Some(50), None, None]
        );
        assert_eq!(RefundRules::default().at(START, START - Duration::days(300)), None);
        let until_start = RefundRules::parse(r#"[{"until_hours_before":0,"percent":1}]"#).unwrap();
        assert_eq!(until_start.at(START, START), None, "the start is too late");
    }

    #[test]
    fn b8_rules_that_contradict_each_other_are_refused() {
        for json in [
            "",
            "{}",
            "null",
            "[1]",
            r#"[{"until_hours_before":24}]"#,
            r#"[{"until_hours_before":24,"percent":0}]"#,
            r#"[{"until_hours_before":24,"percent":101}]"#,
            r#"[{"until_hours_before":-1,"percent":50}]"#,
            r#"[{"until_hours_before":8761,"percent":50}]"#,
            r#"[{"until_hours_before":24,"percent":50,"fen":1}]"#,
            r#"[{"until_hours_before":24,"percent":50},{"until_hours_before":24,"percent":40}]"#,
            r#"[{"until_hours_before":48,"percent":50},{"until_hours_before":24,"percent":60}]"#,
        ] {
            assert!(RefundRules::parse(json).is_err(), "{json}");
        }
        assert_eq!(RefundRules::parse("[]").unwrap().to_string(), "none");
    }

    proptest! {
        #[test]
        fn b8_a_share_is_never_more_than_is_left(left in 0..=i64::MAX, percent in 1u8..=100) {
            let share = RefundRule { until_hours_before: 0, percent }.share(Fen(left));
            prop_assert!(share >= Fen::ZERO && share <= Fen(left));
            prop_assert!(percent < 100 || share == Fen(left));
        }
    }
}
