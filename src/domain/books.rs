//! Our books against WeChat's bill: which facts of a day differ, and what follows from each difference.
//!
//! Both sides are looked at: what the bill says and we do not, and what we say and the bill does not. What can be
//! mended by asking WeChat for its signed word is mended through the ordinary queues; the rest is for a person.

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};
use utoipa::ToSchema;

use super::{money::Fen, refund::RefundStatus};

/// What a row of the bill is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matter {
    Payment,
    Refund,
}

impl Matter {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
        }
    }
}

/// One row of WeChat's bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    pub matter: Matter,
    /// Of a payment its `transaction_id`, of a refund its `out_refund_no`.
    pub number: String,
    /// As WeChat spells it; it may name no order of ours.
    pub out_trade_no: String,
    pub amount: Fen,
    /// WeChat's word: `SUCCESS`, `REVOKED`; of refunds `SUCCESS`, `PROCESSING`, `FAIL`, ….
    pub state: String,
}

/// The same fact in our books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    pub order_id: String,
    pub amount: Fen,
    /// Of a refund only.
    pub refund: Option<RefundStatus>,
}

/// One fact as both sides tell it; at least one of them does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub matter: Matter,
    pub number: String,
    pub billed: Option<Billed>,
    pub booked: Option<Booked>,
    /// Whether the order that the bill names is ours.
    pub order_known: bool,
}

macro_rules! kinds {
    ($($kind:ident $name:literal)*) => {
        /// How a fact differs. A difference for a person opens a case of the same name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }
        }
    };
}

kinds! {
    // WeChat was paid for an order of ours, and we have not heard of it.
    PaymentUnseen "payment_unseen"
    // In the bill, of an order that is not ours.
    UnknownOrder "unknown_order"
    // In the bill for an order of ours, and WeChat itself does not know it when asked.
    PaymentExtra "payment_extra"
    // Ours, and not in the bill.
    PaymentMissing "payment_missing"
    PaymentAmount "payment_amount"
    // Paid by our books, and something else by the bill.
    PaymentState "payment_state"
    // The same transaction, another order.
    PaymentOrder "payment_order"
    // WeChat is further with it than our books.
    RefundUnseen "refund_unseen"
    UnknownRefund "unknown_refund"
    RefundMissing "refund_missing"
    RefundAmount "refund_amount"
    RefundState "refund_state"
    RefundOrder "refund_order"
}

/// What the two sides of a fact come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Agrees,
    /// WeChat is to be asked for its signed word first.
    Ask(Kind),
    /// For a person.
    Case(Kind),
}

/// What WeChat says when asked about one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It knows the number, and its facts can be taken into the books.
    Known,
    /// It knows the number; it belongs to another day's bill.
    OtherDay,
    /// It does not know the number.
    Absent,
    /// It says something that this program does not understand.
    Unclear,
}

/// What becomes of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// WeChat's signed word is on the ordinary queue, and its worker mends the books.
    Heal,
    /// For a person.
    Case,
}

impl Remedy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heal => "heal",
            Self::Case => "case",
        }
    }
}

/// Compares the two sides of one fact.
pub fn compare(pair: &Pair) -> Finding {
    match (pair.matter, &pair.billed, &pair.booked) {
        (_, None, None) => Finding::Agrees,
        (Matter::Payment, Some(_), None) if pair.order_known => Finding::Ask(Kind::PaymentUnseen),
        (Matter::Payment, Some(_), None) => Finding::Case(Kind::UnknownOrder),
        (Matter::Payment, None, Some(_)) => Finding::Case(Kind::PaymentMissing),
        (Matter::Payment, Some(billed), Some(booked)) => payment(billed, booked),
        // Staff refund in the merchant platform: WeChat's word takes it into the order's books.
        (Matter::Refund, Some(_), None) if pair.order_known => Finding::Ask(Kind::UnknownRefund),
        (Matter::Refund, Some(_), None) => Finding::Case(Kind::UnknownRefund),
        // Bills date a refund by when WeChat took it, which our books do not know to the second.
        (Matter::Refund, None, Some(_)) => Finding::Ask(Kind::RefundMissing),
        (Matter::Refund, Some(billed), Some(booked)) => refund(billed, booked),
    }
}

