//! `payment_transactions` and what follows from them: a payment becomes a seat, a refund or a case, in one
//! transaction for a whole batch.

use std::collections::{BTreeSet, HashMap};

use serde_json::json;
use sqlx::types::Json;

use super::{
    Step, StoreError, case, hold, notification,
    order::{self, Change, Locked, Paid},
    schedule,
};
use crate::domain::{
    ids::{OrderId, RefundId, ScheduleId, SeatNo},
    message::{Payment, PaymentSeen, Source},
    money::Fen,
    notification::Kind,
    order::{Effect, Event, SeatAtPayment, Status, step as decide},
};

/// Whose payments these must be.
#[derive(Debug, Clone)]
pub struct Merchant {
    pub mchid: String,
    pub appid: String,
}

/// What became of one payment that WeChat told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Settled,
    /// Known before; nothing changed.
    Repeated,
    /// Not what the order says: stored, a case is open, nothing settled.
    Mismatched,
    /// WeChat names an order that is not in our books: a case is open.
    UnknownOrder,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Repeated => "repeated",
            Self::Mismatched => "mismatched",
            Self::UnknownOrder => "unknown_order",
        }
    }
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
    let sessions = lock_sessions_of_the_unseated(step, &orders).await?;
    let mut books = Books::default();
    let mut outcomes = Vec::with_capacity(seen.len());
    for seen in seen {
        let outcome = match orders.get(&seen.payment.out_trade_no) {
            None => {
                books.cases.push(Case::unknown_order(&seen.payment));
                Outcome::UnknownOrder
            }
            Some(order) => settle(step, &mut books, merchant, &sessions, order, seen).await?,
        };
        if let Source::Callback { notification_id } = &seen.source {
            books.callbacks.push((notification_id.clone(), seen, outcome));
        }
        outcomes.push(outcome);
    }
    books.write(step).await?;
    Ok(outcomes)
}

