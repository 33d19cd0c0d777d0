//! Finding an order by any number that a customer, a receipt or WeChat's support can name.

use sqlx::PgExecutor;

use super::StoreError;
use crate::domain::ids::OrderId;

/// The order with this id, WeChat's number of its payment, or one of its refunds' numbers (ours or WeChat's).
pub async fn by_number(db: impl PgExecutor<'_>, number: &str) -> Result<Vec<OrderId>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT order_id FROM payment_orders WHERE order_id = $1
          UNION SELECT order_id FROM payment_transactions WHERE transaction_id = $1
          UNION SELECT order_id FROM refunds WHERE refund_id = $1 OR wechat_refund_id = $1",
    )
    .bind(number)
    .fetch_all(db)
    .await?)
}

/// Looked back on for orders that moved lately; an order moves a handful of times.
const MOVES: i64 = 400;

/// The orders that moved last, the latest first, at most `limit`.
pub async fn moved_last(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<OrderId>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT order_id FROM (SELECT order_id, at, version FROM payment_audit_log ORDER BY at DESC LIMIT $1) moves
          GROUP BY order_id ORDER BY max(at) DESC, order_id LIMIT $2",
    )
    .bind(MOVES)
    .bind(limit)
    .fetch_all(db)
    .await?)
}
