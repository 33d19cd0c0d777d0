//! Everything that is stored about what some messages name, in one question per table, for [`crate::domain::prospect`].

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;

use super::{Database, StoreError, payment::Merchant};
use crate::domain::{
    ids::{OrderId, RefundId, ScheduleId, UserId},
    message::Message,
    money::Fen,
    notification::{Kind, NotificationStatus},
    order::Status,
    prospect::{Books, OrderFacts, SessionFacts},
    refund::RefundStatus,
};

/// What these messages name.
#[derive(Default)]
struct Named {
    orders: Vec<OrderId>,
    sessions: Vec<ScheduleId>,
    refunds: Vec<RefundId>,
    /// Payments, and what cases may be about.
    facts: Vec<String>,
    users: Vec<UserId>,
}

impl Named {
    fn by(messages: &[Message]) -> Self {
        let mut named = Self::default();
        for message in messages {
            named.orders.extend(message.order_id());
            match message {
                Message::OrderSubmitted(wish) => named.sessions.push(wish.schedule_id),
                Message::WaitlistChange(change) => {
                    named.sessions.push(change.schedule_id);
                    named.users.push(change.user_id.clone());
                }
                Message::PaymentSeen(seen) => {
                    let payment = &seen.payment;
                    named.facts.push(payment.transaction_id.clone());
                    named.facts.push(format!("{}/{}", payment.transaction_id, payment.out_trade_no));
                }
                Message::OrderPaidOffline(offline) => named.facts.push(format!("offline-{}", offline.receipt)),
                Message::RefundRequested(request) => named.refunds.push(request.refund_id.clone()),
                Message::RefundDue(due) => named.refunds.extend([due.refund_id.clone(), due.refund_id.successor()]),
                Message::RefundSeen(seen) => {
                    named.refunds.extend(RefundId::try_from(seen.facts.out_refund_no.clone()));
                    named.facts.push(seen.facts.out_refund_no.clone());
                }
                Message::OrderHeld(_)
                | Message::OrderAlarm(_)
                | Message::OrderCancel(_)
                | Message::OrderOverride(_)
                | Message::NotificationDue(_) => {}
            }
        }
        named
    }
}

/// The books at one moment, as far as these messages are concerned.
/// `orders`: of what cannot be read as a message.
pub async fn books(
    db: &Database,
    merchant: &Merchant,
    messages: &[Message],
    orders: &[OrderId],
) -> Result<Books, StoreError> {
    let mut named = Named::by(messages);
    named.orders.extend_from_slice(orders);
    let mut tx = db.snapshot().await?;
    let orders = facts_of_orders(&mut tx, &named.orders).await?;
    named.sessions.extend(orders.values().map(|order| order.schedule_id));
    let books = Books {
        mchid: merchant.mchid.clone(),
        appid: merchant.appid.clone(),
        sessions: sessions(&mut tx, &named.sessions).await?,
        refunds: refunds(&mut tx, &named.refunds).await?,
        asked: asked(&mut tx, &named.refunds).await?,
        notifications: notifications(&mut tx, &named.orders).await?,
        transactions: transactions(&mut tx, &named.facts).await?,
        foreign_refunds: names(
            &mut tx,
            "SELECT out_refund_no FROM wechat_refunds WHERE out_refund_no = ANY($1) AND refund_id IS NOT NULL",
            &named.facts,
        )
        .await?,
        cases: names(&mut tx, "SELECT subject FROM cases WHERE subject = ANY($1)", &named.facts).await?,
        waiting: waiting(&mut tx, &named).await?,
        orders,
    };
    tx.rollback().await?;
    Ok(books)
}

#[derive(FromRow)]
struct OrderRow {
    order_id: OrderId,
    user_id: UserId,
    schedule_id: ScheduleId,
    status: Status,
    amount_fen: Fen,
    transaction_id: Option<String>,
    paid_fen: Fen,
    refund_promised_fen: Fen,
    refunded_fen: Fen,
    holds_seat: bool,
    hold_over: bool,
    deadline_over: bool,
    hold_expires_at: Option<OffsetDateTime>,
    pay_before: Option<OffsetDateTime>,
    in_cases_fen: Fen,
}

