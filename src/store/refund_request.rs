//! Taking a request for money back into the books: a customer's by the rules of the session, an operator's by the judge
//! of all money that operators move. Whatever door it came through, it is judged here, under the order's lock.

use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;

use super::{
    Step, StoreError, ending,
    order::{self, Change, Locked},
    overrides,
    waitlist::Terms,
};
use crate::domain::{
    ids::{OrderId, RefundId, ScheduleId},
    message::RefundRequested,
    money::Fen,
    order::{Event, Status},
    refund::{RefundStatus, Requester},
    session_rules::{RefundRule, RefundRules},
};

/// WeChat takes at most so many partial refunds of one order (refund, rules).
const MOST_PER_ORDER: i64 = 50;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// In the books, now or before.
    Accepted,
    /// It cannot be met; the row says why.
    Refused,
    /// Nothing was paid for the booking, and it has ended with its session: nothing is to be given back.
    Ended,
    /// It waits for a second operator, as an override of the order.
    Proposed,
    /// The order is not in the books (yet).
    NoOrder,
}

/// What goes back, and whether the booking ends with it.
struct Sum {
    amount: Fen,
    ends: bool,
}

/// Takes a request into the books: the sum is promised, and the seat is free when the booking ends. `second_person`: the
/// sum above which operators' money for one order needs two of them.
pub async fn request(
    step: &mut Step<'_>,
    request: &RefundRequested,
    terms: &Terms,
    second_person: Fen,
) -> Result<Requested, StoreError> {
    let Some(order) = order::lock(step, std::slice::from_ref(&request.order_id)).await?.pop() else {
        return Ok(Requested::NoOrder);
    };
    let known: Option<RefundStatus> = sqlx::query_scalar("SELECT status FROM refunds WHERE refund_id = $1")
        .bind(&request.refund_id)
        .fetch_optional(&mut *step.transaction)
        .await?;
    match known {
        Some(RefundStatus::Refused) => return Ok(Requested::Refused),
        Some(_) => return Ok(Requested::Accepted),
        None => {}
    }
    if order.is_waived() && request.refund_id == RefundId::of_cancelled_session(&order.order_id) {
        let change = Change {
            request_id: Some(request.request_id.clone()),
            reason: Some(request.reason.clone()),
            ..Change::of_status(order.status, "revoked", request.requested_by.clone())
        };
        ending::apply(step, &order, Event::Revoked, change, terms).await?;
        return Ok(Requested::Ended);
    }
    let left = order.paid_fen.checked_sub(order.refund_promised_fen).unwrap_or(Fen::ZERO);
    let judged = match Requester::of(&request.requested_by) {
        Requester::Customer(user) => of_customer(step, &order, user, request, left).await?,
        Requester::Operator(_) => of_operator(&order, request, left),
    };
    let judged = match judged {
        Ok(_) if count(step, &order.order_id).await? >= MOST_PER_ORDER => Err("too-many-refunds"),
        judged => judged,
    };
    let sum = match judged {
        Ok(sum) => sum,
        Err(why) => {
            tracing::info!(refund_id = %request.refund_id, why, "refused a request for a refund");
            let asked = request.amount_fen.unwrap_or(left);
            // The column wants a sum; of a request for nothing it is the order's.
            let asked = if asked > Fen::ZERO { asked } else { order.amount_fen };
            write(step, request, RefundStatus::Refused, asked, Some(why)).await?;
            return Ok(Requested::Refused);
        }
    };
    if let Requester::Operator(operator) = Requester::of(&request.requested_by)
        && !overrides::allows_refund(step, request).await?
        && overrides::needs_second_person(step, &order.order_id, sum.amount, second_person).await?
    {
        overrides::propose_refund(step, request, operator, sum.amount).await?;
        return Ok(Requested::Proposed);
    }
    write(step, request, RefundStatus::Requested, sum.amount, None).await?;
    let change = Change {
        request_id: Some(request.request_id.clone()),
        reason: Some(request.reason.clone()),
        promised: sum.amount,
        ..Change::of_status(order.status, "refund_requested", request.requested_by.clone())
    };
    ending::apply(step, &order, Event::RefundRequested { whole: sum.ends }, change, terms).await?;
    Ok(Requested::Accepted)
}

async fn write(
    step: &mut Step<'_>,
    request: &RefundRequested,
    status: RefundStatus,
    amount: Fen,
    error: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, error, next_check_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $3 = 'requested'::refund_status THEN now() END)",
    )
    .bind(&request.refund_id)
    .bind(&request.order_id)
    .bind(status)
    .bind(amount)
    .bind(&request.reason)
    .bind(&request.requested_by)
    .bind(error)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// What an operator asks for: any amount of what is left, of a booking or of what a customer did not get back.
