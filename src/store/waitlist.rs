//! `waitlist`: who waits for a seat of a session, and the offers that freed seats become.

use sqlx::PgExecutor;

use super::{
    Step, StoreError,
    hold::{self, Deadlines, Decision},
    limits, notification,
    sealed::PersonalKeys,
    user,
};
use crate::domain::{
    ids::{IdempotencyKey, OrderId, ScheduleId, SeatNo, UserId},
    message::{OrderSubmitted, WaitlistChange, WaitlistWish},
    money::Fen,
    notification::Kind,
    order::Channel,
};

/// What an offered order is made with.
#[derive(Debug, Clone)]
pub struct Terms {
    pub id_prefix: String,
    pub deadlines: Deadlines,
    /// Unpaid orders that one customer may have over all sessions.
    pub unpaid_per_customer: i64,
}

/// Joins and leaves, in the order given. Joining twice keeps the first place.
pub async fn change(step: &mut Step<'_>, keys: &PersonalKeys, changes: &[&WaitlistChange]) -> Result<(), StoreError> {
    let joining = changes.iter().filter(|change| change.wish == WaitlistWish::Join);
    user::upsert(step, keys, joining.map(|change| (&change.user_id, change.openid.as_ref()))).await?;
    for change in changes {
        let statement = match change.wish {
            WaitlistWish::Join => {
                "INSERT INTO waitlist (schedule_id, user_id) VALUES ($1, $2)
                 ON CONFLICT (schedule_id, user_id) WHERE left_at IS NULL AND offered_order_id IS NULL DO NOTHING"
            }
            WaitlistWish::Leave => {
                "UPDATE waitlist SET left_at = now()
                  WHERE schedule_id = $1 AND user_id = $2 AND left_at IS NULL AND offered_order_id IS NULL"
            }
        };
        sqlx::query(statement).bind(change.schedule_id).bind(&change.user_id).execute(&mut *step.transaction).await?;
    }
    Ok(())
}

/// Offers free seats of a session to those who wait, first come, first served, each with a hold of its own.
/// The session is locked. Part of the transaction that frees the seat, so that nobody can come between.
pub async fn offer_free_seats(step: &mut Step<'_>, schedule: ScheduleId, terms: &Terms) -> Result<(), StoreError> {
    let seats: Vec<(SeatNo, Fen)> = sqlx::query_as(
        "SELECT f.seat_no, s.price_fen FROM free_seats f JOIN course_schedules s USING (schedule_id)
          WHERE f.schedule_id = $1 AND s.status = 'open' AND coalesce(s.sale_closes_at, s.starts_at) > $2
            AND (s.sale_opens_at IS NULL OR s.sale_opens_at <= $2)
          ORDER BY f.seat_no LIMIT 100",
    )
    .bind(schedule)
    .bind(step.now)
    .fetch_all(&mut *step.transaction)
    .await?;
    if seats.is_empty() {
        return Ok(());
    }
    let waiting: Vec<(i64, UserId)> = sqlx::query_as(
        "SELECT ticket, user_id FROM waitlist
          WHERE schedule_id = $1 AND left_at IS NULL AND offered_order_id IS NULL ORDER BY ticket LIMIT 100",
    )
    .bind(schedule)
    .fetch_all(&mut *step.transaction)
    .await?;
    let mut seats = seats.into_iter().peekable();
    for (ticket, user_id) in waiting {
        let Some((seat, price_fen)) = seats.peek().copied() else { break };
        // Who is at a limit keeps the place in the line; the seat is for the next one.
        if !limits::has_room(step, schedule, &user_id, terms.unpaid_per_customer).await? {
            continue;
        }
        seats.next();
        let order_id = OrderId::derive(&terms.id_prefix, &user_id, &key_of(ticket));
        let offered = OrderSubmitted {
            order_id: order_id.clone(),
            user_id,
            openid: None,
            schedule_id: schedule,
            seat_no: None,
            amount_fen: price_fen,
            channel: Channel::Native,
            request_hash: format!("waitlist {ticket}"),
            submitted_at: step.now,
            request_id: format!("waitlist-{ticket}"),
        };
        hold::record(step, &[(&offered, Decision::Held(seat))], terms.deadlines).await?;
        notification::intend(step, std::slice::from_ref(&order_id), Kind::WaitlistOffer).await?;
        sqlx::query("UPDATE waitlist SET offered_order_id = $2 WHERE ticket = $1")
            .bind(ticket)
            .bind(&order_id)
            .execute(&mut *step.transaction)
            .await?;
    }
    Ok(())
}

/// A place in the line names its order, as a customer's key names theirs.
fn key_of(ticket: i64) -> IdempotencyKey {
    IdempotencyKey::try_from(format!("waitlist/{ticket}").as_str()).expect("visible ASCII")
}

/// The offers of these sessions that still need their code: what a worker derives its follow-ups from.
pub async fn open_offers(db: impl PgExecutor<'_>, schedules: &[ScheduleId]) -> Result<Vec<OrderId>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT w.offered_order_id FROM waitlist w JOIN payment_orders o ON o.order_id = w.offered_order_id
          WHERE w.schedule_id = ANY($1) AND w.offered_order_id IS NOT NULL AND o.status = 'held'",
    )
    .bind(schedules)
    .fetch_all(db)
    .await?)
}

/// A customer's position in a session's list, 1 being the next; `None` when they do not wait: never joined, left, or
/// were offered a seat.
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

/// How many wait for a seat of the session.
pub async fn waiting(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM waitlist WHERE schedule_id = $1 AND left_at IS NULL AND offered_order_id IS NULL",
    )
    .bind(schedule)
    .fetch_one(db)
    .await?)
}
