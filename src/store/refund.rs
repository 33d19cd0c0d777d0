//! `refunds`: money that goes back, from the request to WeChat's last word.

use serde_json::json;
use sqlx::{FromRow, PgExecutor};

use super::{
    Step, StoreError, case, ending,
    order::{self, Change, Locked},
    readable, refund_foreign, refund_person,
    waitlist::Terms,
};
use crate::crash;
use crate::domain::{
    case::CaseKind,
    ids::{OrderId, RefundId},
    message::{RefundFacts, RefundSeen, Source, TakenIn},
    money::Fen,
    order::Event,
    refund::{RefundEffect, RefundStatus, RefundStep, step as decide},
};

/// When the sweep should look again: later than the queue's own next look, which comes within ten minutes at
/// first and within the hour when the refund is older.
macro_rules! next_look {
    () => {
        "now() + least(greatest(now() - created_at, interval '10 minutes'), interval '70 minutes')"
    };
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

/// A refund as the worker needs it to carry it on.
#[derive(Debug, Clone, FromRow)]
pub struct Due {
    pub refund_id: RefundId,
    pub order_id: OrderId,
    pub status: RefundStatus,
    pub amount_fen: Fen,
    pub reason: String,
    pub transaction_id: String,
    /// WeChat's number of a refund that is not ours.
    pub out_refund_no: Option<String>,
    /// What was paid in all.
    pub paid_fen: Fen,
}

/// One refund as it stands; `None` when it is not in the books.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn due(db: impl PgExecutor<'_>, id: &RefundId) -> Result<Option<Due>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT r.refund_id, r.order_id, r.status, r.amount_fen, r.reason, r.out_refund_no, o.transaction_id, o.paid_fen
           FROM refunds r JOIN payment_orders o USING (order_id)
          WHERE r.refund_id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?)
}

impl Due {
    /// The number under which WeChat has it.
    pub fn number(&self) -> &str {
        self.out_refund_no.as_deref().unwrap_or(self.refund_id.as_str())
    }
}

/// Whether WeChat may be told of a refund now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Yes: the books say that it is being told.
    Now,
    /// Another refund of the order comes first.
    Later,
    /// An open case asks a person about it.
    Asked,
    /// It is not `requested` any more.
    Over,
}

/// Judges under the order's lock whether a refund may go to WeChat, and notes that it does: before the call, so that a
/// crash leaves the doubt in the books. WeChat takes one refund of an order at a time, and one in `interval`; one about
/// which a case is open keeps no other from it.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn begin_sending(
    step: &mut Step<'_>,
    due: &Due,
    interval: std::time::Duration,
) -> Result<Sending, StoreError> {
    order::lock(step, std::slice::from_ref(&due.order_id)).await?;
    let (status, is_asked, comes_first): (RefundStatus, bool, bool) = sqlx::query_as(concat!(
        "SELECT r.status, ",
        asks_person!("r.refund_id"),
        ", EXISTS (
               SELECT FROM refunds other
                WHERE other.order_id = r.order_id AND other.refund_id <> r.refund_id
                  AND (other.status IN ('requested', 'processing')
                           AND (other.created_at, other.refund_id) < (r.created_at, r.refund_id)
                           AND NOT EXISTS (SELECT FROM cases c WHERE c.subject = other.refund_id AND c.status = 'open')
                       OR other.sent_at > now() - make_interval(secs => $2)))
           FROM refunds r WHERE r.refund_id = $1"
    ))
    .bind(&due.refund_id)
    .bind(interval.as_secs_f64())
    .fetch_one(&mut *step.transaction)
    .await?;
    let (sending, note) = match (status, is_asked, comes_first) {
        (RefundStatus::Requested, true, _) => {
            (Sending::Asked, "UPDATE refunds SET next_check_at = NULL WHERE refund_id = $1")
        }
        (RefundStatus::Requested, false, true) => (
            Sending::Later,
            concat!(
                "UPDATE refunds SET error = NULL, updated_at = now(), next_check_at = ",
                next_look!(),
                " WHERE refund_id = $1"
            ),
        ),
        (RefundStatus::Requested, false, false) => {
            (Sending::Now, "UPDATE refunds SET sent_at = clock_timestamp(), updated_at = now() WHERE refund_id = $1")
        }
        (
            RefundStatus::Processing
            | RefundStatus::Succeeded
            | RefundStatus::Abnormal
            | RefundStatus::Closed
            | RefundStatus::Refused
            | RefundStatus::PaidByHand
            | RefundStatus::NotOwed,
            _,
            _,
        ) => return Ok(Sending::Over),
    };
    sqlx::query(note).bind(&due.refund_id).execute(&mut *step.transaction).await?;
    Ok(sending)
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
    /// WeChat reports a refund of this order that none of ours asked for: a case is open.
    Foreign { order_id: OrderId },
    /// The same of an order that is not paid by the books: WeChat is to be asked about the payment.
    Early { order_id: OrderId },
    /// WeChat reports a refund of an order that is not in the books: a case is open.
    Unknown,
    /// Not as our books have it: a case is open, nothing settled.
    Mismatched,
}