fn payment(billed: &Billed, booked: &Booked) -> Finding {
    if billed.out_trade_no != booked.order_id {
        Finding::Case(Kind::PaymentOrder)
    } else if billed.amount != booked.amount {
        Finding::Case(Kind::PaymentAmount)
    } else if billed.state != "SUCCESS" {
        Finding::Case(Kind::PaymentState)
    } else {
        Finding::Agrees
    }
}

fn refund(billed: &Billed, booked: &Booked) -> Finding {
    use RefundStatus as S;
    if billed.out_trade_no != booked.order_id {
        return Finding::Case(Kind::RefundOrder);
    }
    if billed.amount != booked.amount {
        return Finding::Case(Kind::RefundAmount);
    }
    let ours = booked.refund.unwrap_or(S::Requested);
    match (billed.state.as_str(), ours) {
        ("SUCCESS", S::Succeeded) => Finding::Agrees,
        ("SUCCESS", S::Requested | S::Processing | S::Abnormal | S::Refused | S::PaidByHand | S::NotOwed) => {
            Finding::Ask(Kind::RefundUnseen)
        }
        // The bill is written once; what it calls under way may have ended since.
        ("PROCESSING", S::Requested) => Finding::Ask(Kind::RefundUnseen),
        ("PROCESSING", S::Processing | S::Succeeded | S::Abnormal | S::Closed) => Finding::Agrees,
        // A failure, in whatever word.
        (_, S::Abnormal | S::Closed) if billed.state != "SUCCESS" => Finding::Agrees,
        // A person ended what WeChat could not do; while it is at work the end is not known.
        (_, S::PaidByHand | S::NotOwed) => Finding::Agrees,
        (_, S::Requested | S::Processing) => Finding::Ask(Kind::RefundUnseen),
        (_, S::Succeeded | S::Closed | S::Refused | S::Abnormal) => Finding::Case(Kind::RefundState),
    }
}

/// What follows once WeChat was asked; `None` when the sides agree after all.
pub fn after_asking(kind: Kind, word: Word) -> Option<(Kind, Remedy)> {
    match (kind, word) {
        (Kind::RefundMissing, Word::OtherDay) => None,
        (Kind::RefundMissing, Word::Known | Word::Absent | Word::Unclear) => Some((kind, Remedy::Case)),
        (Kind::PaymentUnseen, Word::Absent) => Some((Kind::PaymentExtra, Remedy::Case)),
        (Kind::RefundUnseen, Word::Absent) => Some((Kind::RefundState, Remedy::Case)),
        (_, Word::Known | Word::OtherDay) => Some((kind, Remedy::Heal)),
        (_, Word::Absent | Word::Unclear) => Some((kind, Remedy::Case)),
    }
}

/// The sum that is at stake in a difference.
pub fn at_stake(billed: Option<Fen>, booked: Option<Fen>, kind: Kind) -> Fen {
    let (billed, booked) = (billed.unwrap_or_default(), booked.unwrap_or_default());
    let (more, less) = if billed >= booked { (billed, booked) } else { (booked, billed) };
    match kind {
        Kind::PaymentAmount | Kind::RefundAmount => more.checked_sub(less).unwrap_or(more),
        _ => more,
    }
}

/// How a day's comparing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DayStatus {
    /// Both sides tell the same.
    Balanced,
    /// There are differences that still stand.
    Differs,
    /// Neither side knows of any trade.
    NoTrade,
    /// Not compared to the end yet; `error` says why.
    Unfinished,
}

impl DayStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Differs => "differs",
            Self::NoTrade => "no_trade",
            Self::Unfinished => "unfinished",
        }
    }
}

/// One side's day in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sums {
    pub payments: i64,
    pub paid_fen: i64,
    pub refunds: i64,
    pub refunded_fen: i64,
}

time::serde::format_description!(calendar_day, Date, "[year]-[month]-[day]");

/// A day of ours beside WeChat's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DayDocument {
    /// China's day.
    #[serde(with = "calendar_day")]
    pub date: Date,
    pub status: DayStatus,
    /// When it was last compared to the end.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    pub checked_at: Option<OffsetDateTime>,
    /// What WeChat's bill says.
    pub bill: Sums,
    /// What our books say.
    pub books: Sums,
    /// Differences ever found, and those among them that still stand.
    pub found: i64,
    pub standing: i64,
    /// Of those that stand: how many wait for a person.
    pub cases: i64,
    /// Why the last comparing did not come to its end.
    pub error: Option<String>,
}

