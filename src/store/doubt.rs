//! Money in doubt: WeChat took it, and at this moment it is neither a seat's, nor back with the customer, nor a
//! case's. In quiet times it is the money of refunds that WeChat has not finished.

use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{SPARE_ROWS, StoreError, readable};
use crate::domain::{
    ids::{OrderId, RefundId, UserId},
    money::Fen,
    order::Status,
    refund::RefundStatus,
};

/// Begins from what is unfinished, which indexes hold, and never from all orders; that the rest adds up is proven by
/// the invariant `every_fen`.
const IN_DOUBT: &str = "
    SELECT order_id, user_id, order_status, transaction_id, paid_at, money_fen, refund_id, refund_status, next_check_at,
           error, since FROM (
        SELECT o.order_id, o.user_id, o.status AS order_status, o.transaction_id, o.paid_at,
               o.refund_promised_fen - o.refunded_fen - coalesce(a.money_fen, 0) AS money_fen,
               r.refund_id, r.status AS refund_status, r.next_check_at, r.error,
               coalesce(r.created_at, o.updated_at) AS since
          FROM (SELECT order_id FROM refunds WHERE status IN ('requested', 'processing')
                 UNION SELECT order_id FROM payment_orders WHERE status = 'refunding') unfinished
          JOIN payment_orders o USING (order_id)
          LEFT JOIN LATERAL (
               SELECT refund_id, status, next_check_at, error, created_at FROM refunds
                WHERE order_id = o.order_id AND status IN ('requested', 'processing')
                ORDER BY EXISTS (SELECT FROM cases c WHERE c.subject = refund_id AND c.status = 'open'), created_at
                LIMIT 1) r ON true
          LEFT JOIN LATERAL (
               SELECT sum(f.amount_fen)::bigint AS money_fen FROM refunds f
                WHERE f.order_id = o.order_id AND f.status IN ('requested', 'abnormal')
                  AND EXISTS (SELECT FROM cases c WHERE c.subject = f.refund_id AND c.status = 'open'
                                 AND c.kind <> 'merchant_balance')) a ON true) doubt
     WHERE money_fen > 0";

/// One order's money in doubt.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, ToSchema)]
pub struct Doubt {
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab")]
    pub order_id: OrderId,
    #[schema(value_type = String)]
    pub user_id: UserId,
    pub order_status: Status,
    pub transaction_id: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_at: Option<OffsetDateTime>,
    #[schema(value_type = i64, example = 20000)]
    pub money_fen: Fen,
    /// The refund that is to end the doubt; null when there is none.
    #[schema(value_type = Option<String>)]
    pub refund_id: Option<RefundId>,
    pub refund_status: Option<RefundStatus>,
    /// When WeChat is asked next.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check_at: Option<OffsetDateTime>,
    /// What WeChat answered last, when that was no progress.
    pub error: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: OffsetDateTime,
}

/// All money in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow, Serialize, ToSchema)]
pub struct Total {
    pub orders: i64,
    #[schema(value_type = i64, example = 20000)]
    pub money_fen: Fen,
}

pub async fn total(db: impl PgExecutor<'_>) -> Result<Total, StoreError> {
    // Put together from constants of this program and nothing else.
    let sum = format!(
        "SELECT count(*) AS orders, coalesce(sum(money_fen), 0)::bigint AS money_fen FROM ({IN_DOUBT}) all_of_it"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sum)).fetch_one(db).await?)
}

/// At most `limit`, the longest in doubt first; `after` is where the page begins.
pub async fn list(
    db: impl PgExecutor<'_>,
    after: Option<&(OffsetDateTime, OrderId)>,
    limit: i64,
) -> Result<Vec<Doubt>, StoreError> {
    let page = format!(
        "{IN_DOUBT} AND ($1::timestamptz IS NULL OR (since, order_id) > ($1, $2)) ORDER BY since, order_id LIMIT $3"
    );
    let rows = sqlx::query(AssertSqlSafe(page))
        .bind(after.map(|(since, _)| since))
        .bind(after.map(|(_, order)| order))
        .bind(limit.saturating_add(SPARE_ROWS))
        .fetch_all(db)
        .await?;
    Ok(readable("refunds", &rows, limit))
}