/// Everything a batch writes, gathered to be written in sets.
#[derive(Default)]
struct Books<'a> {
    transactions: Vec<(&'a Locked, &'a PaymentSeen, &'static str)>,
    changes: Vec<(&'a Locked, Change)>,
    confirmed: Vec<&'a Locked>,
    /// Seats taken anew for orders whose hold was gone.
    reseated: Vec<(&'a Locked, SeatNo)>,
    refunds: Vec<LateMoney<'a>>,
    notices: Vec<(OrderId, Kind)>,
    cases: Vec<Case>,
    callbacks: Vec<(String, &'a PaymentSeen, Outcome)>,
}

/// Money that came too late for a seat: all of it goes back.
struct LateMoney<'a> {
    order: &'a Locked,
    fen: Fen,
    /// Why there is no seat, as the customer's document says it; `None` when they had cancelled.
    no_seat: Option<&'static str>,
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
    let settled_by = order.transaction_id.as_ref().or_else(|| {
        let earlier = books.changes.iter().find(|(changed, _)| changed.order_id == order.order_id);
        earlier.and_then(|(_, change)| change.paid.as_ref().map(|paid| &paid.transaction_id))
    });
    if settled_by == Some(&payment.transaction_id) {
        return Ok(Outcome::Repeated);
    }
    let mismatch = mismatch(merchant, order, payment).or(settled_by.map(|_| "paid_twice"));
    let mut seat = None;
    let event = match mismatch {
        Some(_) => Event::PaymentMismatched,
        None if order.holds_seat => Event::Paid(SeatAtPayment::Held),
        None => {
            seat = take_free_seat(step, sessions, order).await?;
            Event::Paid(if seat.is_some() { SeatAtPayment::Free } else { SeatAtPayment::None })
        }
    };
    use crate::domain::order::Step as S;
    let (to, effects) = match decide(order.status, event) {
        S::Move { to, effects } => (to, effects),
        S::Stay { effects } => (order.status, effects),
        S::AlreadyDone | S::Irrelevant => return Ok(Outcome::Repeated),
    };
    let mut outcome = Outcome::Settled;
    for effect in effects {
        match effect {
            Effect::RecordTransaction => {
                let status = if to == order.status { "mismatched" } else { "settled" };
                books.transactions.push((order, seen, status));
            }
            Effect::ConfirmSeat | Effect::IssueBooking => {
                if !books.confirmed.iter().any(|known| known.order_id == order.order_id) {
                    books.confirmed.push(order);
                }
            }
            Effect::TakeFreeSeat => {
                if let Some(seat) = seat {
                    books.reseated.push((order, seat));
                }
            }
            Effect::RefundAutomatically => {
                let open = sessions.get(&order.schedule_id).is_some_and(|session| session.open);
                let why = if open { "sold-out" } else { "schedule-closed" };
                let no_seat = (order.status != Status::Cancelled).then_some(why);
                books.refunds.push(LateMoney { order, fen: payment.total_fen, no_seat });
            }
            Effect::OpenCase => {
                outcome = Outcome::Mismatched;
                books.cases.push(Case::mismatch(order, payment, mismatch.unwrap_or("paid_without_code")));
            }
            Effect::Notify(kind) => books.notices.push((order.order_id.clone(), *kind)),
            Effect::HoldSeat | Effect::FreeSeat => {}
        }
    }
    if to != order.status {
        let paid =
            Paid { transaction_id: payment.transaction_id.clone(), at: payment.success_time, fen: payment.total_fen };
        let promised = if effects.contains(&Effect::RefundAutomatically) { payment.total_fen } else { Fen::ZERO };
        let change = Change {
            request_id: Some(seen.request_id.clone()),
            paid: Some(paid),
            promised,
            reason: match &seen.source {
                Source::Offline { operator } => Some(format!("taken offline by {operator}")),
                Source::Callback { .. } | Source::Query => None,
            },
            ..Change::of_status(to, "paid", "worker:payments")
        };
        books.changes.push((order, change));
    }
    Ok(outcome)
}

/// Which of WeChat's facts is not the order's; `None` when all agree.
fn mismatch(merchant: &Merchant, order: &Locked, payment: &Payment) -> Option<&'static str> {
    if payment.total_fen != order.amount_fen {
        Some("amount_mismatch")
    } else if payment.currency != "CNY" {
        Some("currency_mismatch")
    } else if payment.mchid != merchant.mchid {
        Some("mchid_mismatch")
    } else if payment.appid != merchant.appid {
        Some("appid_mismatch")
    } else {
        None
    }
}

type Sessions = HashMap<ScheduleId, hold::Session>;

/// Whether a payment now would find no hold, but may find a seat.
fn may_take_free_seat(order: &Locked) -> bool {
    !order.holds_seat
        && matches!(order.status, Status::Held | Status::AwaitingPayment | Status::Lapsed | Status::Expired)
}

/// Locks the sessions in which seats may be taken anew: all at once, so that two batches never wait for each other
/// crosswise.
async fn lock_sessions_of_the_unseated(
    step: &mut Step<'_>,
    orders: &HashMap<String, Locked>,
) -> Result<Sessions, StoreError> {
    let unseated: BTreeSet<ScheduleId> =
        orders.values().filter(|order| may_take_free_seat(order)).map(|order| order.schedule_id).collect();
    if unseated.is_empty() { Ok(Sessions::new()) } else { hold::lock_sessions(step, &unseated).await }
}

/// For a customer who paid after the hold was gone: their own seat if it is free, else the lowest free one. None of
/// a session that was cancelled or has begun.
async fn take_free_seat(
    step: &mut Step<'_>,
    sessions: &Sessions,
    order: &Locked,
) -> Result<Option<SeatNo>, StoreError> {
    if !may_take_free_seat(order) || !sessions.get(&order.schedule_id).is_some_and(|session| session.open) {
        return Ok(None);
    }
    Ok(sqlx::query_scalar(
        "DELETE FROM free_seats WHERE schedule_id = $1 AND seat_no = coalesce(
             (SELECT seat_no FROM free_seats WHERE schedule_id = $1 AND seat_no = $2),
             (SELECT seat_no FROM free_seats WHERE schedule_id = $1 ORDER BY seat_no LIMIT 1))
         RETURNING seat_no",
    )
    .bind(order.schedule_id)
    .bind(order.seat_no)
    .fetch_optional(&mut *step.transaction)
    .await?)
}

