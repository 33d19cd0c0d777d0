//! WeChat's word now about what a letter names, when an operator wants it. Nothing is concluded from it here.

use super::{DeadLetters, Failed, Refusal, document::WechatWord, look};
use crate::{
    domain::{ids::OrderId, message::Message, money::Fen},
    wechat::{answers::Inconclusive, exchange::PayClient},
};

impl DeadLetters {
    /// Asks WeChat about the refund that the letter names, else about its order.
    ///
    /// # Errors
    /// There is no such letter, or it names neither; PostgreSQL is away. WeChat's silence is an answer: a doubt.
    pub async fn ask_wechat(&self, id: &str, wechat: &PayClient) -> Result<WechatWord, Failed> {
        let row = self.find(id).await?;
        let refund = match look::read(&row) {
            Ok(Message::RefundRequested(request)) => Some(request.refund_id.to_string()),
            Ok(Message::RefundDue(due)) => Some(due.refund_id.to_string()),
            Ok(Message::RefundSeen(seen)) => Some(seen.facts.out_refund_no),
            _ => None,
        };
        let order = row.order_id.and_then(|id| OrderId::try_from(id).ok());
        match (refund, order) {
            (Some(number), _) => Ok(of_refund(number, wechat).await),
            (None, Some(order)) => Ok(of_order(order.into(), wechat).await),
            (None, None) => Err(Refusal::NothingToAsk(id.to_owned()).into()),
        }
    }
}

async fn of_order(number: String, wechat: &PayClient) -> WechatWord {
    match wechat.query_order(&number).await {
        Ok(transaction) => WechatWord {
            asked: "order",
            number,
            state: Some(transaction.trade_state.as_str().to_owned()),
            transaction_id: transaction.transaction_id,
            total_fen: transaction.amount.and_then(|amount| amount.total).map(Fen),
            doubt: None,
        },
        Err(doubt) => doubtful("order", number, &doubt),
    }
}

async fn of_refund(number: String, wechat: &PayClient) -> WechatWord {
    match wechat.query_refund(&number).await {
        Ok(refund) => WechatWord {
            asked: "refund",
            number,
            state: Some(refund.status.as_str().to_owned()),
            transaction_id: Some(refund.transaction_id),
            total_fen: Some(Fen(refund.amount.refund)),
            doubt: None,
        },
        Err(doubt) => doubtful("refund", number, &doubt),
    }
}

fn doubtful(asked: &'static str, number: String, doubt: &Inconclusive) -> WechatWord {
    WechatWord { asked, number, state: None, transaction_id: None, total_fen: None, doubt: Some(doubt.to_string()) }
}
