//! Worker `prepay`: gives a held order its WeChat code.
//!
//! Consumes   order.held                   from queue `prepay`
//! Changes    payment_orders
//! Emits      payment.seen, when WeChat says that the order is paid already
//! Calls      WeChat: create order, query, close
//! Retries    when WeChat's answer is unknown or "slow down"; never on a refusal
//! Safe twice because WeChat treats the same number with the same content as the same order

use std::{collections::HashMap, sync::Arc};

use crate::{
    broker::consume::{Fault, Handler, Received, Shape, Verdict},
    cache::Cache,
    domain::{
        ids::OrderId,
        message::{Message, Openid, OrderHeld, PaymentSeen, Source},
        order::{Channel, Event, Status, Step, step},
        retry,
    },
    store::{
        self, Database, StoreError,
        order::{Change, Code, Unpriced},
        sealed::PersonalKeys,
    },
    wechat::{
        answers::{Claim, Class, Inconclusive},
        exchange::PayClient,
        pay::{CodeUrl, NewOrder, OrderClosed},
        transaction::Standing,
    },
};

use super::{
    barred,
    together::{InSets, Together},
};

pub struct Prepay {
    db: Database,
    cache: Cache,
    wechat: Arc<PayClient>,
    personal: Arc<PersonalKeys>,
    orders: Together<Orders>,
    codes: Together<Codes>,
}

impl Handler for Prepay {
    type Message = OrderHeld;
    const NAME: &'static str = "prepay";
    const SHAPE: Shape = Shape { batch: 1, concurrent: 64 };

    async fn handle(&self, batch: &[Received<OrderHeld>]) -> Result<Vec<Verdict>, Fault> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for received in batch {
            verdicts.push(self.give_code(&received.message.order_id).await?);
        }
        Ok(verdicts)
    }
}

impl Prepay {
    pub fn new(db: Database, cache: Cache, wechat: Arc<PayClient>, personal: Arc<PersonalKeys>) -> Self {
        let orders = Together::start(Orders(db.clone()));
        let codes = Together::start(Codes { db: db.clone(), cache: cache.clone() });
        Self { db, cache, wechat, personal, orders, codes }
    }

    async fn give_code(&self, id: &OrderId) -> Result<Verdict, Fault> {
        let Some(order) = self.orders.ask(id.clone()).await? else {
            return Ok(Verdict::Park { class: "no_such_order", error: format!("{id} is not in the books") });
        };
        if is_given_up(order.status) {
            return self.close(id).await;
        }
        if order.status == Status::AwaitingPayment {
            // Who stored the code may have died before the customer's page heard of it.
            let snapshots = store::order::snapshots(self.db.pool(), std::slice::from_ref(id)).await?;
            super::tell_cache(&self.cache, &snapshots, &[]).await;
        }
        // A code that exists, or an order that is settled or too late: nothing to ask WeChat for.
        if order.status != Status::Held || !order.in_time {
            return Ok(Verdict::Done(Vec::new()));
        }
        let made = match order.channel {
            Channel::Native => self.order_natively(&order).await,
            Channel::Jsapi => match order.openid(&self.personal) {
                Ok(Some(openid)) => self.order_inside_wechat(&order, &openid).await,
                Ok(None) => {
                    return Ok(Verdict::Park {
                        class: "no_openid",
                        error: format!("{id} is to be paid inside WeChat"),
                    });
                }
                // While keys are changed another process may know the new one a moment sooner.
                Err(closed) => {
                    return Ok(Verdict::Retry { class: retry::Class::Early, error: format!("the openid {closed}") });
                }
            },
        };
        match made {
            Ok(code) => match self.codes.ask((id.clone(), code)).await? {
                // A code that must not be paid any more: given up, or waived, while WeChat made it.
                Some(status) if !status.is_payable() => self.close(id).await,
                _ => Ok(Verdict::Done(Vec::new())),
            },
            Err(doubt) => self.settle(id, doubt).await,
        }
    }

    async fn order_natively(&self, order: &Unpriced) -> Result<Code, Inconclusive> {
        let description = description(order);
        let CodeUrl(code_url) = self.wechat.create_native_order(&new_order(order, &description)).await?;
        Ok(Code::Native(code_url))
    }

    async fn order_inside_wechat(&self, order: &Unpriced, openid: &Openid) -> Result<Code, Inconclusive> {
        let description = description(order);
        let prepay_id = self.wechat.create_jsapi_order(&new_order(order, &description), &openid.0).await?;
        let invocation = self.wechat.jsapi_invocation(&prepay_id);
        let invocation = serde_json::to_value(invocation).expect("six texts");
        Ok(Code::Jsapi { prepay_id: prepay_id.0, invocation })
    }

    /// Given up while our request was on its way: closing a number that WeChat did not know yet has closed nothing.
    async fn close(&self, id: &OrderId) -> Result<Verdict, Fault> {
        match self.wechat.close_order(id.as_str()).await {
            Err(doubt @ Inconclusive { class: Class::Unknown, .. }) => {
                Ok(Verdict::Retry { class: retry::Class::Unknown, error: doubt.to_string() })
            }
            Err(doubt @ Inconclusive { class: Class::Busy, .. }) => {
                Ok(Verdict::Retry { class: retry::Class::Busy, error: doubt.to_string() })
            }
            Err(doubt @ Inconclusive { class: Class::Misconfigured, .. }) => Err(barred(&self.wechat, &doubt)),
            // A customer who can pay it all the same gets the money back.
            Ok(OrderClosed) | Err(Inconclusive { class: Class::Claimed(_) | Class::Refused, .. }) => {
                Ok(Verdict::Done(Vec::new()))
            }
        }
    }

