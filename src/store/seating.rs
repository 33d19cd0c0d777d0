//! Who sits where: the seats of a session with the orders that have them, for operators.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{FromRow, PgExecutor};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::StoreError;
use crate::domain::{
    ids::{OrderId, ScheduleId, SeatNo, UserId},
    order::Status,
};

/// How many seats of a session are taken, and how many customers wait for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow, Serialize, ToSchema)]
pub struct Counts {
    pub held: i64,
    pub confirmed: i64,
    pub waiting: i64,
}

/// The counts of each of these sessions.
pub async fn counts(
    db: impl PgExecutor<'_>,
    schedules: &[ScheduleId],
) -> Result<HashMap<ScheduleId, Counts>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        schedule_id: ScheduleId,
        #[sqlx(flatten)]
        counts: Counts,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT wanted.schedule_id,
                (SELECT count(*) FROM seat_reservations r
                  WHERE r.schedule_id = wanted.schedule_id AND r.status = 'temporary') AS held,
                (SELECT count(*) FROM seat_reservations r
                  WHERE r.schedule_id = wanted.schedule_id AND r.status = 'confirmed') AS confirmed,
                (SELECT count(*) FROM waitlist w
                  WHERE w.schedule_id = wanted.schedule_id AND w.left_at IS NULL AND w.offered_order_id IS NULL) AS waiting
           FROM unnest($1::uuid[]) AS wanted(schedule_id)",
    )
    .bind(schedules)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.schedule_id, row.counts)).collect())
}

/// A seat that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, ToSchema)]
pub struct Taken {
    #[schema(value_type = i32)]
    pub seat_no: SeatNo,
    #[schema(value_type = String)]
    pub order_id: OrderId,
    #[schema(value_type = String)]
    pub user_id: UserId,
    pub status: Status,
    /// Until when it is held; null when it is booked.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub held_until: Option<OffsetDateTime>,
}

/// The taken seats among `count` seats from `first` on, by number.
pub async fn taken(
    db: impl PgExecutor<'_>,
    schedule: ScheduleId,
    first: i32,
    count: i32,
) -> Result<Vec<Taken>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT r.seat_no, r.order_id, o.user_id, o.status,
                CASE WHEN r.status = 'temporary' THEN r.expires_at END AS held_until
           FROM seat_reservations r JOIN payment_orders o USING (order_id)
          WHERE r.schedule_id = $1 AND r.status <> 'cancelled' AND r.seat_no >= $2 AND r.seat_no < $2 + $3
          ORDER BY r.seat_no",
    )
    .bind(schedule)
    .bind(first)
    .bind(count)
    .fetch_all(db)
    .await?)
}
