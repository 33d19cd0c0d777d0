//! `payment_transactions` and what follows from them: a payment becomes a seat, a refund or a case, in one
//! transaction for a whole batch.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use time::OffsetDateTime;

use super::{
    Step, StoreError, hold, limits,
    order::{self, Change, Locked, Paid},
    payment_books::{Books, Case, LateMoney, Outcome},
    seat,
};
use crate::crash;
use crate::domain::{
    case::CaseKind,
    ids::{OrderId, ScheduleId, SeatNo},
    message::{Payment, PaymentSeen, Source},
    money::Fen,
    order::{Effect, Event, SeatAtPayment, Status, step as decide},
};

/// Whose payments these must be.
#[derive(Debug, Clone)]
pub struct Merchant {
    pub mchid: String,
    pub appid: String,
}

/// Records payments in the order given; the answer has one outcome for each.
pub async fn record(
    step: &mut Step<'_>,
    merchant: &Merchant,
    seen: &[&PaymentSeen],
) -> Result<Vec<Outcome>, StoreError> {
    let ids: Vec<OrderId> =
        seen.iter().filter_map(|seen| OrderId::try_from(seen.payment.out_trade_no.clone()).ok()).collect();
    let orders: HashMap<String, Locked> =
        order::lock(step, &ids).await?.into_iter().map(|order| (order.order_id.to_string(), order)).collect();
    let mut owners = owners(step, seen).await?;
    let sessions = lock_sessions(step, &orders, seen).await?;
    let mut books = Books::default();
    let mut outcomes = Vec::with_capacity(seen.len());
    for seen in seen {
        let outcome = match orders.get(&seen.payment.out_trade_no) {
            None => {
                books.cases.push(Case::unknown_order(&seen.payment));
                Outcome::UnknownOrder
            }
            Some(order) => {
                // Of two orders that WeChat names with one payment, it counts for the first alone.
                let owner = owners.entry(&seen.payment.transaction_id).or_insert_with(|| order.order_id.clone());
                if *owner == order.order_id {
                    settle(step, &mut books, merchant, &sessions, order, seen).await?
                } else {
                    books.cases.push(Case::of_two_orders(order, &seen.payment, owner));
                    Outcome::Mismatched
                }
            }
        };
        if let Source::Callback { notification_id } = &seen.source {
            books.callbacks.push((notification_id.clone(), seen, outcome));
        }
        outcomes.push(outcome);
    }
    books.write(step).await?;
    Ok(outcomes)
}

