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
    ids::{OrderId, ScheduleId, SeatNo, Ticket, UserId, system_request},
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
            // A session that was cancelled or has begun has no line. Its row is locked: a cancellation ends who is in it.
            WaitlistWish::Join => {
                "INSERT INTO waitlist (schedule_id, user_id)
                 SELECT schedule_id, $2 FROM course_schedules
                  WHERE schedule_id = $1 AND status = 'open' AND starts_at > now()
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

/// A seat that was given back, with the order that had it and its customer.
#[derive(Debug, Clone, Copy)]
pub struct Freed<'a> {
    pub by: &'a OrderId,
    pub from: &'a UserId,
}

/// Free seats of a session, and people who wait for one, that one step looks at: the rest is offered by the next step.
const AT_ONCE: i64 = 100;

/// Offers free seats of a session to those who wait, first come, first served, each with a hold of its own.
/// The session is locked. Part of the transaction that frees the seat, so that nobody can come between.
///
/// A customer is not offered the seat that they give back themselves, and who is at a limit keeps the place in the line:
/// the seat is for the next one. An offer that cannot be made is undone alone, and the next in line is offered the seat.
pub async fn offer_free_seats(
    step: &mut Step<'_>,
    schedule: ScheduleId,
    terms: &Terms,
    freed: Option<Freed<'_>>,
) -> Result<(), StoreError> {
    let seats: Vec<(SeatNo, Fen)> = sqlx::query_as(
        "SELECT f.seat_no, s.price_fen FROM free_seats f JOIN course_schedules s USING (schedule_id)
          WHERE f.schedule_id = $1 AND s.status = 'open' AND coalesce(s.sale_closes_at, s.starts_at) > $2
            AND (s.sale_opens_at IS NULL OR s.sale_opens_at <= $2)
          ORDER BY f.seat_no LIMIT $3",
    )
    .bind(schedule)
    .bind(step.now)
    .bind(AT_ONCE)
    .fetch_all(&mut *step.transaction)
    .await?;
    if seats.is_empty() {
        return Ok(());
    }
    let waiting: Vec<(i64, UserId)> = sqlx::query_as(
        "SELECT ticket, user_id FROM waitlist
          WHERE schedule_id = $1 AND left_at IS NULL AND offered_order_id IS NULL AND user_id IS DISTINCT FROM $2
          ORDER BY ticket LIMIT $3",
    )
    .bind(schedule)
    .bind(freed.map(|freed| freed.from))
    .bind(AT_ONCE)
    .fetch_all(&mut *step.transaction)
    .await?;
    let mut waiting = waiting.into_iter().map(|(ticket, user)| (Ticket(ticket), user));
    for (seat, price_fen) in seats {
        for (ticket, user_id) in waiting.by_ref() {
            if !limits::has_room(step, schedule, &user_id, terms.unpaid_per_customer).await? {
                continue;
            }
            let offer = Offer { schedule, ticket, user_id, seat, price_fen };
            if offer.make_or_undo(step, terms, freed).await? {
                break;
            }
        }
    }
    Ok(())
}

/// One free seat for one who waits.
struct Offer {
    schedule: ScheduleId,
    ticket: Ticket,
    user_id: UserId,
    seat: SeatNo,
    price_fen: Fen,
}