/// A fact for a person, opened once however often it is seen.
struct Case {
    kind: &'static str,
    subject: String,
    order_id: Option<OrderId>,
    money: Fen,
    details: serde_json::Value,
}

impl Case {
    fn unknown_order(payment: &Payment) -> Self {
        Self {
            kind: "unknown_order",
            subject: payment.transaction_id.clone(),
            order_id: None,
            money: payment.total_fen,
            details: json!({ "out_trade_no": payment.out_trade_no }),
        }
    }

    fn mismatch(order: &Locked, payment: &Payment, kind: &'static str) -> Self {
        Self {
            kind,
            subject: payment.transaction_id.clone(),
            order_id: Some(order.order_id.clone()),
            money: payment.total_fen,
            details: json!({
                "ordered_fen": order.amount_fen, "paid_fen": payment.total_fen, "currency": payment.currency,
                "mchid": payment.mchid, "appid": payment.appid,
            }),
        }
    }
}

impl Books<'_> {
    async fn write(self, step: &mut Step<'_>) -> Result<(), StoreError> {
        self.write_reseated(step).await?;
        self.write_confirmed(step).await?;
        self.write_transactions(step).await?;
        order::change(step, &self.changes).await?;
        self.write_refunds(step).await?;
        self.write_cases(step).await?;
        self.write_callbacks(step).await?;
        for kind in Kind::ALL {
            let orders: Vec<OrderId> =
                self.notices.iter().filter(|(_, noted)| *noted == kind).map(|(order, _)| order.clone()).collect();
            notification::intend(step, &orders, kind).await?;
        }
        Ok(())
    }

    async fn write_reseated(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        for (order, seat) in &self.reseated {
            sqlx::query(
                "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status) VALUES ($1, $2, $3, 'confirmed')
                 ON CONFLICT (order_id) DO UPDATE
                    SET seat_no = excluded.seat_no, status = 'confirmed', expires_at = NULL, updated_at = now()",
            )
            .bind(&order.order_id)
            .bind(order.schedule_id)
            .bind(seat)
            .execute(&mut *step.transaction)
            .await?;
        }
        Ok(())
    }

    /// Temporary reservations become the customers' seats, each with its booking.
    async fn write_confirmed(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        if self.confirmed.is_empty() {
            return Ok(());
        }
        let ids: Vec<&OrderId> = self.confirmed.iter().map(|order| &order.order_id).collect();
        let booked = sqlx::query(
            "WITH seat AS (
                 UPDATE seat_reservations SET status = 'confirmed', expires_at = NULL, updated_at = now()
                  WHERE order_id = ANY($1) AND status IN ('temporary', 'confirmed')
              RETURNING reservation_id, order_id, schedule_id, seat_no
             )
             INSERT INTO bookings (order_id, reservation_id, user_id, schedule_id, seat_no)
             SELECT seat.order_id, seat.reservation_id, o.user_id, seat.schedule_id, seat.seat_no
               FROM seat JOIN payment_orders o USING (order_id)",
        )
        .bind(&ids)
        .execute(&mut *step.transaction)
        .await?
        .rows_affected();
        if booked == ids.len() as u64 { Ok(()) } else { Err(StoreError::Conflict(sqlx::Error::RowNotFound)) }
    }

    async fn write_transactions(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        if self.transactions.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Payment) -> String| {
            self.transactions.iter().map(|(_, seen, _)| of(&seen.payment)).collect::<Vec<_>>()
        };
        sqlx::query(
            "INSERT INTO payment_transactions
                    (transaction_id, order_id, status, total_fen, payer_total_fen, currency, trade_type, bank_type, mchid,
                     appid, success_time, learned_by, wechat_request_id)
             SELECT * FROM unnest($1::text[], $2::text[], $3::transaction_status[], $4::bigint[], $5::bigint[], $6::text[],
                     $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::text[])
             ON CONFLICT (transaction_id) DO NOTHING",
        )
        .bind(column(|payment| payment.transaction_id.clone()))
        .bind(self.transactions.iter().map(|(order, ..)| order.order_id.clone()).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(.., status)| *status).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(_, seen, _)| seen.payment.total_fen).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(_, seen, _)| seen.payment.payer_total_fen).collect::<Vec<_>>())
        .bind(column(|payment| payment.currency.clone()))
        .bind(column(|payment| payment.trade_type.clone()))
        .bind(self.transactions.iter().map(|(_, seen, _)| seen.payment.bank_type.clone()).collect::<Vec<_>>())
        .bind(column(|payment| payment.mchid.clone()))
        .bind(column(|payment| payment.appid.clone()))
        .bind(self.transactions.iter().map(|(_, seen, _)| seen.payment.success_time).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(_, seen, _)| learned_by(&seen.source)).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(_, seen, _)| seen.request_id.clone()).collect::<Vec<_>>())
        .execute(&mut *step.transaction)
        .await?;
        Ok(())
    }

    async fn write_refunds(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        for LateMoney { order, fen, no_seat } in &self.refunds {
            let reason = if no_seat.is_some() { "付款时已无座位" } else { "订单已取消" };
            sqlx::query(
                "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, next_check_at)
                 VALUES ($1, $2, 'requested', $3, $4, 'worker:payments', now())
                 ON CONFLICT (refund_id) DO NOTHING",
            )
            .bind(RefundId::automatic(&order.order_id))
            .bind(&order.order_id)
            .bind(fen)
            .bind(reason)
            .execute(&mut *step.transaction)
            .await?;
            if no_seat.is_some() {
                let alternatives = schedule::alternatives(step, &[order.schedule_id]).await?.remove(&order.schedule_id);
                sqlx::query("UPDATE payment_orders SET reason = $2, alternatives = $3 WHERE order_id = $1")
                    .bind(&order.order_id)
                    .bind(no_seat)
                    .bind(Json(alternatives))
                    .execute(&mut *step.transaction)
                    .await?;
            }
        }
        Ok(())
    }

    async fn write_cases(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        for case in &self.cases {
            case::open(step, case.kind, &case.subject, case.order_id.as_ref(), case.money, case.details.clone())
                .await?;
        }
        Ok(())
    }

    async fn write_callbacks(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        if self.callbacks.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO wechat_callbacks (notification_id, event_type, out_trade_no, outcome, request_id)
             SELECT id, 'TRANSACTION.SUCCESS', out_trade_no, outcome, request_id
               FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS t(id, out_trade_no, outcome, request_id)
             ON CONFLICT (notification_id) DO NOTHING",
        )
        .bind(self.callbacks.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>())
        .bind(self.callbacks.iter().map(|(_, seen, _)| seen.payment.out_trade_no.clone()).collect::<Vec<_>>())
        .bind(self.callbacks.iter().map(|(.., outcome)| outcome.as_str()).collect::<Vec<_>>())
        .bind(self.callbacks.iter().map(|(_, seen, _)| seen.request_id.clone()).collect::<Vec<_>>())
        .execute(&mut *step.transaction)
        .await?;
        Ok(())
    }
}

fn learned_by(source: &Source) -> &'static str {
    match source {
        Source::Callback { .. } => "callback",
        Source::Query => "query",
        Source::Offline { .. } => "operator",
    }
}