fn of_operator(order: &Locked, request: &RefundRequested, left: Fen) -> Result<Sum, &'static str> {
    match order.status {
        Status::Confirmed => {}
        Status::Refunding | Status::Refunded if left > Fen::ZERO => {}
        // A person ended its refund as not owed; only a person takes that back.
        Status::Cancelled if order.paid_fen > Fen::ZERO => {}
        Status::Refunding | Status::Refunded => return Err("nothing-left"),
        Status::Submitted
        | Status::Held
        | Status::AwaitingPayment
        | Status::Rejected
        | Status::Lapsed
        | Status::Cancelled
        | Status::Expired => return Err("not-paid"),
    }
    let amount = request.amount_fen.unwrap_or(left);
    if amount <= Fen::ZERO || amount > left { Err("more-than-left") } else { Ok(Sum { amount, ends: amount == left }) }
}

/// What a customer asks for: the share that the session's rules give at the time of the request. The booking ends with
/// it, also when a part of the price stays with the studio.
async fn of_customer(
    step: &mut Step<'_>,
    order: &Locked,
    user: &str,
    request: &RefundRequested,
    left: Fen,
) -> Result<Result<Sum, &'static str>, StoreError> {
    if user != order.user_id.as_str() {
        return Ok(Err("not-yours"));
    }
    if request.amount_fen.is_some() {
        return Ok(Err("amount-not-yours"));
    }
    match order.status {
        Status::Confirmed => {}
        Status::Refunding | Status::Refunded => return Ok(Err("nothing-left")),
        Status::Cancelled if order.paid_fen > Fen::ZERO => return Ok(Err("nothing-left")),
        Status::Submitted
        | Status::Held
        | Status::AwaitingPayment
        | Status::Rejected
        | Status::Lapsed
        | Status::Cancelled
        | Status::Expired => return Ok(Err("not-paid")),
    }
    let now = request.requested_at.map_or(step.now, |at| at.min(step.now));
    let terms = refund_terms(&mut *step.transaction, order.schedule_id).await?;
    let share = terms.and_then(|terms| terms.share(left, now));
    Ok(share.map(|share| Sum { amount: share.amount_fen, ends: true }).ok_or("refund-not-allowed"))
}

/// What decides how much customers take back of a session's bookings.
#[derive(Debug, Clone)]
pub struct RefundTerms {
    starts_at: OffsetDateTime,
    takes_place: bool,
    rules: RefundRules,
}

/// What a customer would get back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub amount_fen: Fen,
    pub percent: u8,
    /// When less, or nothing, is given back. `None`: the session is cancelled, all goes back.
    pub until: Option<OffsetDateTime>,
}

impl RefundTerms {
    /// The share of what is still paid; `None` when nothing can be taken back.
    pub fn share(&self, left: Fen, now: OffsetDateTime) -> Option<Share> {
        let (rule, until) = if self.takes_place {
            let (rule, until) = self.rules.at(self.starts_at, now)?;
            (rule, Some(until))
        } else {
            (RefundRule { until_hours_before: 0, percent: 100 }, None)
        };
        let amount_fen = rule.share(left);
        (amount_fen > Fen::ZERO).then_some(Share { amount_fen, percent: rule.percent, until })
    }
}

/// The terms of a session; `None` when there is no such session.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn refund_terms(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<Option<RefundTerms>, StoreError> {
    type Row = (OffsetDateTime, bool, Json<RefundRules>);
    let row: Option<Row> =
        sqlx::query_as("SELECT starts_at, status = 'open', refund_rules FROM course_schedules WHERE schedule_id = $1")
            .bind(schedule)
            .fetch_optional(db)
            .await?;
    Ok(row.map(|(starts_at, takes_place, Json(rules))| RefundTerms { starts_at, takes_place, rules }))
}

/// What of an order is paid and not promised back; `None` when it is not in the books.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn left(db: impl PgExecutor<'_>, order: &OrderId) -> Result<Option<Fen>, StoreError> {
    Ok(sqlx::query_scalar("SELECT paid_fen - refund_promised_fen FROM payment_orders WHERE order_id = $1")
        .bind(order)
        .fetch_optional(db)
        .await?)
}

async fn count(step: &mut Step<'_>, order: &OrderId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM refunds WHERE order_id = $1 AND status <> 'refused'")
        .bind(order)
        .fetch_one(&mut *step.transaction)
        .await?)
}
