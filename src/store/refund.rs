//! `refunds`: money that goes back, from the request to WeChat's last word.

use serde_json::json;
use sqlx::{FromRow, PgExecutor};

use super::{
    Step, StoreError, case, ending,
    order::{self, Change, Locked},
    waitlist::Terms,
};
use crate::crash;
use crate::domain::{
    case::CaseKind,
    ids::{OrderId, RefundId},
    message::{RefundFacts, RefundRequested, RefundSeen, Source},
    money::Fen,
    order::{Event, Status},
    refund::{RefundEffect, RefundStatus, RefundStep, step as decide},
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
    /// The order is not in the books (yet).
    NoOrder,
}

/// Takes a request into the books: the sum is promised, and the seat is free when everything goes back.
pub async fn request(step: &mut Step<'_>, request: &RefundRequested, terms: &Terms) -> Result<Requested, StoreError> {
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
    let left = order.paid_fen.checked_sub(order.refund_promised_fen).unwrap_or(Fen::ZERO);
    let amount = request.amount_fen.unwrap_or(left);
    let refusal = refusal(&order, amount, left, count(step, &order.order_id).await?);
    let status = if refusal.is_some() { RefundStatus::Refused } else { RefundStatus::Requested };
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, error, next_check_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $3 = 'requested'::refund_status THEN now() END)",
    )
    .bind(&request.refund_id)
    .bind(&order.order_id)
    .bind(status)
    // The column wants a sum; of a request for nothing it is the order's.
    .bind(if amount > Fen::ZERO { amount } else { order.amount_fen })
    .bind(&request.reason)
    .bind(&request.requested_by)
    .bind(refusal)
    .execute(&mut *step.transaction)
    .await?;
    if let Some(why) = refusal {
        tracing::info!(refund_id = %request.refund_id, why, "a refund cannot be made");
        return Ok(Requested::Refused);
    }
    let change = Change {
        request_id: Some(request.request_id.clone()),
        reason: Some(request.reason.clone()),
        promised: amount,
        ..Change::of_status(order.status, "refund_requested", request.requested_by.clone())
    };
    ending::apply(step, &order, Event::RefundRequested { whole: amount == left }, change, terms).await?;
    Ok(Requested::Accepted)
}

/// Enters a refund that nobody has to ask for; the order's promise is made with it.
pub(super) async fn owe(
    step: &mut Step<'_>,
    order: &OrderId,
    id: &RefundId,
    amount: Fen,
    reason: &str,
    requested_by: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, next_check_at)
         VALUES ($1, $2, 'requested', $3, $4, $5, now()) ON CONFLICT (refund_id) DO NOTHING",
    )
    .bind(id)
    .bind(order)
    .bind(amount)
    .bind(reason)
    .bind(requested_by)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

fn refusal(order: &Locked, amount: Fen, left: Fen, count: i64) -> Option<&'static str> {
    match order.status {
        Status::Confirmed => {}
        Status::Refunding | Status::Refunded => return Some("nothing-left"),
        Status::Submitted
        | Status::Held
        | Status::AwaitingPayment
        | Status::Rejected
        | Status::Lapsed
        | Status::Cancelled
        | Status::Expired => return Some("not-paid"),
    }
    if amount <= Fen::ZERO || amount > left {
        Some("more-than-left")
    } else if count >= MOST_PER_ORDER {
        Some("too-many-refunds")
    } else {
        None
    }
}

async fn count(step: &mut Step<'_>, order: &OrderId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM refunds WHERE order_id = $1 AND status <> 'refused'")
        .bind(order)
        .fetch_one(&mut *step.transaction)
        .await?)
}

/// A refund as the worker needs it to carry it on.
#[derive(Debug, Clone, FromRow)]
pub struct Due {
    pub refund_id: RefundId,
    pub order_id: OrderId,
    pub status: RefundStatus,
    pub amount_fen: Fen,
    pub reason: String,
    pub transaction_id: String,
    /// What was paid in all.
    pub paid_fen: Fen,
    /// No older refund of the order is unfinished, and the last one was sent long enough ago.
    pub may_be_sent: bool,
}