/// The refund that WeChat has under this number, with its order.
pub(super) async fn of_number(
    db: impl PgExecutor<'_>,
    number: &str,
) -> Result<Option<(RefundId, OrderId)>, StoreError> {
    Ok(sqlx::query_as("SELECT refund_id, order_id FROM refunds WHERE coalesce(out_refund_no, refund_id) = $1")
        .bind(number)
        .fetch_optional(db)
        .await?)
}

/// Records WeChat's signed word of a refund. `mchid`: the merchant whose refunds these must be; `taken_in`: set when
/// an operator asked for it.
///
/// # Errors
/// PostgreSQL refuses or is away, or another message about the same refund came first.
pub async fn record(
    step: &mut Step<'_>,
    mchid: &str,
    facts: &RefundFacts,
    taken_in: Option<&TakenIn>,
    terms: &Terms,
) -> Result<Recorded, StoreError> {
    let Some((id, order_id)) = of_number(&mut *step.transaction, &facts.out_refund_no).await? else {
        return refund_foreign::take_in(step, mchid, facts, taken_in, terms).await;
    };
    // The order first, as everywhere: its lock is what keeps two words about one refund apart.
    let locked = order::lock(step, std::slice::from_ref(&order_id)).await?.pop();
    let order = locked.ok_or(sqlx::Error::RowNotFound)?;
    let (status, amount, is_foreign): (RefundStatus, Fen, bool) =
        sqlx::query_as("SELECT status, amount_fen, out_refund_no IS NOT NULL FROM refunds WHERE refund_id = $1")
            .bind(&id)
            .fetch_one(&mut *step.transaction)
            .await?;
    let mut differing = refund_foreign::differences(&order, mchid, Some(amount), facts);
    refund_foreign::compare_number(step, &mut differing, facts, Some(&id)).await?;
    if !differing.is_empty() {
        let details = json!({ "asked_fen": amount, "refunded_fen": facts.refund_fen, "differs": differing });
        case::open(step, CaseKind::RefundMismatch, id.as_str(), Some(&order_id), facts.refund_fen, details).await?;
        return Ok(Recorded::Mismatched);
    }
    let (to, effect) = match decide(status, facts.standing) {
        RefundStep::Move { to, effect } => (to, effect),
        RefundStep::Contradicts => {
            let details = json!({ "ended": status.as_str(), "wechat_refund_id": facts.wechat_refund_id });
            case::open(step, CaseKind::RefundedTwice, id.as_str(), Some(&order_id), amount, details).await?;
            return Ok(Recorded::Known { status, order_id });
        }
        RefundStep::AlreadyDone => {
            if status.is_open() {
                // Still under way: the next look is due later.
                write(step, &id, status, facts).await?;
            }
            if status == RefundStatus::Closed && !is_foreign {
                // A process that closed it may have died before it published what follows.
                return Ok(Recorded::Replaced { by: id.successor(), order_id });
            }
            return Ok(Recorded::Known { status, order_id });
        }
    };
    write(step, &id, to, facts).await?;
    match effect {
        RefundEffect::Nothing => {}
        RefundEffect::Settle => settle(step, &order, &id, amount, terms).await?,
        RefundEffect::OpenCase => {
            case::open(step, CaseKind::RefundAbnormal, id.as_str(), Some(&order_id), amount, json!({})).await?;
        }
        RefundEffect::Replace if is_foreign => refund_foreign::dropped(step, &order, amount, terms).await?,
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
    .bind((to == RefundStatus::Succeeded).then(|| facts.success_time.unwrap_or(step.now)))
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
    let refunded = order.refunded_fen.0.saturating_add(amount.0);
    let left = refund_person::left(step, order, order.refund_promised_fen.0, refunded, None).await?;
    let change = Change { refunded: amount, ..Change::of_status(order.status, "refunded", "worker:refunds") };
    ending::apply(step, order, Event::RefundSucceeded { left }, change, terms).await?;
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

/// Keeps a callback about a refund, once, with what it led to.
pub async fn note_callback(step: &mut Step<'_>, seen: &RefundSeen, led_to: &Recorded) -> Result<(), StoreError> {
    let Source::Callback { notification_id } = &seen.source else { return Ok(()) };
    let outcome = match led_to {
        Recorded::Known { .. } | Recorded::Replaced { .. } | Recorded::Foreign { .. } => "settled",
        Recorded::Early { .. } => "early",
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
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn requested(db: impl PgExecutor<'_>, orders: &[OrderId]) -> Result<Vec<(OrderId, RefundId)>, StoreError> {
    let rows = sqlx::query("SELECT order_id, refund_id FROM refunds WHERE order_id = ANY($1) AND status = 'requested'")
        .bind(orders)
        .fetch_all(db)
        .await?;
    Ok(readable("refunds", &rows, i64::MAX))
}
