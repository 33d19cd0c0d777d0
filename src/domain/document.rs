//! The order as its owner sees it: the one document that the API, the events, the cache and the CLI share.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    ids::{OrderId, ScheduleId, SeatNo, UserId},
    message::OrderSubmitted,
    money::Fen,
    order::{Channel, Status},
    session_rules::{RefundRules, SaleTimes},
};

/// An order. Times are RFC 3339, money is fen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrderDocument {
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab")]
    pub order_id: OrderId,
    pub status: Status,
    #[schema(value_type = String, format = "uuid")]
    pub schedule_id: ScheduleId,
    /// The seat held or booked; null while there is none.
    #[schema(value_type = Option<i32>)]
    pub seat_no: Option<SeatNo>,
    #[schema(value_type = i64, example = 20000)]
    pub amount_fen: Fen,
    #[schema(example = "CNY")]
    pub currency: String,
    pub channel: Channel,
    /// What the QR code says; null when there is nothing to pay.
    pub code_url: Option<String>,
    /// Parameters for `WeixinJSBridge`, signed; null for native orders.
    pub jsapi: Option<serde_json::Value>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub hold_expires_at: Option<OffsetDateTime>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pay_before: Option<OffsetDateTime>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_at: Option<OffsetDateTime>,
    pub transaction_id: Option<String>,
    #[schema(value_type = i64)]
    pub refunded_fen: Fen,
    /// Why it was rejected, or paid without getting a seat: `sold-out`, `seat-taken`, `amount-mismatch`,
    /// `no-such-schedule`, `schedule-closed`, `not-on-sale`,
    /// `limit-reached`.
    pub reason: Option<String>,
    /// What else could be booked; only with a reason.
    pub alternatives: Option<Alternatives>,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: OffsetDateTime,
    /// Grows by one with each change; the event id of the stream.
    pub version: i32,
}

/// What a customer could book instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alternatives {
    /// Free seats of the same session, at most twenty.
    #[schema(value_type = Vec<i32>)]
    pub seats: Vec<SeatNo>,
    /// Other sessions of the course with free seats, soonest first, at most five.
    pub schedules: Vec<OtherSchedule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OtherSchedule {
    #[schema(value_type = String, format = "uuid")]
    pub schedule_id: ScheduleId,
    pub course: String,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: OffsetDateTime,
    #[schema(value_type = i64)]
    pub price_fen: Fen,
    pub available: i64,
}

/// An order with what its owner does not need to see but we must know to answer them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub owner: UserId,
    /// See [`super::message::OrderSubmitted::request_hash`].
    pub request_hash: String,
    pub document: OrderDocument,
    /// When its session is on sale, for an order that was refused because it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sale: Option<SaleTimes>,
}

impl Snapshot {
    /// The order as it reads until a worker takes it.
    pub fn of_submitted(message: &OrderSubmitted) -> Self {
        let at = message.submitted_at;
        Self {
            owner: message.user_id.clone(),
            request_hash: message.request_hash.clone(),
            document: OrderDocument {
                order_id: message.order_id.clone(),
                status: Status::Submitted,
                schedule_id: message.schedule_id,
                seat_no: None,
                amount_fen: message.amount_fen,
                currency: "CNY".into(),
                channel: message.channel,
                code_url: None,
                jsapi: None,
                hold_expires_at: None,
                pay_before: None,
                paid_at: None,
                transaction_id: None,
                refunded_fen: Fen::ZERO,
                reason: None,
                alternatives: None,
                created_at: at,
                updated_at: at,
                version: 0,
            },
            sale: None,
        }
    }

    /// The order as it reads when it was refused and is in no book.
    pub fn of_refused(
        message: &OrderSubmitted,
        at: OffsetDateTime,
        reason: &str,
        alternatives: Option<Alternatives>,
        sale: Option<SaleTimes>,
    ) -> Self {
        let submitted = Self::of_submitted(message);
        let document = OrderDocument {
            status: Status::Rejected,
            reason: Some(reason.to_owned()),
            alternatives,
            updated_at: at,
            version: 1,
            ..submitted.document
        };
        Self { document, sale, ..submitted }
    }
}

/// One session, as anybody may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDocument {
    #[schema(value_type = String, format = "uuid")]
    pub schedule_id: ScheduleId,
    pub course_id: String,
    pub course: String,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: OffsetDateTime,
    #[schema(value_type = i64, example = 20000)]
    pub price_fen: Fen,
    pub capacity: i32,
    pub available: i64,
    /// `open` or `cancelled`.
    pub status: String,
    /// Null: orders are taken at once.
    #[serde(default, with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sale_opens_at: Option<OffsetDateTime>,
    /// The start at the latest. Holds and payments end then, too.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub sale_closes_at: OffsetDateTime,
    /// Held and booked seats that one customer may have.
    #[schema(example = 4)]
    pub seats_per_customer: i32,
    /// What customers take back by themselves, the earliest rule first.
    #[schema(value_type = Vec<super::session_rules::RefundRule>)]
    pub refund_rules: RefundRules,
}

/// Seats of one session at the moment `as_of`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Availability {
    pub capacity: i32,
    pub available: i64,
    pub held: i64,
    pub confirmed: i64,
    #[schema(value_type = Vec<i32>)]
    pub seats_free: Vec<SeatNo>,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub as_of: OffsetDateTime,
}

/// One seat of a session, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeatDocument {
    #[schema(value_type = i32)]
    pub seat_no: SeatNo,
    /// `free`, `held`, `confirmed`
    #[schema(example = "held")]
    pub state: String,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    pub order_id: Option<OrderId>,
    pub order_status: Option<Status>,
    /// Until when it is held, for a held one.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub held_until: Option<OffsetDateTime>,
}
