//! What an order's owner can read of its past: refunds and messages, each as one document.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    ids::{OrderId, RefundId},
    money::Fen,
    notification::{Kind, NotificationStatus},
    refund::RefundStatus,
};

/// A refund, of all or a part of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefundDocument {
    /// WeChat's `out_refund_no` is the same text.
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab-5b1f0c2d9e8a7b6c5d4e")]
    pub refund_id: RefundId,
    #[schema(value_type = String)]
    pub order_id: OrderId,
    pub status: RefundStatus,
    #[schema(value_type = i64, example = 20000)]
    pub amount_fen: Fen,
    pub reason: String,
    /// Why a refused one could not be made: `not-paid`, `nothing-left`, `more-than-left`, `too-many-refunds`.
    pub refusal: Option<String>,
    /// WeChat's own number, for asking its support; null until WeChat accepted the refund.
    pub wechat_refund_id: Option<String>,
    /// The refund that WeChat dropped and this one makes good.
    #[schema(value_type = Option<String>)]
    pub replaces: Option<RefundId>,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: OffsetDateTime,
    /// When WeChat gave the money back.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub succeeded_at: Option<OffsetDateTime>,
}

/// A WeChat message about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotificationDocument {
    pub kind: Kind,
    pub status: NotificationStatus,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<OffsetDateTime>,
    /// WeChat's code when it refused the message last.
    pub errcode: Option<i32>,
}
