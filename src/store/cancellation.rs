//! Cancelling a session: what of it is still to be given back or given up, asked of the books each time, so that
//! an interrupted cancellation goes on where it was.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor};
use utoipa::ToSchema;

use super::{Database, SPARE_ROWS, StoreError, readable};
use crate::{
    crash,
    domain::{
        ids::{OrderId, ScheduleId, UserId},
        money::Fen,
        order::Status,
    },
};

/// No new orders for this session, from this moment on; says whether there is such a session. A batch of orders
/// that is being taken in holds the session's lock: it is in the books when this returns.
pub async fn close(db: &Database, schedule: ScheduleId) -> Result<bool, StoreError> {
    let closed = sqlx::query("UPDATE course_schedules SET status = 'cancelled' WHERE schedule_id = $1").bind(schedule);
    let closed = crash::around("commit", "schedule.close", closed.execute(db.pool())).await?;
    Ok(closed.rows_affected() > 0)
}

/// How far the cancellation is.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Bookings whose refund the books do not know yet, and what is left to give back of them.
    pub bookings: i64,
    #[schema(value_type = i64)]
    pub bookings_fen: Fen,
    /// Orders that could still be paid.
    pub unpaid: i64,
    /// Refunds of this session's orders on their way.
    pub refunds_open: i64,
    #[schema(value_type = i64)]
    pub refunds_open_fen: Fen,
    pub refunds_succeeded: i64,
    #[schema(value_type = i64)]
    pub refunds_succeeded_fen: Fen,
    /// Refunds that the payer's account could not take: each is a case.
    pub refunds_abnormal: i64,
    #[schema(value_type = i64)]
    pub refunds_abnormal_fen: Fen,
}

impl Progress {
    /// Orders for which something must still be asked.
    pub fn left(&self) -> i64 {
        self.bookings + self.unpaid
    }
}

pub async fn progress(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<Progress, StoreError> {
    Ok(sqlx::query_as(
        "WITH ours AS (SELECT order_id, status, paid_fen - refund_promised_fen AS left_fen
                         FROM payment_orders WHERE schedule_id = $1),
              back AS (SELECT r.status, r.amount_fen FROM refunds r JOIN ours USING (order_id)),
              paid AS (SELECT count(*) FILTER (WHERE status = 'confirmed') AS bookings,
                              coalesce(sum(left_fen) FILTER (WHERE status = 'confirmed'), 0)::bigint AS bookings_fen,
                              count(*) FILTER (WHERE status IN ('held', 'awaiting_payment', 'lapsed')) AS unpaid
                         FROM ours)
         SELECT paid.bookings, paid.bookings_fen, paid.unpaid,
                count(*) FILTER (WHERE back.status IN ('requested', 'processing')) AS refunds_open,
                coalesce(sum(amount_fen) FILTER (WHERE back.status IN ('requested', 'processing')), 0)::bigint
                    AS refunds_open_fen,
                count(*) FILTER (WHERE back.status = 'succeeded') AS refunds_succeeded,
                coalesce(sum(amount_fen) FILTER (WHERE back.status = 'succeeded'), 0)::bigint AS refunds_succeeded_fen,
                count(*) FILTER (WHERE back.status = 'abnormal') AS refunds_abnormal,
                coalesce(sum(amount_fen) FILTER (WHERE back.status = 'abnormal'), 0)::bigint AS refunds_abnormal_fen
           FROM paid LEFT JOIN back ON true
          GROUP BY paid.bookings, paid.bookings_fen, paid.unpaid",
    )
    .bind(schedule)
    .fetch_one(db)
    .await?)
}

/// An order for which something must still be asked: its refund when it is confirmed, else its cancellation.
#[derive(Debug, Clone, FromRow)]
pub struct Left {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub status: Status,
    /// Its place in the session's line; the next page begins after it.
    pub arrival: i64,
}

/// At most `limit` of them, in order of arrival, after this place.
pub async fn left(
    db: impl PgExecutor<'_>,
    schedule: ScheduleId,
    after: i64,
    limit: i64,
) -> Result<Vec<Left>, StoreError> {
    let rows = sqlx::query(
        "SELECT order_id, user_id, status, arrival FROM payment_orders
          WHERE schedule_id = $1 AND arrival > $2 AND status IN ('confirmed', 'held', 'awaiting_payment', 'lapsed')
          ORDER BY arrival LIMIT $3",
    )
    .bind(schedule)
    .bind(after)
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    Ok(readable("payment_orders", &rows, limit))
}
