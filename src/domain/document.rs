//! The order as its owner sees it: the one document that the API, the events, the cache and the CLI share.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    ids::{OrderId, ScheduleId, SeatNo, UserId},
    money::Fen,
    order::{Channel, Status},
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
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub hold_expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pay_before: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_at: Option<OffsetDateTime>,
    pub transaction_id: Option<String>,
    #[schema(value_type = i64)]
    pub refunded_fen: Fen,
    /// Why it was rejected, or paid without getting a seat: `sold-out`, `seat-taken`, `amount-mismatch`,
    /// `no-such-schedule`, `schedule-closed`.
    pub reason: Option<String>,
    /// What else could be booked; only with a reason.
    pub alternatives: Option<Alternatives>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
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
    #[serde(with = "time::serde::rfc3339")]
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
}

/// One session, as anybody may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDocument {
    #[schema(value_type = String, format = "uuid")]
    pub schedule_id: ScheduleId,
    pub course_id: String,
    pub course: String,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: OffsetDateTime,
    #[schema(value_type = i64, example = 20000)]
    pub price_fen: Fen,
    pub capacity: i32,
    pub available: i64,
    /// `open` or `cancelled`.
    pub status: String,
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
    #[serde(with = "time::serde::rfc3339")]
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
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub held_until: Option<OffsetDateTime>,
}
