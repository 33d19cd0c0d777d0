//! Where a customer stands in a session's waiting list.

use sqlx::PgExecutor;

use super::StoreError;
use crate::domain::ids::{ScheduleId, UserId};

/// Their position, 1 being the next; `None` when they do not wait (never joined, left, or were offered a seat).
pub async fn position(db: impl PgExecutor<'_>, schedule: ScheduleId, user: &UserId) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM waitlist before
                  WHERE before.schedule_id = own.schedule_id AND before.ticket <= own.ticket
                    AND before.left_at IS NULL AND before.offered_order_id IS NULL)
           FROM waitlist own
          WHERE own.schedule_id = $1 AND own.user_id = $2 AND own.left_at IS NULL AND own.offered_order_id IS NULL",
    )
    .bind(schedule)
    .bind(user)
    .fetch_optional(db)
    .await?)
}