/// The order that each of these payments is recorded for.
async fn owners<'a>(step: &mut Step<'_>, seen: &[&'a PaymentSeen]) -> Result<HashMap<&'a String, OrderId>, StoreError> {
    let numbers: Vec<&String> = seen.iter().map(|seen| &seen.payment.transaction_id).collect();
    let rows: Vec<(String, OrderId)> =
        sqlx::query_as("SELECT transaction_id, order_id FROM payment_transactions WHERE transaction_id = ANY($1)")
            .bind(&numbers)
            .fetch_all(&mut *step.transaction)
            .await?;
    let recorded: HashMap<String, OrderId> = rows.into_iter().collect();
    Ok(numbers.into_iter().filter_map(|number| Some((number, recorded.get(number)?.clone()))).collect())
}

async fn settle<'a>(
    step: &mut Step<'_>,
    books: &mut Books<'a>,
    merchant: &Merchant,
    sessions: &Sessions,
    order: &'a Locked,
    seen: &'a PaymentSeen,
) -> Result<Outcome, StoreError> {
    let payment = &seen.payment;
    if payment.refunded && !refund_is_known(step, &order.order_id).await? {
        books.cases.push(Case::refund_at_wechat(order, payment));
    }
    let settled_by = order.transaction_id.as_ref().or_else(|| {
        let earlier = books.changes.iter().find(|(changed, _)| changed.order_id == order.order_id);
        earlier.and_then(|(_, change)| change.paid.as_ref().map(|paid| &paid.transaction_id))
    });
    let mismatch = mismatch(merchant, order, payment);
    if mismatch.is_none() && settled_by == Some(&payment.transaction_id) && !crash::without("transaction_once") {
        return Ok(Outcome::Repeated);
    }
    let mismatch = mismatch.or(settled_by.map(|_| CaseKind::PaidTwice));
    let mut free = None;
    let mut is_at_limit = false;
    let event = match mismatch {
        Some(_) => Event::PaymentMismatched,
        None if is_too_late(order, seen, step.now) => Event::PaidTooLate,
        None if order.holds_seat => Event::Paid(SeatAtPayment::Held),
        None => {
            is_at_limit = may_take_free_seat(order) && !has_room(step, order, seen).await?;
            free = if is_at_limit { None } else { free_seat(step, sessions, order).await? };
            Event::Paid(if free.is_some() { SeatAtPayment::Free } else { SeatAtPayment::None })
        }
    };
    let (to, effects) = decide(order.status, event).change(order.status).unwrap_or((order.status, &[]));
    let mut outcome = Outcome::Repeated;
    for effect in effects {
        match effect {
            Effect::RecordTransaction => {
                let status = if to == order.status { "mismatched" } else { "settled" };
                books.note_transaction(order, seen, status);
            }
            Effect::IssueBooking => {
                outcome = Outcome::Settled;
                books.confirmed.push(order);
            }
            // At once: the next payment of the batch must not find it free.
            Effect::TakeFreeSeat => {
                if let Some(free) = free {
                    seat::take(step, order, free).await?;
                }
            }
            Effect::RefundAutomatically => {
                outcome = Outcome::Settled;
                let why = match sessions.get(&order.schedule_id) {
                    _ if event == Event::PaidTooLate => "not-on-sale",
                    _ if is_at_limit => "limit-reached",
                    Some(session) if session.open => "sold-out",
                    Some(session) if session.takes_place => "not-on-sale",
                    Some(_) | None => "schedule-closed",
                };
                let no_seat = (order.status != Status::Cancelled).then_some(why);
                books.refunds.push(LateMoney { order, fen: payment.total_fen, no_seat });
            }
            Effect::OpenCase => {
                outcome = Outcome::Mismatched;
                books.cases.push(Case::mismatch(order, payment, mismatch.unwrap_or(CaseKind::PaidWithoutCode)));
            }
            Effect::Notify(kind) => books.notices.push((order.order_id.clone(), *kind)),
            // Nobody is offered it: the sale is over.
            Effect::FreeSeat => drop(seat::free(step, order).await?),
            // The held seat is confirmed with its booking; a payment holds none.
            Effect::ConfirmSeat | Effect::HoldSeat => {}
        }
    }
    if to != order.status {
        let paid = Paid {
            transaction_id: payment.transaction_id.clone(),
            at: paid_at(payment, step.now),
            fen: payment.total_fen,
        };
        let promised = if effects.contains(&Effect::RefundAutomatically) { payment.total_fen } else { Fen::ZERO };
        let change = Change {
            request_id: Some(seen.request_id.clone()),
            paid: Some(paid),
            promised,
            reason: match &seen.source {
                Source::Offline { operator, reason } => {
                    let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                    Some(format!("taken offline by {operator}{because}"))
                }
                Source::Callback { .. } | Source::Query if payment.success_time.is_none() => Some(UNDATED.to_owned()),
                Source::Callback { .. } | Source::Query => None,
            },
            ..Change::of_status(to, "paid", actor(&seen.source))
        };
        books.changes.push((order, change));
    }
    Ok(outcome)
}

/// Whether the books know a refund of the order that WeChat may mean by "refunded".
async fn refund_is_known(step: &mut Step<'_>, order: &OrderId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM refunds WHERE order_id = $1 AND (sent_at IS NOT NULL OR out_refund_no IS NOT NULL))
             OR EXISTS (SELECT FROM wechat_refunds WHERE order_id = $1)",
    )
    .bind(order)
    .fetch_one(&mut *step.transaction)
    .await?)
}

