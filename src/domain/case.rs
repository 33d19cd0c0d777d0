//! Cases: money or a fact that needs a person, and what to do about each kind.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    books,
    ids::{OrderId, RefundId},
    money::Fen,
};

/// Why a person is needed. The database keeps the name, so that one release can read another's cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseKind {
    /// WeChat took money for a number that is not in our books.
    UnknownOrder,
    AmountMismatch,
    CurrencyMismatch,
    MchidMismatch,
    AppidMismatch,
    /// An order that is settled was paid once more.
    PaidTwice,
    /// Money for an order that never had a code.
    PaidWithoutCode,
    /// WeChat refunded another sum than we asked for.
    RefundMismatch,
    /// The payer's account could not take the refund; or the money never was WeChat's.
    RefundAbnormal,
    /// WeChat tells of a refund that we did not ask for.
    UnknownRefund,
    /// The merchant's balance does not cover a refund.
    MerchantBalance,
    /// WeChat says, unsigned, that the payer's account cannot take the refund.
    PayerAccountAbnormal,
    RefundRefused,
    /// WeChat reports that money of an order was given back, and no refund that we know did it.
    RefundAtWechat,
    /// One payment of WeChat's is reported for two orders.
    TransactionOfTwoOrders,
    /// A row that this release cannot read: work that it stands for is left out.
    UnreadableRow,
    /// A person ended the refund outside WeChat, and WeChat gave the money back all the same.
    RefundedTwice,
    /// Our books and WeChat's bill differ about a number.
    Differs(books::Kind),
    /// WeChat has no bill of a day on which we took money.
    BillMissing,
}

impl From<books::Kind> for CaseKind {
    /// What only WeChat knows is the same fact, whether a callback or the bill told it.
    fn from(kind: books::Kind) -> Self {
        match kind {
            books::Kind::UnknownOrder => Self::UnknownOrder,
            books::Kind::UnknownRefund => Self::UnknownRefund,
            other => Self::Differs(other),
        }
    }
}

