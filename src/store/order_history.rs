//! An order's refunds and messages, as its owner reads them. Newest first.

use sqlx::{FromRow, PgExecutor};
use time::OffsetDateTime;

use super::{SPARE_ROWS, StoreError, notification::known_kinds, readable};
use crate::domain::{
    history::{NotificationDocument, RefundDocument},
    ids::{OrderId, RefundId},
    money::Fen,
    notification::{Kind, NotificationStatus},
    refund::RefundStatus,
};

#[derive(FromRow)]
struct RefundRow {
    refund_id: RefundId,
    order_id: OrderId,
    status: RefundStatus,
    amount_fen: Fen,
    reason: String,
    error: Option<String>,
    wechat_refund_id: Option<String>,
    replaces: Option<RefundId>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    succeeded_at: Option<OffsetDateTime>,
}

impl From<RefundRow> for RefundDocument {
    fn from(row: RefundRow) -> Self {
        Self {
            refund_id: row.refund_id,
            order_id: row.order_id,
            status: row.status,
            amount_fen: row.amount_fen,
            reason: row.reason,
            // The trouble of a refund that is under way is ours alone.
            refusal: row.error.filter(|_| row.status == RefundStatus::Refused),
            wechat_refund_id: row.wechat_refund_id,
            replaces: row.replaces,
            created_at: row.created_at,
            updated_at: row.updated_at,
            succeeded_at: row.succeeded_at,
        }
    }
}

/// Where a page of an order's refunds begins: after this refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundCursor {
    pub created_at: OffsetDateTime,
    pub refund_id: RefundId,
}

/// At most `limit` of an order's refunds.
pub async fn refunds(
    db: impl PgExecutor<'_>,
    order: &OrderId,
    after: Option<&RefundCursor>,
    limit: i64,
) -> Result<Vec<RefundDocument>, StoreError> {
    let rows = sqlx::query(
        "SELECT refund_id, order_id, status, amount_fen, reason, error, wechat_refund_id, replaces, created_at, updated_at,
                succeeded_at
           FROM refunds
          WHERE order_id = $1 AND ($2::timestamptz IS NULL OR (created_at, refund_id) < ($2, $3))
          ORDER BY created_at DESC, refund_id DESC
          LIMIT $4",
    )
    .bind(order)
    .bind(after.map(|cursor| cursor.created_at))
    .bind(after.map(|cursor| &cursor.refund_id))
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    let rows: Vec<RefundRow> = readable("refunds", &rows, limit);
    Ok(rows.into_iter().map(RefundDocument::from).collect())
}

/// One refund; `None` when no worker has taken it.
pub async fn refund(db: impl PgExecutor<'_>, id: &RefundId) -> Result<Option<RefundDocument>, StoreError> {
    let row: Option<RefundRow> = sqlx::query_as(
        "SELECT refund_id, order_id, status, amount_fen, reason, error, wechat_refund_id, replaces, created_at,
                updated_at, succeeded_at
           FROM refunds WHERE refund_id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?;
    Ok(row.map(RefundDocument::from))
}

/// All messages of an order: at most one of each kind.
pub async fn notifications(db: impl PgExecutor<'_>, order: &OrderId) -> Result<Vec<NotificationDocument>, StoreError> {
    type Row = (Kind, NotificationStatus, OffsetDateTime, Option<OffsetDateTime>, Option<i32>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT kind, status, created_at, sent_at, errcode FROM notifications
          WHERE order_id = $1 AND kind::text = ANY($2) ORDER BY created_at DESC, kind",
    )
    .bind(order)
    .bind(known_kinds())
    .fetch_all(db)
    .await?;
    let document = |(kind, status, created_at, sent_at, errcode)| NotificationDocument {
        kind,
        status,
        created_at,
        sent_at,
        errcode,
    };
    Ok(rows.into_iter().map(document).collect())
}
