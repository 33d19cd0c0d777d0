//! `schedule_cancellations`: the cancellation of a session as an intent, and what of it is still to be given back or given
//! up, asked of the books each time.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Database, SPARE_ROWS, Step, StoreError, hold, readable, waitlist};
use crate::{
    crash,
    domain::{
        ids::{OrderId, ScheduleId, UserId},
        money::Fen,
        order::Status,
    },
};

/// Orders that must end before a cancellation is finished.
macro_rules! not_ended {
    () => {
        "status IN ('confirmed', 'held', 'awaiting_payment', 'lapsed')"
    };
}

/// The cancellation that an operator wants.
#[derive(Debug, Clone)]
pub struct NewCancellation {
    pub schedule_id: ScheduleId,
    /// `operator:…`
    pub requested_by: String,
    /// What customers read in WeChat beside their refund.
    pub reason: String,
    /// Refunds and cancellations asked for per second.
    pub rate: i32,
}

/// Takes the intent into the books: from this moment the session takes no orders, and nobody waits for it. A batch of
/// orders that is being taken in holds the session's lock: it is in the books before. Repeated, an unfinished one begins
/// a new round at the new rate, under its first name and reason. Whether there is such a session.
pub async fn request(step: &mut Step<'_>, new: &NewCancellation) -> Result<bool, StoreError> {
    if hold::lock_sessions(step, &[new.schedule_id].into()).await?.is_empty() {
        return Ok(false);
    }
    sqlx::query("UPDATE course_schedules SET status = 'cancelled' WHERE schedule_id = $1")
        .bind(new.schedule_id)
        .execute(&mut *step.transaction)
        .await?;
    sqlx::query(
        "INSERT INTO schedule_cancellations AS known (schedule_id, requested_by, reason, rate) VALUES ($1, $2, $3, $4)
         ON CONFLICT (schedule_id) DO UPDATE SET rate = excluded.rate, asked_through = 0 WHERE known.finished_at IS NULL",
    )
    .bind(new.schedule_id)
    .bind(&new.requested_by)
    .bind(&new.reason)
    .bind(new.rate)
    .execute(&mut *step.transaction)
    .await?;
    waitlist::end_line(step, new.schedule_id).await?;
    Ok(true)
}

/// An unfinished cancellation, as the sweep carries it on.
#[derive(Debug, Clone, FromRow)]
pub struct Open {
    pub schedule_id: ScheduleId,
    pub requested_by: String,
    pub reason: String,
    pub rate: i32,
    pub asked_through: i64,
    /// Whether the round that ended has had time to take effect.
    pub may_ask_again: bool,
}

/// At most `limit` unfinished cancellations, those that went on the longest ago first.
pub async fn open(
    db: impl PgExecutor<'_>,
    ask_again_after: std::time::Duration,
    limit: i64,
) -> Result<Vec<Open>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT schedule_id, requested_by, reason, rate, asked_through,
                coalesce(asked_at < now() - make_interval(secs => $1), true) AS may_ask_again
           FROM schedule_cancellations WHERE finished_at IS NULL ORDER BY asked_at NULLS FIRST, requested_at LIMIT $2",
    )
    .bind(ask_again_after.as_secs_f64())
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Notes how far the round is: everything up to this place is with the broker. 0 begins a new round.
pub async fn mark_asked(db: &Database, schedule: ScheduleId, through: i64) -> Result<(), StoreError> {
    let marked = sqlx::query(
        "UPDATE schedule_cancellations SET asked_through = $2, asked_at = now()
          WHERE schedule_id = $1 AND finished_at IS NULL",
    )
    .bind(schedule)
    .bind(through);
    crash::around("commit", "cancellation.asked", marked.execute(db.pool())).await?;
    Ok(())
}

/// Ends the cancellation if nothing of it is left, by one statement; whether it did. A closed session gives nobody a seat,
/// so nothing can come after.
pub async fn finish(db: &Database, schedule: ScheduleId) -> Result<bool, StoreError> {
    let finished = sqlx::query(concat!(
        "UPDATE schedule_cancellations SET finished_at = now()
          WHERE schedule_id = $1 AND finished_at IS NULL
            AND NOT EXISTS (SELECT FROM payment_orders WHERE schedule_id = $1 AND ",
        not_ended!(),
        ") AND NOT EXISTS (SELECT FROM refunds r JOIN payment_orders o USING (order_id)
                            WHERE o.schedule_id = $1 AND r.status IN ('requested', 'processing'))"
    ))
    .bind(schedule);
    let finished = crash::around("commit", "cancellation.finish", finished.execute(db.pool())).await?;
    Ok(finished.rows_affected() > 0)
}

/// A cancellation: who wants it and why, and how far it is. Without a name it was not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancellationDocument {
    /// `operator:…`; null for what is only looked at beforehand.
    pub requested_by: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub requested_at: Option<OffsetDateTime>,
    /// What customers read in WeChat beside their refund.
    pub reason: Option<String>,
    /// When no order was left and WeChat had the last word about every refund; null until then.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<OffsetDateTime>,
    #[serde(flatten)]
    pub progress: Progress,
}

/// The cancellation of a session, or how much it would be about.
pub async fn find(db: &Database, schedule: ScheduleId) -> Result<CancellationDocument, StoreError> {
    type Row = (String, OffsetDateTime, String, Option<OffsetDateTime>);
    let asked: Option<Row> = sqlx::query_as(
        "SELECT requested_by, requested_at, reason, finished_at FROM schedule_cancellations WHERE schedule_id = $1",
    )
    .bind(schedule)
    .fetch_optional(db.pool())
    .await?;
    let progress = progress(db.pool(), schedule).await?;
    Ok(match asked {
        Some((requested_by, requested_at, reason, finished_at)) => CancellationDocument {
            requested_by: Some(requested_by),
            requested_at: Some(requested_at),
            reason: Some(reason),
            finished_at,
            progress,
        },
        None => {
            CancellationDocument { requested_by: None, requested_at: None, reason: None, finished_at: None, progress }
        }
    })
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
    let rows = sqlx::query(concat!(
        "SELECT order_id, user_id, status, arrival FROM payment_orders
          WHERE schedule_id = $1 AND arrival > $2 AND ",
        not_ended!(),
        " ORDER BY arrival LIMIT $3"
    ))
    .bind(schedule)
    .bind(after)
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    Ok(readable("payment_orders", &rows, limit))
}
