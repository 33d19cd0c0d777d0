//! Worker `expiry`, carrying out what operators decided: like a deadline or a cancellation, a decision about an order
//! asks WeChat first, and can be taken from the queue twice.

use uuid::Uuid;

use crate::{
    broker::consume::{Fault, Verdict},
    domain::{
        ids::RefundId,
        message::{Message, OrderOverride, OrderPaidOffline, RefundRequested},
        money::Fen,
        order::{Event, Status},
        overrides::{OverrideAction, OverrideDocument, OverrideStatus, judge},
    },
    store::{self, order::Due, override_effects::UnderLock},
    wechat::{
        answers::{Claim, Class, Inconclusive},
        transaction::Standing,
    },
};

use super::expiry::{Ending, Expiry, Shut, paid, unclear};

/// What came of a decision about an order that is paid: WeChat's word about it is on its way to the worker `payments`,
/// and is asked for again when this message comes again before it is there.
const PAID: &str = "WeChat says it is paid: recorded";

impl Expiry {
    pub(super) async fn carry_out(&self, decided: &OrderOverride) -> Result<Verdict, Fault> {
        let Some(document) = store::overrides::find(self.db.pool(), decided.override_id).await? else {
            let error = format!("there is no override {}", decided.override_id);
            return Ok(Verdict::Park { class: "no_such_override", error });
        };
        let (order, standing) = store::overrides::subject(self.db.pool(), &document).await?;
        if document.outcome.as_deref() == Some(PAID) && order.status != Status::Confirmed {
            // WeChat's word was heard, but may not have come to its worker.
            return self.ask_wechat(&document, &order).await;
        }
        if document.status != OverrideStatus::Approved {
            // Carried out before; what that led to is derived again, in case it was not said then.
            return self.carried_out(&document, &order).await;
        }
        if let Err(why) = judge(document.action, document.amount_fen, standing) {
            // Something else came first.
            self.settle(document.override_id, OverrideStatus::Refused, why).await?;
            return self.carried_out(&document, &order).await;
        }
        match document.action {
            OverrideAction::Confirm => self.ask_wechat(&document, &order).await,
            OverrideAction::Waive => self.waive(&document, &order).await,
            OverrideAction::Release if order.status == Status::Confirmed => self.revoke(&document, &order).await,
            OverrideAction::Release => self.end_for(&document, &order, Event::HoldOver, "released").await,
            OverrideAction::Close => self.end_for(&document, &order, Event::CancelClosed, "closed").await,
            OverrideAction::Refund if standing.left_fen > Fen::ZERO => self.refund(&document, &order).await,
            OverrideAction::Refund => self.give_back(&document, &order).await,
            OverrideAction::RecordPayment => self.record_payment(&document, standing.price_fen).await,
        }
    }

    /// WeChat's signed word settles, whatever became of the order.
    async fn ask_wechat(&self, document: &OverrideDocument, order: &Due) -> Result<Verdict, Fault> {
        match self.standing(order).await {
            Ok(Standing::Paid(payment)) => {
                self.settle(document.override_id, OverrideStatus::Done, PAID).await?;
                Ok(paid(*payment))
            }
            Ok(Standing::Unpaid | Standing::Closed) => self.refuse(document, order, "WeChat says it is not paid").await,
            Ok(Standing::Unclear(why)) => Ok(unclear(why)),
            Err(Inconclusive { class: Class::Claimed(Claim::Absent), .. }) => {
                self.refuse(document, order, "WeChat has no such order").await
            }
            Err(doubt) => self.again(&doubt),
        }
    }

    async fn waive(&self, document: &OverrideDocument, order: &Due) -> Result<Verdict, Fault> {
        // Also an order that was given up: a late payment would meet the waiver.
        match self.shut(order).await {
            Shut::Closed => {}
            Shut::Paid(payment) => {
                self.settle(document.override_id, OverrideStatus::Refused, PAID).await?;
                return Ok(paid(*payment));
            }
            Shut::Open(verdict) => return verdict,
        }
        let mut step = self.db.begin("override.waive").await?;
        let (to, outcome) = match store::override_effects::lock(&mut step, document).await? {
            UnderLock::Settled => return self.carried_out(document, order).await,
            UnderLock::Overtaken(why) => (OverrideStatus::Refused, why),
            UnderLock::Stands(locked) => {
                if store::override_effects::waive(&mut step, &locked, document).await? {
                    (OverrideStatus::Done, "the seat is theirs; nobody took money")
                } else {
                    (OverrideStatus::Refused, "no seat can be given")
                }
            }
        };
        store::overrides::settle(&mut step, document.override_id, to, outcome).await?;
        step.commit().await?;
        self.carried_out(document, order).await
    }

    async fn revoke(&self, document: &OverrideDocument, order: &Due) -> Result<Verdict, Fault> {
        let mut step = self.db.begin("override.revoke").await?;
        let (to, outcome) = match store::override_effects::lock(&mut step, document).await? {
            UnderLock::Settled => return self.carried_out(document, order).await,
            UnderLock::Overtaken(why) => (OverrideStatus::Refused, why),
            UnderLock::Stands(locked) => {
                store::override_effects::revoke(&mut step, &locked, document, &self.terms).await?;
                (OverrideStatus::Done, "the seat is free again")
            }
        };
        store::overrides::settle(&mut step, document.override_id, to, outcome).await?;
        step.commit().await?;
        self.carried_out(document, order).await
    }