async fn facts_of_orders(tx: &mut PgConnection, ids: &[OrderId]) -> Result<HashMap<OrderId, OrderFacts>, StoreError> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "SELECT o.order_id, o.user_id, o.schedule_id, o.status, o.amount_fen, o.transaction_id, o.paid_fen,
                o.refund_promised_fen, o.refunded_fen, coalesce(r.status = 'temporary', false) AS holds_seat,
                coalesce(o.hold_expires_at <= now(), false) AS hold_over, coalesce(o.pay_before <= now(), false) AS deadline_over,
                o.hold_expires_at, o.pay_before,
                coalesce((SELECT sum(c.money_fen) FROM cases c WHERE c.order_id = o.order_id AND c.status = 'open'), 0)::bigint
                    AS in_cases_fen
           FROM payment_orders o LEFT JOIN seat_reservations r USING (order_id)
          WHERE o.order_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let facts = rows.into_iter().map(|row| {
        let next_deadline = match row.status {
            Status::Held | Status::AwaitingPayment if !row.hold_over => row.hold_expires_at,
            status if status.is_payable() => row.pay_before,
            _ => None,
        };
        let facts = OrderFacts {
            user_id: row.user_id,
            schedule_id: row.schedule_id,
            status: row.status,
            amount_fen: row.amount_fen,
            transaction_id: row.transaction_id,
            paid_fen: row.paid_fen,
            promised_fen: row.refund_promised_fen,
            refunded_fen: row.refunded_fen,
            holds_seat: row.holds_seat,
            hold_over: row.hold_over,
            deadline_over: row.deadline_over,
            next_deadline,
            in_cases_fen: row.in_cases_fen,
        };
        (row.order_id, facts)
    });
    Ok(facts.collect())
}

async fn sessions(tx: &mut PgConnection, ids: &[ScheduleId]) -> Result<HashMap<ScheduleId, SessionFacts>, StoreError> {
    let rows: Vec<(ScheduleId, bool, Fen, bool)> = sqlx::query_as(
        "SELECT schedule_id, status = 'open' AND starts_at > now(), price_fen,
                EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = s.schedule_id)
           FROM course_schedules s WHERE schedule_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let facts = |(id, open, price_fen, seat_free)| (id, SessionFacts { open, price_fen, seat_free });
    Ok(rows.into_iter().map(facts).collect())
}

async fn refunds(tx: &mut PgConnection, ids: &[RefundId]) -> Result<HashMap<RefundId, RefundStatus>, StoreError> {
    let rows: Vec<(RefundId, RefundStatus)> =
        sqlx::query_as("SELECT refund_id, status FROM refunds WHERE refund_id = ANY($1)")
            .bind(ids)
            .fetch_all(&mut *tx)
            .await?;
    Ok(rows.into_iter().collect())
}

async fn asked(tx: &mut PgConnection, ids: &[RefundId]) -> Result<HashSet<RefundId>, StoreError> {
    let rows: Vec<RefundId> = sqlx::query_scalar(concat!(
        "SELECT refund_id FROM refunds WHERE refund_id = ANY($1) AND ",
        asks_person!("refund_id")
    ))
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn notifications(
    tx: &mut PgConnection,
    orders: &[OrderId],
) -> Result<HashMap<(OrderId, Kind), NotificationStatus>, StoreError> {
    let rows: Vec<(OrderId, Kind, NotificationStatus)> =
        sqlx::query_as("SELECT order_id, kind, status FROM notifications WHERE order_id = ANY($1)")
            .bind(orders)
            .fetch_all(&mut *tx)
            .await?;
    Ok(rows.into_iter().map(|(order, kind, status)| ((order, kind), status)).collect())
}

async fn waiting(tx: &mut PgConnection, named: &Named) -> Result<HashSet<(ScheduleId, UserId)>, StoreError> {
    let rows: Vec<(ScheduleId, UserId)> = sqlx::query_as(
        "SELECT schedule_id, user_id FROM waitlist
          WHERE schedule_id = ANY($1) AND user_id = ANY($2) AND left_at IS NULL AND offered_order_id IS NULL",
    )
    .bind(&named.sessions)
    .bind(&named.users)
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn transactions(tx: &mut PgConnection, numbers: &[String]) -> Result<HashMap<String, OrderId>, StoreError> {
    let rows: Vec<(String, OrderId)> =
        sqlx::query_as("SELECT transaction_id, order_id FROM payment_transactions WHERE transaction_id = ANY($1)")
            .bind(numbers)
            .fetch_all(&mut *tx)
            .await?;
    Ok(rows.into_iter().collect())
}

async fn names(tx: &mut PgConnection, question: &'static str, names: &[String]) -> Result<HashSet<String>, StoreError> {
    let rows: Vec<String> = sqlx::query_scalar(question).bind(names).fetch_all(&mut *tx).await?;
    Ok(rows.into_iter().collect())
}
