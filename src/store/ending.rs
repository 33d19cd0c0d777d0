//! Ending an order without a seat: the transaction of every step that is not a payment.

use super::{
    Step, StoreError, hold, notification,
    order::{self, Change, Locked},
    seat,
    waitlist::{self, Freed, Terms},
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
    if seat::free(step, order).await? {
        let freed = Freed { by: &order.order_id, from: &order.user_id };
        waitlist::offer_free_seats(step, order.schedule_id, terms, Some(freed)).await?;
    }
    Ok(())
}
