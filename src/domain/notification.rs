//! What customers are told, by kind. At most one message per (order, kind), for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    calendar::in_china,
    ids::{OrderId, SeatNo},
    money::Fen,
};

/// Why a customer is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Paid and booked.
    BookingConfirmed,
    /// No seat could be had.
    BookingFailed,
    HoldLapsed,
    OrderExpired,
    /// Paid too late for a seat: the money is on its way back.
    PaymentReceived,
    Refunded,
    WaitlistOffer,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::BookingConfirmed,
        Self::BookingFailed,
        Self::HoldLapsed,
        Self::OrderExpired,
        Self::PaymentReceived,
        Self::Refunded,
        Self::WaitlistOffer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BookingConfirmed => "booking_confirmed",
            Self::BookingFailed => "booking_failed",
            Self::HoldLapsed => "hold_lapsed",
            Self::OrderExpired => "order_expired",
            Self::PaymentReceived => "payment_received",
            Self::Refunded => "refunded",
            Self::WaitlistOffer => "waitlist_offer",
        }
    }
}

/// How far a message got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationStatus {
    Pending,
    /// WeChat accepted it (which is not yet delivery).
    Sent,
    /// WeChat refused it for good; the code is kept.
    Failed,
    /// The answer was lost and WeChat's ten minutes of remembering `client_msg_id` are over.
    Uncertain,
}

impl NotificationStatus {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Sent, Self::Failed, Self::Uncertain];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// What a message is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub order_id: &'a OrderId,
    pub course: &'a str,
    pub starts_at: OffsetDateTime,
    pub amount_fen: Fen,
    pub refunded_fen: Fen,
    pub seat_no: Option<SeatNo>,
    /// The slug of a rejection.
    pub reason: Option<&'a str>,
}

/// The keys of [`words`] with what their values say, for whoever chooses a template.
pub fn keys(kind: Kind) -> Vec<(&'static str, &'static str)> {
    let (course, starts_at, order_id) = (("thing1", "课程"), ("time2", "上课时间"), ("character_string5", "订单号"));
    let (seat, amount) = (("thing3", "座位"), ("amount4", "金额"));
    match kind {
        Kind::BookingConfirmed => vec![course, starts_at, seat, amount, order_id],
        Kind::BookingFailed => vec![course, starts_at, ("phrase3", "原因"), order_id],
        Kind::HoldLapsed | Kind::OrderExpired | Kind::WaitlistOffer => vec![course, starts_at, seat, order_id],
        Kind::PaymentReceived => vec![course, starts_at, amount, order_id],
        Kind::Refunded => vec![course, ("amount4", "退款金额"), order_id],
    }
}

/// The values of a message's template, by key; the rule of each is in its key's prefix (`thing`, `time`, `amount` …). A
/// merchant's template may have other keys: the settings say which stands for which.
pub fn words(kind: Kind, facts: &Facts<'_>) -> BTreeMap<&'static str, String> {
    let course = facts.course.to_owned();
    let starts_at = china_time(facts.starts_at);
    let amount = facts.amount_fen.to_string();
    let order_id = facts.order_id.to_string();
    let seat = facts.seat_no.map_or_else(|| "—".to_owned(), |seat| format!("{seat}号座"));
    match kind {
        Kind::BookingConfirmed => BTreeMap::from([
            ("thing1", course),
            ("time2", starts_at),
            ("thing3", seat),
            ("amount4", amount),
            ("character_string5", order_id),
        ]),
        Kind::BookingFailed => BTreeMap::from([
            ("thing1", course),
            ("time2", starts_at),
            ("phrase3", refusal(facts.reason).to_owned()),
            ("character_string5", order_id),
        ]),
        Kind::HoldLapsed | Kind::OrderExpired | Kind::WaitlistOffer => BTreeMap::from([
            ("thing1", course),
            ("time2", starts_at),
            ("thing3", seat),
            ("character_string5", order_id),
        ]),
        Kind::PaymentReceived => BTreeMap::from([
            ("thing1", course),
            ("time2", starts_at),
            ("amount4", amount),
            ("character_string5", order_id),
        ]),
        Kind::Refunded => BTreeMap::from([
            ("thing1", course),
            ("amount4", facts.refunded_fen.to_string()),
            ("character_string5", order_id),
        ]),
    }
}

/// At most five characters: WeChat's `phrase`.
fn refusal(reason: Option<&str>) -> &'static str {
    match reason {
        Some("sold-out") => "已售罄",
        Some("seat-taken") => "座位已被选",
        Some("schedule-closed" | "not-on-sale") => "已停止报名",
        Some("amount-mismatch") => "价格已变动",
        _ => "未能预订",
    }
}

/// `2026-11-22 19:30`, in China.
fn china_time(at: OffsetDateTime) -> String {
    let at = in_china(at);
    let (date, hour, minute) = (at.date(), at.hour(), at.minute());
    format!("{date} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    #[test]
    fn s4_3_every_kind_has_words() {
        let order_id = OrderId::try_from("hf00000001".to_owned()).unwrap();
        let facts = Facts {
            order_id: &order_id,
            course: "陶艺",
            starts_at: datetime!(2026-11-22 11:30 UTC),
            amount_fen: Fen(20_000),
            refunded_fen: Fen(5_000),
            seat_no: Some(SeatNo(7)),
            reason: Some("sold-out"),
        };
        for kind in Kind::ALL {
            let words = words(kind, &facts);
            assert_eq!(words["thing1"], "陶艺");
            assert_eq!(words["character_string5"], "hf00000001");
            assert!(words.keys().eq(keys(kind).iter().map(|(key, _)| key).collect::<BTreeSet<_>>()));
            for (key, value) in words {
                if key.starts_with("phrase") {
                    assert!(value.chars().count() <= 5, "{value}");
                }
            }
        }
        assert_eq!(words(Kind::BookingConfirmed, &facts)["time2"], "2026-11-22 19:30");
        assert_eq!(words(Kind::Refunded, &facts)["amount4"], "¥50.00");
    }

    proptest! {
        /// E1: no time, title or amount keeps a message from being written.
        #[test]
        fn e1_any_fact_has_words(seconds in -377_705_116_800i64..=253_402_300_799, course in any::<String>(), fen in any::<i64>()) {
            let order_id = OrderId::try_from("hf00000001".to_owned()).unwrap();
            let starts_at = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let facts = Facts {
                order_id: &order_id,
                course: &course,
                starts_at,
                amount_fen: Fen(fen),
                refunded_fen: Fen(fen),
                seat_no: None,
                reason: Some(&course),
            };
            for kind in Kind::ALL {
                prop_assert!(words(kind, &facts).values().all(|value| !value.is_empty() || course.is_empty()));
            }
        }
    }
}