impl CaseKind {
    /// All but [`Self::Differs`], which has those of the books.
    const OWN: [Self; 18] = [
        Self::UnknownOrder,
        Self::AmountMismatch,
        Self::CurrencyMismatch,
        Self::MchidMismatch,
        Self::AppidMismatch,
        Self::PaidTwice,
        Self::PaidWithoutCode,
        Self::RefundMismatch,
        Self::RefundAbnormal,
        Self::UnknownRefund,
        Self::MerchantBalance,
        Self::PayerAccountAbnormal,
        Self::RefundRefused,
        Self::RefundedTwice,
        Self::RefundAtWechat,
        Self::TransactionOfTwoOrders,
        Self::UnreadableRow,
        Self::BillMissing,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOrder => "unknown_order",
            Self::AmountMismatch => "amount_mismatch",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::MchidMismatch => "mchid_mismatch",
            Self::AppidMismatch => "appid_mismatch",
            Self::PaidTwice => "paid_twice",
            Self::PaidWithoutCode => "paid_without_code",
            Self::RefundMismatch => "refund_mismatch",
            Self::RefundAbnormal => "refund_abnormal",
            Self::UnknownRefund => "unknown_refund",
            Self::MerchantBalance => "merchant_balance",
            Self::PayerAccountAbnormal => "payer_account_abnormal",
            Self::RefundRefused => "refund_refused",
            Self::RefundedTwice => "refunded_twice",
            Self::RefundAtWechat => "refund_at_wechat",
            Self::TransactionOfTwoOrders => "transaction_of_two_orders",
            Self::UnreadableRow => "unreadable_row",
            Self::Differs(kind) => kind.as_str(),
            Self::BillMissing => "bill_missing",
        }
    }

    pub fn all() -> impl Iterator<Item = Self> {
        let differing = books::Kind::ALL.iter().map(|kind| Self::from(*kind));
        Self::OWN.into_iter().chain(differing.filter(|kind| matches!(kind, Self::Differs(_))))
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.as_str() == name)
    }

    /// Whether it asks a person about the refund that is its subject: the refund is not sent to WeChat meanwhile.
    /// `store::asks_person!` is the same in SQL.
    pub fn asks_person(self) -> bool {
        self != Self::MerchantBalance
    }

    /// When a case that was closed opens again.
    pub fn returns(self) -> Returns {
        match self {
            Self::MerchantBalance | Self::PayerAccountAbnormal | Self::RefundRefused | Self::BillMissing => {
                Returns::Always
            }
            Self::Differs(_) | Self::RefundAtWechat | Self::UnreadableRow => Returns::AfterItWasSettled,
            Self::UnknownOrder
            | Self::AmountMismatch
            | Self::CurrencyMismatch
            | Self::MchidMismatch
            | Self::AppidMismatch
            | Self::PaidTwice
            | Self::PaidWithoutCode
            | Self::RefundMismatch
            | Self::RefundAbnormal
            | Self::RefundedTwice
            | Self::TransactionOfTwoOrders
            | Self::UnknownRefund => Returns::OnlyChanged,
        }
    }

    /// What a person can do about it.
    pub fn suggestion(self) -> &'static str {
        match self {
            Self::UnknownOrder => {
                "Look the number up in the merchant platform. Is it another environment's under the same merchant number? \
                 Else give the money back there, and close the case with the refund's number."
            }
            Self::AmountMismatch => {
                "Compare with the merchant platform. If WeChat holds this sum, give it back with the override `refund`; \
                 if WeChat holds the price, `confirm` takes its word."
            }
            Self::CurrencyMismatch | Self::MchidMismatch | Self::AppidMismatch => {
                "A payment under another merchant, app or currency: check who else uses this address for callbacks. Give the money \
                 back where it lies, and close the case with the refund's number."
            }
            Self::PaidTwice => {
                "The order was settled before this payment. Give this one back in the merchant platform, and close the \
                 case with the refund's number."
            }
            Self::PaidWithoutCode => {
                "This order never had a code of ours. Find out who made one; give the money back in the merchant platform, \
                 and close the case with the refund's number."
            }
            Self::RefundMismatch => {
                "WeChat reports this refund with other facts than ours: the details compare them. Nothing was settled. Look \
                 both up in the merchant platform, settle it with the customer, and close the case with what was found."
            }
            Self::UnknownRefund => {
                "WeChat gave money back that we did not ask for, as staff do in the merchant platform. Of an order of ours it \
                 is counted already, and the seat is free when all is gone. Find out who and why, and close the case with it."
            }
            Self::RefundAtWechat => {
                "WeChat reports that money of this payment was given back, and none of our refunds did it. Look up the \
                 refund's number in the merchant platform and take it into the books: `holdfast order take-refund`."
            }
            Self::TransactionOfTwoOrders => {
                "WeChat reports one payment for two orders; the details name both. It counts for the first. Ask WeChat's \
                 support with the number, and see to the second order by hand."
            }
            Self::UnreadableRow => {
                "A row of the database cannot be read by this release, so the work that it stands for waits. The details name \
                 table and row: mend it, or run the release that wrote it."
            }
            Self::RefundAbnormal | Self::PayerAccountAbnormal => {
                "The customer is still owed this, and it is not sent again. Ask for another account and use the merchant \
                 platform's handling of abnormal refunds: the case closes by itself when WeChat reports success. Or pay by \
                 hand and close the case with --paid-by-hand and the receipt's number; with --not-owed when it is not owed."
            }
            Self::MerchantBalance => {
                "Fund the merchant account. The refund is repeated by itself and the case closes with it."
            }
            Self::BillMissing => {
                "WeChat says that nothing was traded on a day of which our books know trade. Look at the day in the merchant \
                 platform; the bill is asked for again every hour, and the case closes by itself when it comes."
            }
            Self::Differs(kind) => differing(kind),
            Self::RefundRefused => {
                "WeChat refuses this refund for good; the details say why. It is not sent again. Give the money back by hand \
                 and close the case with --paid-by-hand and the receipt's number, or with --not-owed. To try WeChat once \
                 more: close it with --not-owed and ask for a new refund."
            }
            Self::RefundedTwice => {
                "The refund was ended by a person, and WeChat gave the money back afterwards. Look at both receipts, settle \
                 it with the customer, and close the case with what was found."
            }
        }
    }
}