/// One refund and whether WeChat would take it now: one of an order at a time, and one in `interval`.
pub async fn due(
    db: impl PgExecutor<'_>,
    id: &RefundId,
    interval: std::time::Duration,
) -> Result<Option<Due>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT r.refund_id, r.order_id, r.status, r.amount_fen, r.reason, o.transaction_id, o.paid_fen,
                NOT EXISTS (
                    SELECT FROM refunds other
                     WHERE other.order_id = r.order_id AND other.refund_id <> r.refund_id
                       AND (other.status IN ('requested', 'processing')
                                AND (other.created_at, other.refund_id) < (r.created_at, r.refund_id)
                            OR other.sent_at > now() - make_interval(secs => $2))) AS may_be_sent
           FROM refunds r JOIN payment_orders o USING (order_id)
          WHERE r.refund_id = $1",
    )
    .bind(id)
    .bind(interval.as_secs_f64())
    .fetch_optional(db)
    .await?)
}

/// Notes that WeChat is about to hear of it: before the call, so that a crash leaves the doubt in the books.
pub async fn mark_sent(db: impl PgExecutor<'_>, id: &RefundId) -> Result<(), StoreError> {
    let sent = sqlx::query("UPDATE refunds SET sent_at = now(), updated_at = now() WHERE refund_id = $1").bind(id);
    crash::around("commit", "refunds.mark_sent", sent.execute(db)).await?;
    Ok(())
}

/// When the sweep should look again: later than the queue's own next look, which comes within ten minutes at
/// first and within the hour when the refund is older.
macro_rules! next_look {
    () => {
        "now() + least(greatest(now() - created_at, interval '10 minutes'), interval '70 minutes')"
    };
}

/// Notes when the sweep should look again, and why it is not done.
pub async fn postpone(db: impl PgExecutor<'_>, id: &RefundId, error: Option<&str>) -> Result<(), StoreError> {
    let postponed = sqlx::query(concat!(
        "UPDATE refunds SET error = $2, updated_at = now(), next_check_at = ",
        next_look!(),
        " WHERE refund_id = $1 AND status IN ('requested', 'processing')"
    ))
    .bind(id)
    .bind(error);
    crash::around("commit", "refunds.postpone", postponed.execute(db)).await?;
    Ok(())
}

/// What WeChat's word led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The refund as it is now.
    Known { status: RefundStatus, order_id: OrderId },
    /// WeChat closed it; this one takes its place.
    Replaced { by: RefundId, order_id: OrderId },
    /// WeChat speaks of a refund that is not in our books: a case is open.
    Unknown,
    /// Another sum than ours: a case is open, nothing settled.
    Mismatched,
}

/// Records WeChat's signed word of a refund.
pub async fn record(step: &mut Step<'_>, facts: &RefundFacts, terms: &Terms) -> Result<Recorded, StoreError> {
    let Ok(id) = RefundId::try_from(facts.out_refund_no.clone()) else {
        return unknown(step, facts).await;
    };
    let order_id: Option<OrderId> = sqlx::query_scalar("SELECT order_id FROM refunds WHERE refund_id = $1")
        .bind(&id)
        .fetch_optional(&mut *step.transaction)
        .await?;
    // The order first, as everywhere: its lock is what keeps two words about one refund apart.
    let Some(order) = order::lock(step, order_id.as_slice()).await?.pop() else {
        return unknown(step, facts).await;
    };
    let order_id = order.order_id.clone();
    let (status, amount): (RefundStatus, Fen) =
        sqlx::query_as("SELECT status, amount_fen FROM refunds WHERE refund_id = $1")
            .bind(&id)
            .fetch_one(&mut *step.transaction)
            .await?;
    if amount != facts.refund_fen {
        let details = json!({ "asked_fen": amount, "refunded_fen": facts.refund_fen });
        case::open(step, CaseKind::RefundMismatch, id.as_str(), Some(&order_id), facts.refund_fen, details).await?;
        return Ok(Recorded::Mismatched);
    }
    let RefundStep::Move { to, effect } = decide(status, facts.standing) else {
        if status.is_open() {
            // Still under way, and somebody has looked.
            write(step, &id, status, facts).await?;
        }
        if status == RefundStatus::Closed {
            // Whoever closed it may have died before saying what follows.
            return Ok(Recorded::Replaced { by: id.successor(), order_id });
        }
        return Ok(Recorded::Known { status, order_id });
    };
    write(step, &id, to, facts).await?;
    match effect {
        RefundEffect::Nothing => {}
        RefundEffect::Settle => settle(step, &order, &id, amount, terms).await?,
        RefundEffect::OpenCase => {
            case::open(step, CaseKind::RefundAbnormal, id.as_str(), Some(&order_id), amount, json!({})).await?;
        }
        RefundEffect::Replace => {
            let by = replace(step, &id).await?;
            return Ok(Recorded::Replaced { by, order_id });
        }
    }
    Ok(Recorded::Known { status: to, order_id })
}

