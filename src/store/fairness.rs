//! First come, first served, with a proof: a session's orders in the order of their arrival and what each got.

use serde::Serialize;
use sqlx::{FromRow, PgExecutor};
use time::OffsetDateTime;

use super::StoreError;
use crate::domain::{
    ids::{OrderId, ScheduleId, SeatNo},
    order::Status,
};

/// One order in the line.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct InLine {
    /// Its place: the first is 1.
    pub place: i64,
    pub order_id: OrderId,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    pub submitted_at: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    pub decided_at: OffsetDateTime,
    pub seat_wish: Option<SeatNo>,
    /// The seat it was given first, whatever became of it later.
    pub given_seat: Option<SeatNo>,
    pub reason: Option<String>,
    pub status: Status,
    /// An order behind it was given a seat although none had been freed in between. Must never be.
    pub overtaken: bool,
}

/// The line of a session, in the order of arrival.
pub async fn line(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<Vec<InLine>, StoreError> {
    Ok(sqlx::query_as(
        "WITH line AS (
             SELECT o.order_id, o.arrival, o.submitted_at, first.at AS decided_at, o.seat_wish, o.reason, o.status,
                    (first.after ->> 'seat_no')::int AS given_seat
               FROM payment_orders o
               JOIN payment_audit_log first ON first.order_id = o.order_id AND first.version = 1
              WHERE o.schedule_id = $1
         ), freed AS (
             SELECT a.at FROM payment_audit_log a JOIN line USING (order_id)
              -- Any change from a status with a seat to one without frees a seat, by whatever event and whoever's wish.
              WHERE a.from_status IN ('held', 'awaiting_payment', 'confirmed')
                AND a.to_status NOT IN ('held', 'awaiting_payment', 'confirmed')
         ), ranked AS (
             SELECT order_id, arrival, submitted_at, decided_at, seat_wish, reason, status, given_seat,
                    row_number() OVER (ORDER BY arrival) AS place,
                    -- When the first of those behind was given a seat.
                    min(decided_at) FILTER (WHERE given_seat IS NOT NULL)
                        OVER (ORDER BY arrival DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS given_behind_at
               FROM line
         )
         SELECT l.place, l.order_id, l.submitted_at, l.decided_at, l.seat_wish, l.given_seat, l.reason, l.status,
                l.given_seat IS NULL AND coalesce(l.reason = 'sold-out', false) AND l.given_behind_at IS NOT NULL
                    AND NOT EXISTS (SELECT FROM freed WHERE freed.at BETWEEN l.decided_at AND l.given_behind_at)
                    AS overtaken
           FROM ranked l ORDER BY l.arrival",
    )
    .bind(schedule)
    .fetch_all(db)
    .await?)
}