/// What a person can do about a difference from WeChat's bill. Each closes by itself when the sides agree.
fn differing(kind: books::Kind) -> &'static str {
    use books::Kind as K;
    match kind {
        K::PaymentUnseen | K::RefundUnseen | K::UnknownOrder | K::UnknownRefund => {
            "WeChat's signed word about it could not be had. `holdfast reconcile --date` asks again."
        }
        K::PaymentExtra => {
            "The bill has it and WeChat does not know it when asked: ask WeChat's support with the number."
        }
        K::PaymentMissing | K::RefundMissing => {
            "Our books have it and the bill has not: settle no accounts for it before WeChat explains."
        }
        K::PaymentAmount | K::RefundAmount => {
            "The bill has another sum: the merchant platform says what was taken. Set it right with the customer."
        }
        K::PaymentState | K::RefundState => {
            "The bill has another end: look in the merchant platform. The customer may be owed money or a seat."
        }
        K::PaymentOrder | K::RefundOrder => "The same number stands for another order: ask WeChat's support with it.",
    }
}

/// When a closed case opens again, because what it is about is there once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// A condition: each time it is met again.
    Always,
    /// A difference: when it had been settled; else only when it is another one.
    AfterItWasSettled,
    /// A fact that happened once and may be reported again: only when something about it is new.
    OnlyChanged,
}

/// How a case was closed before it opened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Earlier {
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<OffsetDateTime>,
    pub closed_by: Option<String>,
    pub resolution: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaseStatus {
    Open,
    Closed,
}

impl CaseStatus {
    pub const ALL: [Self; 2] = [Self::Open, Self::Closed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// A case, as the queue of things that need a person shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CaseDocument {
    #[schema(value_type = String, format = "uuid")]
    pub case_id: Uuid,
    #[schema(example = "refund_abnormal")]
    pub kind: String,
    /// WeChat's or our number of the fact: a transaction's, a refund's.
    pub subject: String,
    /// Null when WeChat names an order that is not ours.
    #[schema(value_type = Option<String>)]
    pub order_id: Option<OrderId>,
    /// What is at stake.
    #[schema(value_type = i64, example = 20000)]
    pub money_fen: Fen,
    pub details: serde_json::Value,
    pub status: CaseStatus,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: OffsetDateTime,
    /// By the database's clock, until now or until it was closed.
    pub age_seconds: i64,
    /// What to do about it.
    pub suggestion: String,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<OffsetDateTime>,
    pub closed_by: Option<String>,
    /// What became of the money, in words.
    pub resolution: Option<String>,
    /// How it was closed before it opened again, oldest first.
    pub earlier: Vec<Earlier>,
    /// The refund that closing the case ends: say `paid_by_hand` or `not_owed`. Null when it is about none that is owed.
    #[schema(value_type = Option<String>)]
    pub owed_refund_id: Option<RefundId>,
}

/// What to do about a case of a kind that only a newer release knows.
pub const UNKNOWN_KIND: &str = "This release does not know the kind: look at the details.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_case_is_known_by_its_name_and_says_what_to_do() {
        let mut names = BTreeSet::new();
        for kind in CaseKind::all() {
            assert!(names.insert(kind.as_str()), "{} twice", kind.as_str());
            assert_eq!(CaseKind::parse(kind.as_str()), Some(kind));
            let words = kind.suggestion();
            assert!(words.len() > 40 && words.ends_with('.'), "{}: {words}", kind.as_str());
        }
        for kind in books::Kind::ALL {
            assert!(names.contains(kind.as_str()), "a difference for a person is a case: {}", kind.as_str());
        }
        assert_eq!(CaseKind::parse("eaten"), None);
    }
}