async fn write(step: &mut Step<'_>, id: &RefundId, to: RefundStatus, facts: &RefundFacts) -> Result<(), StoreError> {
    sqlx::query(concat!(
        "UPDATE refunds SET status = $2, wechat_refund_id = coalesce(wechat_refund_id, $3), succeeded_at = $4,
                error = NULL, updated_at = now(), next_check_at = CASE WHEN $5 THEN ",
        next_look!(),
        " END WHERE refund_id = $1"
    ))
    .bind(id)
    .bind(to)
    .bind(&facts.wechat_refund_id)
    .bind(facts.success_time.filter(|_| to == RefundStatus::Succeeded))
    .bind(to.is_open())
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// The sum is given back: the order says so, the customer is told, cases about it are over.
async fn settle(
    step: &mut Step<'_>,
    order: &Locked,
    id: &RefundId,
    amount: Fen,
    terms: &Terms,
) -> Result<(), StoreError> {
    let whole = order.refunded_fen.checked_add(amount) == Some(order.paid_fen);
    let change = Change { refunded: amount, ..Change::of_status(order.status, "refunded", "worker:refunds") };
    ending::apply(step, order, Event::RefundSucceeded { whole }, change, terms).await?;
    case::close(step, id.as_str(), "worker:refunds", "WeChat refunded it").await
}

async fn replace(step: &mut Step<'_>, closed: &RefundId) -> Result<RefundId, StoreError> {
    let by = closed.successor();
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, replaces, next_check_at)
         SELECT $2, order_id, 'requested', amount_fen, reason, requested_by, refund_id, now()
           FROM refunds WHERE refund_id = $1
         ON CONFLICT (refund_id) DO NOTHING",
    )
    .bind(closed)
    .bind(&by)
    .execute(&mut *step.transaction)
    .await?;
    Ok(by)
}

async fn unknown(step: &mut Step<'_>, facts: &RefundFacts) -> Result<Recorded, StoreError> {
    let details = json!({ "out_trade_no": facts.out_trade_no, "wechat_refund_id": facts.wechat_refund_id });
    case::open(step, CaseKind::UnknownRefund, &facts.out_refund_no, None, facts.refund_fen, details).await?;
    Ok(Recorded::Unknown)
}

/// Keeps a callback about a refund, once, with what it led to.
pub async fn note_callback(step: &mut Step<'_>, seen: &RefundSeen, led_to: &Recorded) -> Result<(), StoreError> {
    let Source::Callback { notification_id } = &seen.source else { return Ok(()) };
    let outcome = match led_to {
        Recorded::Known { .. } | Recorded::Replaced { .. } => "settled",
        Recorded::Unknown => "unknown_order",
        Recorded::Mismatched => "mismatched",
    };
    sqlx::query(
        "INSERT INTO wechat_callbacks (notification_id, event_type, out_trade_no, outcome, request_id)
         VALUES ($1, 'REFUND.' || upper($2), $3, $4, $5) ON CONFLICT (notification_id) DO NOTHING",
    )
    .bind(notification_id)
    .bind(seen.facts.standing.as_str())
    .bind(&seen.facts.out_trade_no)
    .bind(outcome)
    .bind(&seen.request_id)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// The refunds of these orders that WeChat is still to be told of: what a worker derives its follow-ups from.
pub async fn requested(db: impl PgExecutor<'_>, orders: &[OrderId]) -> Result<Vec<(OrderId, RefundId)>, StoreError> {
    Ok(sqlx::query_as("SELECT order_id, refund_id FROM refunds WHERE order_id = ANY($1) AND status = 'requested'")
        .bind(orders)
        .fetch_all(db)
        .await?)
}