/// One fact of a day that differs, or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceDocument {
    pub kind: Kind,
    pub remedy: Remedy,
    /// WeChat's number of the payment, our number of the refund.
    pub number: String,
    /// As the bill spells it where it has the fact, else ours.
    pub order_id: String,
    pub bill_fen: Option<i64>,
    pub books_fen: Option<i64>,
    pub bill_state: Option<String>,
    pub books_state: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    pub found_at: OffsetDateTime,
    /// Since when the sides agree about it.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    pub settled_at: Option<OffsetDateTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn billed(matter: Matter, fen: i64, state: &str) -> Billed {
        Billed { matter, number: "n".into(), out_trade_no: "hf1".into(), amount: Fen(fen), state: state.into() }
    }

    fn pair(billed: Option<Billed>, booked: Option<(i64, Option<RefundStatus>)>) -> Pair {
        let matter = match (&billed, &booked) {
            (Some(billed), _) => billed.matter,
            (None, Some((_, Some(_)))) => Matter::Refund,
            (None, _) => Matter::Payment,
        };
        let booked = booked.map(|(fen, refund)| Booked { order_id: "hf1".into(), amount: Fen(fen), refund });
        Pair { matter, number: "n".into(), billed, booked, order_known: true }
    }

    #[test]
    fn a_payment_is_compared_in_every_part() {
        let paid = |fen, state| Some(billed(Matter::Payment, fen, state));
        assert_eq!(compare(&pair(paid(100, "SUCCESS"), Some((100, None)))), Finding::Agrees);
        assert_eq!(compare(&pair(paid(101, "SUCCESS"), Some((100, None)))), Finding::Case(Kind::PaymentAmount));
        assert_eq!(compare(&pair(paid(100, "REVOKED"), Some((100, None)))), Finding::Case(Kind::PaymentState));
        assert_eq!(compare(&pair(None, Some((100, None)))), Finding::Case(Kind::PaymentMissing));
        assert_eq!(compare(&pair(paid(100, "SUCCESS"), None)), Finding::Ask(Kind::PaymentUnseen));
        let stranger = Pair { order_known: false, ..pair(paid(100, "SUCCESS"), None) };
        assert_eq!(compare(&stranger), Finding::Case(Kind::UnknownOrder));
        let mut other = pair(paid(100, "SUCCESS"), Some((100, None)));
        other.booked = other.booked.map(|booked| Booked { order_id: "hf2".into(), ..booked });
        assert_eq!(compare(&other), Finding::Case(Kind::PaymentOrder));
    }

    #[test]
    fn every_status_of_a_refund_meets_every_word() {
        use Finding::{Agrees, Ask, Case};
        use RefundStatus as S;
        let unseen = Ask(Kind::RefundUnseen);
        let state = Case(Kind::RefundState);
        for (ours, [success, processing, fail]) in [
            (S::Requested, [unseen, unseen, unseen]),
            (S::Processing, [unseen, Agrees, unseen]),
            (S::Succeeded, [Agrees, Agrees, state]),
            (S::Abnormal, [unseen, Agrees, Agrees]),
            (S::Closed, [state, Agrees, Agrees]),
            (S::Refused, [unseen, state, state]),
            (S::PaidByHand, [unseen, Agrees, Agrees]),
            (S::NotOwed, [unseen, Agrees, Agrees]),
        ] {
            for (word, expected) in [("SUCCESS", success), ("PROCESSING", processing), ("FAIL", fail)] {
                let pair = pair(Some(billed(Matter::Refund, 100, word)), Some((100, Some(ours))));
                assert_eq!(compare(&pair), expected, "{ours:?} and {word}");
            }
        }
        let pair = pair(None, Some((100, Some(S::Processing))));
        assert_eq!(compare(&pair), Ask(Kind::RefundMissing));
    }

    #[test]
    fn only_wechats_word_heals() {
        for kind in [Kind::PaymentUnseen, Kind::RefundUnseen] {
            assert_eq!(after_asking(kind, Word::Known), Some((kind, Remedy::Heal)));
            assert!(matches!(after_asking(kind, Word::Absent), Some((_, Remedy::Case))));
            assert_eq!(after_asking(kind, Word::Unclear), Some((kind, Remedy::Case)));
        }
        assert_eq!(after_asking(Kind::RefundMissing, Word::OtherDay), None);
    }

    #[test]
    fn names_are_those_of_the_documents() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