    /// Ends a hold or the order as a deadline or the customer would: WeChat is asked, or closes it, first.
    async fn end_for(
        &self,
        document: &OverrideDocument,
        order: &Due,
        event: Event,
        name: &'static str,
    ) -> Result<Verdict, Fault> {
        let by = document.decided_by.as_ref().unwrap_or(&document.proposed_by);
        let ending = Ending {
            event,
            name,
            actor: format!("operator:{by}").into(),
            reason: Some(document.reason.clone()),
            request_id: None,
            of_override: Some(document.clone()),
        };
        let verdict =
            if event == Event::HoldOver { self.lapse(order, ending).await? } else { self.close(order, ending).await? };
        if let Verdict::Done(_) = &verdict {
            // Done was said with the deed; else WeChat's word about a payment is on its way to its worker.
            self.settle(document.override_id, OverrideStatus::Refused, PAID).await?;
        }
        Ok(verdict)
    }

    async fn refund(&self, document: &OverrideDocument, order: &Due) -> Result<Verdict, Fault> {
        let refund_id = RefundId::of_override(&order.order_id, document.override_id);
        self.settle(document.override_id, OverrideStatus::Done, &format!("asked for: refund {refund_id}")).await?;
        self.carried_out(document, order).await
    }

    async fn give_back(&self, document: &OverrideDocument, order: &Due) -> Result<Verdict, Fault> {
        let mut step = self.db.begin("override.give_back").await?;
        let locked = match store::override_effects::lock(&mut step, document).await? {
            UnderLock::Settled => return self.carried_out(document, order).await,
            UnderLock::Overtaken(why) => {
                store::overrides::settle(&mut step, document.override_id, OverrideStatus::Refused, why).await?;
                step.commit().await?;
                return self.carried_out(document, order).await;
            }
            UnderLock::Stands(locked) => locked,
        };
        match store::override_effects::give_back(&mut step, &locked, document, &self.terms).await? {
            Some(refund_id) => {
                let outcome = format!("asked for: refund {refund_id}");
                store::overrides::settle(&mut step, document.override_id, OverrideStatus::Done, &outcome).await?;
                step.commit().await?;
                self.carried_out(document, order).await
            }
            None => {
                drop(step);
                self.refuse(document, order, "more than one payment was set aside: settle them by hand").await
            }
        }
    }

    async fn record_payment(&self, document: &OverrideDocument, price: Fen) -> Result<Verdict, Fault> {
        let offline = offline(document, price);
        let verdict = self.take_offline(&offline).await?;
        if let Verdict::Done(_) = &verdict {
            let outcome = format!("recorded as offline-{}", offline.receipt);
            self.settle(document.override_id, OverrideStatus::Done, &outcome).await?;
        }
        Ok(verdict)
    }

    async fn refuse(&self, document: &OverrideDocument, order: &Due, why: &str) -> Result<Verdict, Fault> {
        self.settle(document.override_id, OverrideStatus::Refused, why).await?;
        self.carried_out(document, order).await
    }

    async fn settle(&self, id: Uuid, to: OverrideStatus, outcome: &str) -> Result<(), Fault> {
        let mut step = self.db.begin("override.settle").await?;
        store::overrides::settle(&mut step, id, to, outcome).await?;
        step.commit().await?;
        Ok(())
    }

    /// What follows from an override that is in the books as settled, from what is stored: the same after a crash.
    async fn carried_out(&self, document: &OverrideDocument, order: &Due) -> Result<Verdict, Fault> {
        let mut messages = self.follow_ups(order).await?;
        let now = store::overrides::find(self.db.pool(), document.override_id).await?;
        if now.is_some_and(|now| now.status == OverrideStatus::Done) {
            let by = document.decided_by.as_ref().unwrap_or(&document.proposed_by);
            match document.action {
                OverrideAction::Refund => {
                    let refund_id = RefundId::of_override(&order.order_id, document.override_id);
                    // In the books already when it was set-aside money: then the request only carries it on.
                    messages.push(Message::RefundRequested(RefundRequested {
                        refund_id,
                        order_id: order.order_id.clone(),
                        amount_fen: document.amount_fen,
                        reason: document.reason.clone(),
                        requested_by: format!("operator:{by}"),
                        requested_at: None,
                        request_id: document.override_id.to_string(),
                    }));
                }
                OverrideAction::RecordPayment => {
                    messages.push(Message::OrderPaidOffline(offline(document, document.money_fen)));
                }
                OverrideAction::Confirm | OverrideAction::Waive | OverrideAction::Release | OverrideAction::Close => {}
            }
        }
        Ok(Verdict::Done(messages))
    }
}

fn offline(document: &OverrideDocument, price: Fen) -> OrderPaidOffline {
    OrderPaidOffline {
        order_id: document.order_id.clone(),
        receipt: document.receipt.clone().unwrap_or_else(|| document.override_id.simple().to_string()),
        operator: document.decided_by.clone().unwrap_or_else(|| document.proposed_by.clone()),
        reason: Some(document.reason.clone()),
        amount_fen: document.amount_fen.unwrap_or(price),
        paid_at: document.proposed_at,
        request_id: document.override_id.to_string(),
    }
}
