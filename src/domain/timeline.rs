//! The whole story of one order, as operators read it: what happened, what it waits for, and how it can end.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{case::CaseDocument, document::OrderDocument, money::Fen, order::Status, overrides::OverrideDocument};

/// One order's story. Personal data beside the customer's user id is not in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// Why it is as it is, in two sentences.
    #[schema(example = "Paid ¥200.00 when no seat was left (sold-out). All of it went back.")]
    pub answer: String,
    pub order: OrderDocument,
    pub user_id: String,
    pub money: Money,
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// What must happen before it goes on; empty when nothing is owed by anybody.
    pub waits_for: Vec<Waiting>,
    /// What happens by itself, soonest first.
    pub next: Vec<Next>,
    /// What would have to happen for each other ending.
    pub endings: Vec<Ending>,
    /// Every case about it, open and closed.
    pub cases: Vec<CaseDocument>,
    pub overrides: Vec<OverrideDocument>,
    /// The database's clock when it was read.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub as_of: OffsetDateTime,
}

/// Where the money of an order is. All in fen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Money {
    #[schema(value_type = i64)]
    pub price_fen: Fen,
    /// What settled it.
    #[schema(value_type = i64)]
    pub paid_fen: Fen,
    /// Requested, under way or given back.
    #[schema(value_type = i64)]
    pub promised_back_fen: Fen,
    /// Given back.
    #[schema(value_type = i64)]
    pub refunded_fen: Fen,
    /// Taken by WeChat, but not as ordered: in an open case.
    #[schema(value_type = i64)]
    pub set_aside_fen: Fen,
}

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// An HTTP request to us.
    Request,
    /// A message of ours, taken from its queue by a worker.
    Message,
    /// A call of ours to WeChat.
    Wechat,
    /// WeChat called us.
    Callback,
    /// Money that WeChat took.
    Payment,
    /// The order's status changed, or something was recorded with it.
    State,
    /// Money that goes back.
    Refund,
    /// A WeChat message to the customer.
    Notification,
    /// A person was needed.
    Case,
    /// An operator decided.
    Override,
}

impl EntryKind {
    pub const ALL: [Self; 10] = [
        Self::Request,
        Self::Message,
        Self::Wechat,
        Self::Callback,
        Self::Payment,
        Self::State,
        Self::Refund,
        Self::Notification,
        Self::Case,
        Self::Override,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Message => "message",
            Self::Wechat => "wechat",
            Self::Callback => "callback",
            Self::Payment => "payment",
            Self::State => "state",
            Self::Refund => "refund",
            Self::Notification => "notification",
            Self::Case => "case",
            Self::Override => "override",
        }
    }
}

/// One thing that happened. What does not apply is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: OffsetDateTime,
    pub kind: EntryKind,
    /// A stable name: `POST /v1/orders`, `order.held`, `create_order`, `paid`, `booking_confirmed`, a case's kind.
    #[schema(example = "create_order")]
    pub what: String,
    /// A stable name: `taken`, `done`, `retried`, `parked`, `replayed`, `ok`, a status, a problem's slug.
    #[schema(example = "ok")]
    pub outcome: String,
    /// `user:…`, `operator:…`, `worker:…`, `wechat`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Of a request: ours. Of a call or callback: WeChat's `Request-ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i32>,
    /// Of a change of status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rest: attempt, code, seat, sums, before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl Entry {
    pub fn new(at: OffsetDateTime, kind: EntryKind, what: impl Into<String>, outcome: impl Into<String>) -> Self {
        Self {
            at,
            kind,
            what: what.into(),
            outcome: outcome.into(),
            who: None,
            request_id: None,
            took_ms: None,
            from: None,
            to: None,
            reason: None,
            details: None,
        }
    }
}

/// Something that somebody owes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// `customer`, `wechat`, `worker`, `operator`
    #[schema(example = "customer")]
    pub whom: String,
    #[schema(example = "paid, the seat is held")]
    pub what: String,
}

/// Something that happens by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Next {
    /// Not before this time, by the database's clock.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: OffsetDateTime,
    #[schema(example = "hold over, WeChat says unpaid")]
    pub what: String,
    /// The status that it leads to; null when the status stays.
    pub to: Option<Status>,
}

/// One way in which the order can end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ending {
    pub status: Status,
    /// What would have to happen, in this order; null when it can end so no more.
    #[schema(example = json!(["hold over, WeChat says unpaid", "deadline over, WeChat closed it"]))]
    pub through: Option<Vec<String>>,
}

/// One row of the trace: what happened around an order and stands in no other table.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub order_id: String,
    pub at: OffsetDateTime,
    pub kind: EntryKind,
    pub what: String,
    pub outcome: String,
    pub who: Option<String>,
    pub request_id: Option<String>,
    pub took_ms: Option<i32>,
    pub details: Option<Value>,
}
