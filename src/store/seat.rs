//! A seat of a session moves between free and taken: the statements of payments, overrides and endings that touch
//! `free_seats`. Every caller holds the session's lock (`hold::lock_sessions`).

use super::{Step, StoreError, order::Locked, payment::Sessions};
use crate::{
    crash,
    domain::ids::{OrderId, SeatNo},
};

/// The seat that the order would be given now: its own if that is free, else the lowest free one. None of a session
/// that was cancelled or has begun. Changes nothing; [`take`] does, once the decision stands.
pub(super) async fn lowest_free(
    step: &mut Step<'_>,
    sessions: &Sessions,
    order: &Locked,
) -> Result<Option<SeatNo>, StoreError> {
    if !sessions.get(&order.schedule_id).is_some_and(|session| session.open) {
        return Ok(None);
    }
    let seat: Option<SeatNo> = sqlx::query_scalar(
        "SELECT coalesce(
             (SELECT seat_no FROM free_seats WHERE schedule_id = $1 AND seat_no = $2),
             (SELECT seat_no FROM free_seats WHERE schedule_id = $1 ORDER BY seat_no LIMIT 1))",
    )
    .bind(order.schedule_id)
    .bind(order.seat_no)
    .fetch_one(&mut *step.transaction)
    .await?;
    if crash::without("judge_under_lock") {
        // Release 0.1 took the seat before it judged: what was not granted after all lost it.
        sqlx::query("DELETE FROM free_seats WHERE schedule_id = $1 AND seat_no = $2")
            .bind(order.schedule_id)
            .bind(seat)
            .execute(&mut *step.transaction)
            .await?;
    }
    Ok(seat)
}

/// Gives a free seat to an order that has none. One statement moves it, so that no seat leaves `free_seats` without a
/// reservation, and no order takes a second one.
///
/// # Errors
/// The seat is not free, or the order has one: nothing of the step may stand.
pub(super) async fn take(step: &mut Step<'_>, order: &Locked, seat: SeatNo) -> Result<(), StoreError> {
    let moved = if crash::without("judge_under_lock") {
        "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status) VALUES ($1, $2, $3, 'confirmed')
         ON CONFLICT (order_id) DO UPDATE
            SET seat_no = excluded.seat_no, status = 'confirmed', expires_at = NULL, updated_at = now()"
    } else {
        "WITH taken AS (
             DELETE FROM free_seats WHERE schedule_id = $2 AND seat_no = $3 RETURNING schedule_id, seat_no
         )
         INSERT INTO seat_reservations AS own (order_id, schedule_id, seat_no, status)
         SELECT $1, schedule_id, seat_no, 'confirmed' FROM taken
         ON CONFLICT (order_id) DO UPDATE
            SET seat_no = excluded.seat_no, status = 'confirmed', expires_at = NULL, took_last = false, updated_at = now()
          WHERE own.status = 'cancelled'"
    };
    let moved = sqlx::query(moved)
        .bind(&order.order_id)
        .bind(order.schedule_id)
        .bind(seat)
        .execute(&mut *step.transaction)
        .await?
        .rows_affected();
    if moved == 1 {
        note_last(step, &[&order.order_id]).await
    } else {
        Err(StoreError::Conflict(sqlx::Error::RowNotFound))
    }
}

/// Notes at these orders, which have just been given a seat, whether their session has none left.
pub(super) async fn note_last(step: &mut Step<'_>, orders: &[&OrderId]) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE seat_reservations r SET took_last = true
          WHERE r.order_id = ANY($1) AND NOT EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = r.schedule_id)",
    )
    .bind(orders)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// Frees the order's seat and ends its booking; whether it had a seat.
pub(super) async fn free(step: &mut Step<'_>, order: &Locked) -> Result<bool, StoreError> {
    let freed = sqlx::query(
        "WITH gone AS (
             UPDATE seat_reservations SET status = 'cancelled', expires_at = NULL, updated_at = now()
              WHERE order_id = $1 AND status <> 'cancelled' RETURNING schedule_id, seat_no
         ), booking AS (
             UPDATE bookings SET cancelled_at = now() WHERE order_id = $1 AND cancelled_at IS NULL
         )
         INSERT INTO free_seats (schedule_id, seat_no) SELECT schedule_id, seat_no FROM gone",
    )
    .bind(&order.order_id)
    .execute(&mut *step.transaction)
    .await?;
    Ok(freed.rows_affected() > 0)
}