impl Offer {
    /// Whether the offer is made. What goes wrong with it alone is undone, noted at the place in the line and counted.
    ///
    /// # Errors
    /// The step cannot go on: PostgreSQL is unavailable, or another transaction is in the way.
    async fn make_or_undo(
        &self,
        step: &mut Step<'_>,
        terms: &Terms,
        freed: Option<Freed<'_>>,
    ) -> Result<bool, StoreError> {
        sqlx::query("SAVEPOINT offer").execute(&mut *step.transaction).await?;
        match self.make(step, terms, freed).await {
            Ok(()) => {
                sqlx::query("RELEASE SAVEPOINT offer").execute(&mut *step.transaction).await?;
                Ok(true)
            }
            Err(error) if concerns_the_row(&error) => {
                sqlx::query("ROLLBACK TO SAVEPOINT offer").execute(&mut *step.transaction).await?;
                let Self { schedule, ticket, .. } = self;
                tracing::error!(%schedule, %ticket, %error, "failed to offer a free seat; the next in line is offered it");
                metrics::counter!("waitlist_offers_failed_total").increment(1);
                sqlx::query("UPDATE waitlist SET offer_failed_at = now(), offer_error = $2 WHERE ticket = $1")
                    .bind(ticket.0)
                    .bind(error.to_string())
                    .execute(&mut *step.transaction)
                    .await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn make(&self, step: &mut Step<'_>, terms: &Terms, freed: Option<Freed<'_>>) -> Result<(), StoreError> {
        let order_id = OrderId::of_offer(&terms.id_prefix, self.schedule, self.ticket);
        let offered = OrderSubmitted {
            order_id: order_id.clone(),
            user_id: self.user_id.clone(),
            openid: None,
            schedule_id: self.schedule,
            seat_no: None,
            amount_fen: self.price_fen,
            channel: Channel::Native,
            request_hash: format!("waitlist {}", self.ticket),
            submitted_at: step.now,
            request_id: system_request("offer", self.ticket),
        };
        hold::record(step, &[(&offered, Decision::Held(self.seat))], terms.deadlines).await?;
        notification::intend(step, std::slice::from_ref(&order_id), Kind::WaitlistOffer).await?;
        sqlx::query("UPDATE waitlist SET offered_order_id = $2, freed_by = $3 WHERE ticket = $1")
            .bind(self.ticket.0)
            .bind(&order_id)
            .bind(freed.map(|freed| freed.by))
            .execute(&mut *step.transaction)
            .await?;
        Ok(())
    }
}

/// Whether a statement failed because of the row it wrote: classes 22 (data) and 23 (constraints). Anything else would
/// meet every other row as well.
fn concerns_the_row(error: &StoreError) -> bool {
    let (StoreError::Away(cause) | StoreError::Conflict(cause) | StoreError::Newer(cause) | StoreError::Bug(cause)) =
        error;
    let code = cause.as_database_error().and_then(|refusal| refusal.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// Which offers a worker derives its follow-ups from.
#[derive(Debug, Clone, Copy)]
pub enum OffersOf<'a> {
    /// Made when this order gave its seat back.
    Freed(&'a OrderId),
    /// Made in these sessions when somebody joined or left the line.
    Lines(&'a [ScheduleId]),
}

/// The offers that still need their code. Bounded: the sweep finds the rest by their orders.
pub async fn open_offers(db: impl PgExecutor<'_>, of: OffersOf<'_>) -> Result<Vec<OrderId>, StoreError> {
    let offers = match of {
        OffersOf::Freed(order) => sqlx::query_scalar(
            "SELECT o.order_id FROM waitlist w JOIN payment_orders o ON o.order_id = w.offered_order_id
              WHERE w.freed_by = $1 AND o.status = 'held' ORDER BY w.ticket LIMIT $2",
        )
        .bind(order),
        OffersOf::Lines(schedules) => sqlx::query_scalar(
            "SELECT o.order_id FROM waitlist w JOIN payment_orders o ON o.order_id = w.offered_order_id
              WHERE w.schedule_id = ANY($1) AND w.freed_by IS NULL AND o.status = 'held'
              ORDER BY w.ticket DESC LIMIT $2",
        )
        .bind(schedules),
    };
    Ok(offers.bind(AT_ONCE).fetch_all(db).await?)
}

/// Ends the line of a session that is cancelled. In the transaction that cancels it, which holds the session's lock.
pub async fn end_line(step: &mut Step<'_>, schedule: ScheduleId) -> Result<u64, StoreError> {
    let ended = sqlx::query(
        "UPDATE waitlist SET left_at = now() WHERE schedule_id = $1 AND left_at IS NULL AND offered_order_id IS NULL",
    )
    .bind(schedule)
    .execute(&mut *step.transaction)
    .await?;
    Ok(ended.rows_affected())
}

/// A customer's position in a session's list, 1 being the next; `None` when they do not wait: never joined, left, were
/// offered a seat, or the session is cancelled or has begun.
pub async fn position(db: impl PgExecutor<'_>, schedule: ScheduleId, user: &UserId) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM waitlist before
                  WHERE before.schedule_id = own.schedule_id AND before.ticket <= own.ticket
                    AND before.left_at IS NULL AND before.offered_order_id IS NULL)
           FROM waitlist own JOIN course_schedules s USING (schedule_id)
          WHERE own.schedule_id = $1 AND own.user_id = $2 AND own.left_at IS NULL AND own.offered_order_id IS NULL
            AND s.status = 'open' AND s.starts_at > now()",
    )
    .bind(schedule)
    .bind(user)
    .fetch_optional(db)
    .await?)
}

/// How many wait for a seat of the session.
pub async fn waiting(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM waitlist JOIN course_schedules s USING (schedule_id)
          WHERE schedule_id = $1 AND left_at IS NULL AND offered_order_id IS NULL
            AND s.status = 'open' AND s.starts_at > now()",
    )
    .bind(schedule)
    .fetch_one(db)
    .await?)
}