/// In the audit log of a payment whose time is ours. A missing time is no case: seat and sum do not depend on it, and
/// the money must not wait for a person.
const UNDATED: &str = "WeChat gave no usable time of payment: this is the database's time";

/// When it was paid: by WeChat's word, else now by the database's clock.
pub(super) fn paid_at(payment: &Payment, now: OffsetDateTime) -> OffsetDateTime {
    payment.success_time.unwrap_or(now)
}

/// Whose word it is that settles.
fn actor(source: &Source) -> Cow<'static, str> {
    match source {
        Source::Callback { .. } | Source::Query => "worker:payments".into(),
        Source::Offline { operator, .. } => format!("operator:{operator}").into(),
    }
}

/// Which of WeChat's facts is not the order's; `None` when all agree.
fn mismatch(merchant: &Merchant, order: &Locked, payment: &Payment) -> Option<CaseKind> {
    if payment.total_fen != order.amount_fen {
        Some(CaseKind::AmountMismatch)
    } else if payment.currency != "CNY" {
        Some(CaseKind::CurrencyMismatch)
    } else if payment.mchid != merchant.mchid {
        Some(CaseKind::MchidMismatch)
    } else if payment.appid != merchant.appid {
        Some(CaseKind::AppidMismatch)
    } else {
        None
    }
}

/// Whether the customer may have one more seat: a hold that ran out and was replaced must not become a seat beyond the
/// limit when it is paid after all. What an operator takes by other means is the operator's decision.
async fn has_room(step: &mut Step<'_>, order: &Locked, seen: &PaymentSeen) -> Result<bool, StoreError> {
    match seen.source {
        Source::Callback { .. } | Source::Query => {
            limits::has_room_for_paid(step, order.schedule_id, &order.user_id).await
        }
        Source::Offline { .. } => Ok(true),
    }
}

pub(super) type Sessions = HashMap<ScheduleId, hold::Session>;

/// Whether a payment now would find no hold, but may find a seat.
fn may_take_free_seat(order: &Locked) -> bool {
    !order.holds_seat
        && matches!(order.status, Status::Held | Status::AwaitingPayment | Status::Lapsed | Status::Expired)
}

/// Whether WeChat took the money when the session was on sale no more. Its own time counts: who paid in time keeps the
/// seat, however late the callback is. What an operator takes by other means is the operator's decision.
fn is_too_late(order: &Locked, seen: &PaymentSeen, now: OffsetDateTime) -> bool {
    match seen.source {
        Source::Callback { .. } | Source::Query => paid_at(&seen.payment, now) >= order.sale_closes_at,
        Source::Offline { .. } => false,
    }
}

/// Locks the sessions in which seats may be taken or freed: all at once, so that two batches never wait for each other
/// crosswise.
async fn lock_sessions(
    step: &mut Step<'_>,
    orders: &HashMap<String, Locked>,
    seen: &[&PaymentSeen],
) -> Result<Sessions, StoreError> {
    let now = step.now;
    let of_payment = |seen: &&PaymentSeen| {
        let order = orders.get(&seen.payment.out_trade_no)?;
        (may_take_free_seat(order) || is_too_late(order, seen, now)).then_some(order.schedule_id)
    };
    let touched: BTreeSet<ScheduleId> = seen.iter().filter_map(of_payment).collect();
    if touched.is_empty() { Ok(Sessions::new()) } else { hold::lock_sessions(step, &touched).await }
}

/// For a customer who paid after the hold was gone: their own seat if it is free, else the lowest free one. None of
/// a session that was cancelled or has begun.
async fn free_seat(step: &mut Step<'_>, sessions: &Sessions, order: &Locked) -> Result<Option<SeatNo>, StoreError> {
    if may_take_free_seat(order) { seat::lowest_free(step, sessions, order).await } else { Ok(None) }
}
