//! Worker `payments`: turns a payment that WeChat told of into a seat, a refund or a case.
//!
//! Consumes   payment.seen                 from queue `payments`, in batches
//! Changes    payment_transactions, payment_orders, seat_reservations, bookings, refunds, cases, wechat_callbacks, notifications
//! Emits      notification.due, refund.due, refund.seen, order.alarm (sold_out)
//! Calls      nobody: the facts in the message are WeChat's signed word
//! Retries    while PostgreSQL is away, with the batch in hand
//! Safe twice because a transaction id is recorded once

use std::collections::HashMap;

use crate::{
    broker::consume::{Fault, Handler, Received, Shape, Verdict},
    cache::Cache,
    domain::{
        ids::{OrderId, ScheduleId},
        message::{Message, PaymentSeen, RefundDue, RefundSeen, Source},
    },
    store::{self, Database, payment::Merchant},
};

pub struct Payments {
    pub db: Database,
    pub cache: Cache,
    pub merchant: Merchant,
}

impl Handler for Payments {
    type Message = PaymentSeen;
    const NAME: &'static str = "payments";
    const SHAPE: Shape = Shape { batch: 128, concurrent: 1 };

    async fn handle(&self, batch: &[Received<PaymentSeen>]) -> Result<Vec<Verdict>, Fault> {
        let seen: Vec<&PaymentSeen> = batch.iter().map(|received| &received.message).collect();
        let mut step = self.db.begin("payments.record").await?;
        let outcomes = store::payment::record(&mut step, &self.merchant, &seen).await?;
        step.commit().await?;
        for (seen, outcome) in seen.iter().zip(&outcomes) {
            let (payment, outcome) = (&seen.payment, outcome.as_str());
            metrics::counter!("payments_total", "outcome" => outcome).increment(1);
            let (order_id, transaction_id) = (&payment.out_trade_no, &payment.transaction_id);
            tracing::info!(order_id, transaction_id, outcome, "payment recorded");
        }

        let ids: Vec<OrderId> =
            seen.iter().filter_map(|seen| OrderId::try_from(seen.payment.out_trade_no.clone()).ok()).collect();
        let snapshots = store::order::snapshots(self.db.pool(), &ids).await?;
        let schedules: Vec<ScheduleId> = snapshots.iter().map(|snapshot| snapshot.document.schedule_id).collect();
        super::tell_cache(&self.cache, &snapshots, &schedules).await;

        let mut follow_ups: HashMap<String, Vec<Message>> = HashMap::new();
        for (order, notice) in super::notifications_due(&self.db, &ids).await? {
            follow_ups.entry(order.into()).or_default().push(notice);
        }
        for (order, refund_id) in store::refund::requested(self.db.pool(), &ids).await? {
            follow_ups.entry(order.into()).or_default().push(Message::RefundDue(RefundDue { refund_id }));
        }
        // Money of it that went back before the payment was known counts now.
        for (order, facts) in store::refund_foreign::waiting(self.db.pool(), &ids).await? {
            let seen = RefundSeen { facts, source: Source::Query, request_id: String::new(), taken_in: None };
            follow_ups.entry(order.into()).or_default().push(Message::RefundSeen(seen));
        }
        // A late payment may have taken the last seat.
        let mut of_sessions = super::sold_out_alarms(&self.db, &ids).await?;
        Ok(seen
            .iter()
            .map(|seen| {
                let mut messages = std::mem::take(&mut of_sessions);
                messages.extend(follow_ups.remove(&seen.payment.out_trade_no).unwrap_or_default());
                Verdict::Done(messages)
            })
            .collect())
    }
}
