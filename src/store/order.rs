//! `payment_orders`: reading them as documents and moving them along the state table.

use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;

use super::StoreError;
use crate::domain::{
    document::{Alternatives, OrderDocument, Snapshot},
    ids::{OrderId, ScheduleId, SeatNo, UserId},
    money::Fen,
    order::{Channel, Status},
};

#[derive(FromRow)]
struct OrderRow {
    order_id: OrderId,
    user_id: UserId,
    schedule_id: ScheduleId,
    status: Status,
    channel: Channel,
    amount_fen: Fen,
    currency: String,
    seat_no: Option<SeatNo>,
    request_hash: String,
    reason: Option<String>,
    alternatives: Option<Json<Alternatives>>,
    code_url: Option<String>,
    hold_expires_at: Option<OffsetDateTime>,
    pay_before: Option<OffsetDateTime>,
    paid_at: Option<OffsetDateTime>,
    transaction_id: Option<String>,
    refunded_fen: Fen,
    version: i32,
    submitted_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<OrderRow> for Snapshot {
    fn from(row: OrderRow) -> Self {
        Self {
            owner: row.user_id,
            request_hash: row.request_hash,
            document: OrderDocument {
                order_id: row.order_id,
                status: row.status,
                schedule_id: row.schedule_id,
                seat_no: row.seat_no,
                amount_fen: row.amount_fen,
                currency: row.currency,
                channel: row.channel,
                // A code that must not be paid any more is not shown.
                code_url: row.code_url.filter(|_| row.status.is_payable()),
                jsapi: None,
                hold_expires_at: row.hold_expires_at,
                pay_before: row.pay_before,
                paid_at: row.paid_at,
                transaction_id: row.transaction_id,
                refunded_fen: row.refunded_fen,
                reason: row.reason,
                alternatives: row.alternatives.map(|Json(alternatives)| alternatives),
                created_at: row.submitted_at,
                updated_at: row.updated_at,
                version: row.version,
            },
        }
    }
}

/// The orders with these ids, in no particular order; unknown ids are left out.
pub async fn snapshots(
    db: impl PgExecutor<'_>,
    ids: &[OrderId],
) -> Result<Vec<Snapshot>, StoreError> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "SELECT o.*, r.seat_no
           FROM payment_orders o
           LEFT JOIN seat_reservations r ON r.order_id = o.order_id AND r.status <> 'cancelled'
          WHERE o.order_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Snapshot::from).collect())
}

pub async fn snapshot(
    db: impl PgExecutor<'_>,
    id: &OrderId,
) -> Result<Option<Snapshot>, StoreError> {
    Ok(snapshots(db, std::slice::from_ref(id)).await?.pop())
}

/// Where a page of a customer's orders begins: after this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCursor {
    pub created_at: OffsetDateTime,
    pub order_id: OrderId,
}

/// At most `limit` of a customer's orders, newest first.
pub async fn of_user(
    db: impl PgExecutor<'_>,
    user: &UserId,
    after: Option<&OrderCursor>,
    limit: i64,
) -> Result<Vec<Snapshot>, StoreError> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "SELECT o.*, r.seat_no
           FROM payment_orders o
           LEFT JOIN seat_reservations r ON r.order_id = o.order_id AND r.status <> 'cancelled'
          WHERE o.user_id = $1
            AND ($2::timestamptz IS NULL OR (o.submitted_at, o.order_id) < ($2, $3))
          ORDER BY o.submitted_at DESC, o.order_id DESC
          LIMIT $4",
    )
    .bind(user)
    .bind(after.map(|cursor| cursor.created_at))
    .bind(after.map(|cursor| &cursor.order_id))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Snapshot::from).collect())
}
