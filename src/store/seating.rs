//! How full sessions are: seats taken and customers waiting, counted for operators.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{FromRow, PgExecutor};
use utoipa::ToSchema;

use super::StoreError;
use crate::domain::ids::ScheduleId;

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
                (SELECT count(*) FROM waitlist w JOIN course_schedules s USING (schedule_id)
                  WHERE w.schedule_id = wanted.schedule_id AND w.left_at IS NULL AND w.offered_order_id IS NULL
                    AND s.status = 'open' AND s.starts_at > now()) AS waiting
           FROM unnest($1::uuid[]) AS wanted(schedule_id)",
    )
    .bind(schedules)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.schedule_id, row.counts)).collect())
}