    /// WeChat did not give a code: what its words allow us to do.
    async fn settle(&self, id: &OrderId, doubt: Inconclusive) -> Result<Verdict, Fault> {
        Ok(match doubt.class {
            Class::Unknown => Verdict::Retry { class: retry::Class::Unknown, error: doubt.to_string() },
            Class::Busy => Verdict::Retry { class: retry::Class::Busy, error: doubt.to_string() },
            Class::Claimed(Claim::Paid | Claim::Closed | Claim::Conflict | Claim::Absent) => {
                self.ask(id, doubt).await?
            }
            Class::Claimed(Claim::NotEnough | Claim::PayerAccountAbnormal) | Class::Refused => {
                Verdict::Park { class: "wechat_refused", error: doubt.to_string() }
            }
            Class::Misconfigured => return Err(barred(&self.wechat, &doubt)),
        })
    }

    /// An unsigned error claims something about the order; the signed query tells what is true.
    async fn ask(&self, id: &OrderId, doubt: Inconclusive) -> Result<Verdict, Fault> {
        Ok(match self.wechat.query_order(id.as_str()).await.map(|transaction| transaction.standing()) {
            Ok(Standing::Paid(payment)) => Verdict::Done(vec![Message::PaymentSeen(PaymentSeen {
                payment: *payment,
                source: Source::Query,
                request_id: doubt.request_id.unwrap_or_default(),
            })]),
            Ok(Standing::Unpaid | Standing::Closed | Standing::Unclear(_)) => self.accept(id, &doubt).await?,
            Err(doubt @ Inconclusive { class: Class::Misconfigured, .. }) => return Err(barred(&self.wechat, &doubt)),
            Err(error) => Verdict::Retry { class: retry::Class::Unknown, error: error.to_string() },
        })
    }

    /// This number will never get a code from us: it stands as somebody else made it, or was closed. That is for a
    /// person, unless the order's time ran out while we asked; then WeChat only says what we know.
    async fn accept(&self, id: &OrderId, doubt: &Inconclusive) -> Result<Verdict, Fault> {
        Ok(match self.orders.ask(id.clone()).await? {
            Some(order) if is_given_up(order.status) => self.close(id).await?,
            Some(order) if order.status == Status::Held && order.in_time => {
                Verdict::Park { class: "wechat_refused", error: doubt.to_string() }
            }
            _ => Verdict::Done(Vec::new()),
        })
    }
}

/// Orders as they are stored; `None` for one that is not in the books.
struct Orders(Database);

impl InSets for Orders {
    type Question = OrderId;
    type Answer = Option<Unpriced>;

    async fn ask(&self, set: &[OrderId]) -> Result<Vec<Option<Unpriced>>, StoreError> {
        let found = store::order::for_prepay(self.0.pool(), set).await?;
        let found: HashMap<&OrderId, &Unpriced> = found.iter().map(|order| (&order.order_id, order)).collect();
        Ok(set.iter().map(|id| found.get(id).copied().cloned()).collect())
    }
}

/// Stores codes with those orders that still wait for one; says where each order is now.
struct Codes {
    db: Database,
    cache: Cache,
}

impl InSets for Codes {
    type Question = (OrderId, Code);
    type Answer = Option<Status>;

    async fn ask(&self, set: &[(OrderId, Code)]) -> Result<Vec<Option<Status>>, StoreError> {
        // Two copies of one message may meet here; WeChat gave both the same code.
        let codes: HashMap<&OrderId, &Code> = set.iter().map(|(id, code)| (id, code)).collect();
        let ids: Vec<OrderId> = codes.keys().copied().cloned().collect();
        let mut tx = self.db.begin("prepay.record").await?;
        let locked = store::order::lock(&mut tx, &ids).await?;
        let coded = locked.iter().filter_map(|order| match step(order.status, Event::CodeIssued) {
            Step::Move { to, .. } => {
                let code = Some(codes[&order.order_id].clone());
                Some((order, Change { code, ..Change::of_status(to, "code_issued", "worker:prepay") }))
            }
            Step::Stay { .. } | Step::AlreadyDone | Step::Irrelevant => None,
        });
        store::order::change(&mut tx, &coded.collect::<Vec<_>>()).await?;
        let snapshots = store::order::snapshots(&mut *tx.transaction, &ids).await?;
        tx.commit().await?;
        super::tell_cache(&self.cache, &snapshots, &[]).await;
        let status: HashMap<&OrderId, Status> =
            snapshots.iter().map(|snapshot| (&snapshot.document.order_id, snapshot.document.status)).collect();
        Ok(set.iter().map(|(id, _)| status.get(id).copied()).collect())
    }
}

fn is_given_up(status: Status) -> bool {
    matches!(status, Status::Cancelled | Status::Expired)
}

fn description(order: &Unpriced) -> String {
    let seat = order.seat_no.map(|seat| format!(" {seat}号座")).unwrap_or_default();
    format!("{}{seat}", order.course)
}

/// Every member comes from what is stored: WeChat takes the same number only with the same content.
fn new_order<'a>(order: &'a Unpriced, description: &'a str) -> NewOrder<'a> {
    NewOrder {
        out_trade_no: order.order_id.as_str(),
        description,
        total_fen: order.amount_fen.0,
        time_expire: order.pay_before.unwrap_or(order.starts_at),
    }
}
