//! How many seats and unpaid orders a customer has: counted under a lock of the customer's own, so that two orders in two
//! queues at once cannot both be the last one that is allowed.

use std::collections::{BTreeSet, HashMap};

use super::{Step, StoreError};
use crate::domain::{
    ids::{ScheduleId, UserId},
    limits::Holding,
};

/// Locks customers against other steps that give them a seat; until the step ends.
///
/// Sessions are locked before customers, customers in one order. An offer to a waiting customer locks one more: two steps
/// that meet there crosswise are told apart by PostgreSQL, and one of them is tried again.
pub async fn lock_customers(step: &mut Step<'_>, users: impl Iterator<Item = &UserId>) -> Result<(), StoreError> {
    let users: BTreeSet<&str> = users.map(UserId::as_str).collect();
    if users.is_empty() {
        return Ok(());
    }
    // An advisory lock, since workers that make offers may not read `users`.
    sqlx::query(
        "SELECT pg_advisory_xact_lock(name)
           FROM (SELECT DISTINCT hashtextextended('holdfast customer ' || user_id, 0) AS name
                   FROM unnest($1::text[]) AS t(user_id) ORDER BY name) customers",
    )
    .bind(users.into_iter().collect::<Vec<_>>())
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// What these customers have, each with the session they want a seat of. Sessions and customers are locked.
pub async fn holdings(
    step: &mut Step<'_>,
    wanted: &BTreeSet<(ScheduleId, &UserId)>,
) -> Result<HashMap<(ScheduleId, UserId), Holding>, StoreError> {
    type Row = (ScheduleId, UserId, i64, i64, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT w.schedule_id, w.user_id,
                count(*) FILTER (WHERE o.schedule_id = w.schedule_id
                                   AND o.status IN ('held', 'awaiting_payment', 'confirmed')),
                count(*) FILTER (WHERE o.status IN ('held', 'awaiting_payment', 'lapsed')),
                bool_or(o.schedule_id = w.schedule_id AND o.status = 'rejected')
           FROM unnest($1::uuid[], $2::text[]) AS w(schedule_id, user_id)
           JOIN payment_orders o ON o.user_id = w.user_id
                AND o.status IN ('held', 'awaiting_payment', 'lapsed', 'confirmed', 'rejected')
          GROUP BY w.schedule_id, w.user_id",
    )
    .bind(wanted.iter().map(|(schedule, _)| *schedule).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, user)| user.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *step.transaction)
    .await?;
    let holding = |(schedule, user, seats, unpaid, rejected)| ((schedule, user), Holding { seats, unpaid, rejected });
    Ok(rows.into_iter().map(holding).collect())
}

/// Whether a customer may be given one more seat of a locked session to be paid.
pub async fn has_room(
    step: &mut Step<'_>,
    schedule: ScheduleId,
    user: &UserId,
    unpaid_per_customer: i64,
) -> Result<bool, StoreError> {
    lock_customers(step, std::iter::once(user)).await?;
    let holding = holdings(step, &[(schedule, user)].into()).await?.into_values().next().unwrap_or_default();
    let seats = seats_per_customer(step, schedule).await?;
    Ok(holding.reached(seats, unpaid_per_customer).is_none())
}

/// Whether a customer who has paid may be given a seat of a locked session: what is unpaid does not count.
pub async fn has_room_for_paid(step: &mut Step<'_>, schedule: ScheduleId, user: &UserId) -> Result<bool, StoreError> {
    let taken: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM seat_reservations r JOIN payment_orders o USING (order_id)
          WHERE r.schedule_id = $1 AND r.status <> 'cancelled' AND o.user_id = $2",
    )
    .bind(schedule)
    .bind(user)
    .fetch_one(&mut *step.transaction)
    .await?;
    Ok(taken < seats_per_customer(step, schedule).await?)
}

async fn seats_per_customer(step: &mut Step<'_>, schedule: ScheduleId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT seats_per_customer::bigint FROM course_schedules WHERE schedule_id = $1")
        .bind(schedule)
        .fetch_one(&mut *step.transaction)
        .await?)
}
