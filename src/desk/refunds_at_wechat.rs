//! Taking a refund into the books that WeChat made without us: staff refunded in the merchant platform.

use crate::{
    broker::{PublishError, Publisher},
    domain::{
        ids::OrderId,
        message::{Message, RefundSeen, Source, TakenIn},
        money::Fen,
        refund::RefundStanding,
    },
    store::{self, Database, StoreError},
    wechat::{
        answers::{Claim, Class, Inconclusive},
        exchange::PayClient,
    },
};

/// Longest number of a refund, in characters.
pub const NUMBER_MAX: usize = 64;

/// A number as the merchant platform shows it: 1 to 64 visible ASCII characters.
///
/// # Errors
/// The text is no such number.
pub fn number(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let fits = (1..=NUMBER_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 64 visible ASCII characters") }
}

/// What WeChat reported, on its way into the books.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct RefundAtWechat {
    #[schema(value_type = String)]
    pub order_id: OrderId,
    pub out_refund_no: String,
    #[schema(value_type = i64, example = 5000)]
    pub refund_fen: Fen,
    pub standing: RefundStanding,
}

/// Why nothing was taken in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such order in the books")]
    NoSuchOrder,
    #[error("WeChat has no refund under this number")]
    NotAtWechat,
    #[error("WeChat has it for another order: {0}")]
    OtherOrder(String),
    #[error("WeChat's answer is not understood")]
    Unclear,
    #[error("WeChat did not answer: {0}")]
    Doubt(Inconclusive),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Asks WeChat about a refund and hands its signed answer to the worker `refunds`, with the operator's name and reason.
/// Repeated it changes nothing.
///
/// # Errors
/// No such order; WeChat does not know the number, has it for another order, or does not answer; a server is away.
pub async fn take_in(
    db: &Database,
    wechat: &PayClient,
    publisher: &Publisher,
    order: &OrderId,
    out_refund_no: &str,
    taken_in: TakenIn,
) -> Result<RefundAtWechat, Refusal> {
    if store::order::snapshot(db.pool(), order).await?.is_none() {
        return Err(Refusal::NoSuchOrder);
    }
    let refund = match wechat.query_refund(out_refund_no).await {
        Ok(refund) => refund,
        Err(Inconclusive { class: Class::Claimed(Claim::Absent) | Class::Refused, .. }) => {
            return Err(Refusal::NotAtWechat);
        }
        Err(doubt) => return Err(Refusal::Doubt(doubt)),
    };
    let facts = refund.facts().ok_or(Refusal::Unclear)?;
    if facts.out_trade_no != order.as_str() {
        return Err(Refusal::OtherOrder(facts.out_trade_no));
    }
    let document = RefundAtWechat {
        order_id: order.clone(),
        out_refund_no: facts.out_refund_no.clone(),
        refund_fen: facts.refund_fen,
        standing: facts.standing,
    };
    let seen = RefundSeen { facts, source: Source::Query, request_id: String::new(), taken_in: Some(taken_in) };
    publisher.publish(&Message::RefundSeen(seen)).await?;
    Ok(document)
}
