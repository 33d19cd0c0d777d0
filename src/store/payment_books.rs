//! What a batch of payments writes, gathered first and written in sets: transactions, seats, bookings, refunds, cases.

use serde_json::json;
use sqlx::types::Json;

use super::{
    Step, StoreError, case, notification,
    order::{self, Change, Locked},
    payment::paid_at,
    refund, schedule,
};
use crate::domain::{
    case::CaseKind,
    ids::{OrderId, RefundId},
    message::{Payment, PaymentSeen, Source},
    money::Fen,
    notification::Kind,
};

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

/// Everything a batch writes, gathered to be written in sets.
#[derive(Default)]
pub(super) struct Books<'a> {
    transactions: Vec<(&'a Locked, &'a PaymentSeen, &'static str)>,
    pub(super) changes: Vec<(&'a Locked, Change)>,
    pub(super) confirmed: Vec<&'a Locked>,
    pub(super) refunds: Vec<LateMoney<'a>>,
    pub(super) notices: Vec<(OrderId, Kind)>,
    pub(super) cases: Vec<Case>,
    pub(super) callbacks: Vec<(String, &'a PaymentSeen, Outcome)>,
}

/// Money that came too late for a seat: all of it goes back.
pub(super) struct LateMoney<'a> {
    pub(super) order: &'a Locked,
    pub(super) fen: Fen,
    /// Why there is no seat, as the customer's document says it; `None` when they had cancelled.
    pub(super) no_seat: Option<&'static str>,
}

/// A fact for a person, opened once however often it is seen.
pub(super) struct Case {
    kind: CaseKind,
    subject: String,
    order_id: Option<OrderId>,
    money: Fen,
    details: serde_json::Value,
}

impl Case {
    pub(super) fn unknown_order(payment: &Payment) -> Self {
        Self {
            kind: CaseKind::UnknownOrder,
            subject: payment.transaction_id.clone(),
            order_id: None,
            money: payment.total_fen,
            details: json!({ "out_trade_no": payment.out_trade_no }),
        }
    }

    pub(super) fn mismatch(order: &Locked, payment: &Payment, kind: CaseKind) -> Self {
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

impl Case {
    /// The payment is recorded for `owner` already.
    pub(super) fn of_two_orders(order: &Locked, payment: &Payment, owner: &OrderId) -> Self {
        Self {
            kind: CaseKind::TransactionOfTwoOrders,
            subject: format!("{}/{}", payment.transaction_id, order.order_id),
            order_id: Some(order.order_id.clone()),
            money: payment.total_fen,
            details: json!({
                "transaction_id": payment.transaction_id, "recorded_for": owner, "reported_for": order.order_id,
                "total_fen": payment.total_fen,
            }),
        }
    }

    /// WeChat reports that money of the payment was given back, and not how much.
    pub(super) fn refund_at_wechat(order: &Locked, payment: &Payment) -> Self {
        Self {
            kind: CaseKind::RefundAtWechat,
            subject: payment.transaction_id.clone(),
            order_id: Some(order.order_id.clone()),
            money: payment.total_fen,
            details: json!({ "total_fen": payment.total_fen }),
        }
    }
}

impl<'a> Books<'a> {
    /// What settles stands above what does not, should one batch say both of a transaction.
    pub(super) fn note_transaction(&mut self, order: &'a Locked, seen: &'a PaymentSeen, status: &'static str) {
        let known =
            |(_, earlier, _): &(_, &PaymentSeen, _)| earlier.payment.transaction_id == seen.payment.transaction_id;
        match self.transactions.iter().position(known) {
            Some(place) if status == "settled" => self.transactions[place] = (order, seen, status),
            Some(_) => {}
            None => self.transactions.push((order, seen, status)),
        }
    }

    pub(super) async fn write(self, step: &mut Step<'_>) -> Result<(), StoreError> {
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

    /// Temporary reservations become the customers' seats, each with its booking.
    async fn write_confirmed(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        if self.confirmed.is_empty() {
            return Ok(());
        }
        let ids: Vec<&OrderId> = self.confirmed.iter().map(|order| &order.order_id).collect();
        let booked = sqlx::query(
            "WITH seat AS (
                 -- That the session sold out by a hold was said when it was held; only a seat taken just now says it here.
                 UPDATE seat_reservations
                    SET status = 'confirmed', expires_at = NULL, took_last = took_last AND status = 'confirmed', updated_at = now()
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
             SELECT transaction_id, order_id, status, total_fen, payer_total_fen, currency, trade_type, bank_type, mchid,
                    appid, success_time, learned_by, wechat_request_id
               FROM unnest($1::text[], $2::text[], $3::transaction_status[], $4::bigint[], $5::bigint[], $6::text[],
                     $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::text[])
                 AS t(transaction_id, order_id, status, total_fen, payer_total_fen, currency, trade_type, bank_type, mchid,
                      appid, success_time, learned_by, wechat_request_id)
             ON CONFLICT (transaction_id) DO UPDATE
                SET status = excluded.status, total_fen = excluded.total_fen, payer_total_fen = excluded.payer_total_fen,
                    currency = excluded.currency, mchid = excluded.mchid, appid = excluded.appid,
                    success_time = excluded.success_time, learned_by = excluded.learned_by,
                    wechat_request_id = excluded.wechat_request_id
              WHERE payment_transactions.status = 'mismatched' AND excluded.status = 'settled'",
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
        .bind(self.transactions.iter().map(|(_, seen, _)| paid_at(&seen.payment, step.now)).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(_, seen, _)| learned_by(&seen.source)).collect::<Vec<_>>())
        .bind(self.transactions.iter().map(|(_, seen, _)| seen.request_id.clone()).collect::<Vec<_>>())
        .execute(&mut *step.transaction)
        .await?;
        Ok(())
    }

    async fn write_refunds(&self, step: &mut Step<'_>) -> Result<(), StoreError> {
        for LateMoney { order, fen, no_seat } in &self.refunds {
            let reason = if no_seat.is_some() { "付款时已无座位" } else { "订单已取消" };
            let refund_id = RefundId::automatic(&order.order_id);
            refund::owe(step, &order.order_id, &refund_id, *fen, reason, "worker:payments").await?;
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
