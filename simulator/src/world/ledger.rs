//! The simulator's own book: everything it ever performed, to be compared with a merchant's.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{World, china};

impl World {
    /// `{orders, payments, refunds, messages}`, each in the order in which things happened.
    pub(crate) fn ledger(&self, now: OffsetDateTime) -> Value {
        let mut orders: Vec<_> = self.orders.values().collect();
        orders.sort_unstable_by_key(|order| order.number);
        let mut paid: Vec<_> = orders.iter().filter_map(|order| Some((order, order.payment.as_ref()?))).collect();
        paid.sort_by_key(|(_, payment)| payment.paid_at);
        let mut refunds: Vec<_> = self.refunds.values().collect();
        refunds.sort_unstable_by_key(|refund| refund.number);

        let orders: Vec<_> = orders
            .iter()
            .map(|order| {
                json!({
                    "out_trade_no": order.out_trade_no,
                    "trade_type": order.trade_type.as_str(),
                    "trade_state": order.state(now).as_str(),
                    "total": order.total,
                    "currency": "CNY",
                    "description": order.text("/description"),
                    "created_at": china(order.created_at),
                    "pay_before": china(order.pay_before),
                })
            })
            .collect();
        let payments: Vec<_> = paid
            .iter()
            .map(|(order, payment)| {
                json!({
                    "out_trade_no": order.out_trade_no,
                    "transaction_id": payment.transaction_id,
                    "total": order.total,
                    "openid": payment.openid,
                    "paid_at": china(payment.paid_at),
                })
            })
            .collect();
        let refunds: Vec<_> = refunds
            .iter()
            .map(|refund| {
                json!({
                    "out_refund_no": refund.out_refund_no,
                    "refund_id": refund.refund_id,
                    "out_trade_no": refund.out_trade_no,
                    "transaction_id": refund.transaction_id,
                    "refund": refund.refund,
                    "status": refund.status.as_str(),
                })
            })
            .collect();
        let messages: Vec<_> = self
            .account
            .messages
            .iter()
            .map(|message| {
                json!({
                    "msgid": message.msgid,
                    "touser": message.touser,
                    "template_id": message.template_id,
                    "client_msg_id": message.client_msg_id,
                    "url": message.url,
                    "data": message.data,
                    "sent_at": china(message.sent_at),
                })
            })
            .collect();
        json!({"orders": orders, "payments": payments, "refunds": refunds, "messages": messages})
    }
}
