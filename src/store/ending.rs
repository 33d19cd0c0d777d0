//! Ending an order without a seat: the transaction of every step that is not a payment.

use super::{
    Step, StoreError, hold, notification,
    order::{self, Change, Locked},
    waitlist::{self, Terms},
};
use crate::domain::order::{Effect, Event, step as decide};

/// Takes one locked order through the table; says whether anything changed.
pub async fn apply(
    step: &mut Step<'_>,
    order: &Locked,
    event: Event,
    change: Change,
    terms: &Terms,
) -> Result<bool, StoreError> {
    let Some((to, effects)) = decide(order.status, event).change(order.status) else { return Ok(false) };
    if effects.contains(&Effect::FreeSeat) {
        hold::lock_sessions(step, &[order.schedule_id].into()).await?;
    }
    order::change(step, &[(order, Change { to, ..change })]).await?;
    for effect in effects {
        match effect {
            Effect::FreeSeat => free_seat(step, order, terms).await?,
            Effect::Notify(kind) => notification::intend(step, std::slice::from_ref(&order.order_id), *kind).await?,
            Effect::HoldSeat
            | Effect::ConfirmSeat
            | Effect::TakeFreeSeat
            | Effect::IssueBooking
            | Effect::RecordTransaction
            | Effect::RefundAutomatically
            | Effect::OpenCase => {}
        }
    }
    Ok(true)
}

/// Frees the order's seat, if it has one, and offers it to the waiting list at once. The session is locked.
async fn free_seat(step: &mut Step<'_>, order: &Locked, terms: &Terms) -> Result<(), StoreError> {
    if vacate(step, order).await? {
        waitlist::offer_free_seats(step, order.schedule_id, terms).await?;
    }
    Ok(())
}

/// Frees the order's seat and ends its booking; says whether it had one. The session is locked.
pub(super) async fn vacate(step: &mut Step<'_>, order: &Locked) -> Result<bool, StoreError> {
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
    .await?
    .rows_affected();
    Ok(freed > 0)
}
