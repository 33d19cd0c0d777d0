//! Worker `refunds`: gives money back, once, whatever crashes or gets lost in between.
//!
//! Consumes   refund.requested, refund.due, refund.seen   from queue `refunds`
//! Changes    refunds, payment_orders, seat_reservations, bookings, free_seats, waitlist, cases, notifications
//! Emits      refund.due, payment.seen, order.held and order.alarm (of offers to the waiting list), notification.due
//! Calls      WeChat: refund, query of a refund, query of an order whose money went back before it was known as paid
//! Retries    per class of answer, always with the same out_refund_no; a new number only after WeChat closed one
//! Safe twice because WeChat refunds one number at most once, and our books move only on its signed word

use std::{sync::Arc, time::Duration};

use crate::{
    broker::consume::{Fault, Handler, Received, Shape, Verdict},
    cache::Cache,
    crash,
    domain::{
        case::CaseKind,
        ids::{OrderId, RefundId},
        message::{Message, PaymentSeen, RefundDue, RefundFacts, RefundRequested, RefundSeen, RefundTold, Source},
        money::Fen,
        refund::{RefundStanding, RefundStatus},
        retry,
    },
    store::{
        self, Database,
        refund::{Due, Recorded, Sending},
        refund_request::Requested,
        waitlist::{OffersOf, Terms},
    },
    wechat::{
        answers::{Claim, Class, Inconclusive},
        exchange::PayClient,
        pay::NewRefund,
        transaction::Standing,
    },
};

use super::AlarmTimes;

pub struct Refunds {
    pub db: Database,
    pub cache: Cache,
    pub wechat: Arc<PayClient>,
    pub terms: Terms,
    pub alarms: AlarmTimes,
    /// Above it, what operators move for one order needs two of them.
    pub second_person: Fen,
    /// Between two refunds of one order: WeChat takes one a minute.
    pub interval: Duration,
}

/// What this worker handles.
#[derive(Debug, Clone)]
pub enum Errand {
    Requested(RefundRequested),
    Due(RefundDue),
    Seen(RefundSeen),
}

impl TryFrom<Message> for Errand {
    type Error = Message;

    fn try_from(message: Message) -> Result<Self, Message> {
        match message {
            Message::RefundRequested(requested) => Ok(Self::Requested(requested)),
            Message::RefundDue(due) => Ok(Self::Due(due)),
            Message::RefundSeen(seen) => Ok(Self::Seen(seen)),
            other => Err(other),
        }
    }
}

impl Handler for Refunds {
    type Message = Errand;
    const NAME: &'static str = "refunds";
    const SHAPE: Shape = Shape { batch: 1, concurrent: 16 };

    async fn handle(&self, batch: &[Received<Errand>]) -> Result<Vec<Verdict>, Fault> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for received in batch {
            verdicts.push(match &received.message {
                Errand::Requested(requested) => self.take_in(requested).await?,
                Errand::Due(due) => self.carry_on(&due.refund_id).await?,
                Errand::Seen(seen) => self.hear(seen).await?,
            });
        }
        Ok(verdicts)
    }
}

impl Refunds {
    async fn take_in(&self, request: &RefundRequested) -> Result<Verdict, Fault> {
        let mut step = self.db.begin("refunds.request").await?;
        let requested = store::refund_request::request(&mut step, request, &self.terms, self.second_person).await?;
        step.commit().await?;
        match requested {
            Requested::NoOrder => {
                let error = format!("{} is not in the books yet", request.order_id);
                Ok(Verdict::Retry { class: retry::Class::Early, error })
            }
            Requested::Refused | Requested::Proposed => Ok(Verdict::Done(Vec::new())),
            Requested::Ended => Ok(Verdict::Done(self.after(&request.order_id).await?)),
            Requested::Accepted => {
                let mut follow_ups = self.after(&request.order_id).await?;
                follow_ups.push(Message::RefundDue(RefundDue { refund_id: request.refund_id.clone() }));
                Ok(Verdict::Done(follow_ups))
            }
        }
    }

    /// Tells WeChat of a refund, or asks about one that it knows, until there is a last word.
    async fn carry_on(&self, id: &RefundId) -> Result<Verdict, Fault> {
        let Some(due) = store::refund::due(self.db.pool(), id).await? else {
            return Ok(Verdict::Park { class: "no_such_refund", error: format!("{id} is not in the books") });
        };
        let answer = match due.status {
            RefundStatus::Succeeded
            | RefundStatus::Abnormal
            | RefundStatus::Refused
            | RefundStatus::PaidByHand
            | RefundStatus::NotOwed => {
                return Ok(Verdict::Done(self.after(&due.order_id).await?));
            }
            RefundStatus::Closed => {
                return Ok(Verdict::Done(vec![Message::RefundDue(RefundDue { refund_id: id.successor() })]));
            }
            // WeChat never had this money: a person gives it back, as one took it.
            RefundStatus::Requested if due.transaction_id.starts_with("offline-") => {
                return self.record(&by_hand(&due), None).await;
            }
            RefundStatus::Requested => {
                let mut step = self.db.begin("refunds.mark_sent").await?;
                let sending = store::refund::begin_sending(&mut step, &due, self.interval).await?;
                step.commit().await?;
                match sending {
                    Sending::Now => self.ask_for(&due).await,
                    Sending::Later => return Ok(pending("another refund of this order comes first")),
                    // A person decides: closing the case ends it.
                    Sending::Asked => return Ok(Verdict::Done(self.after(&due.order_id).await?)),
                    // It moved on while this message came: it is looked at again as it is now.
                    Sending::Over => return Ok(pending("it has moved on")),
                }
            }
            RefundStatus::Processing => self.wechat.query_refund(due.number()).await,
        };
        match answer {
            Ok(refund) => match refund.facts() {
                Some(facts) => self.record(&facts, None).await,
                None => {
                    let error = format!("WeChat's word is not understood, status {:?}", refund.status.as_str());
                    store::refund::postpone(self.db.pool(), id, Some(&error)).await?;
                    Ok(Verdict::Retry { class: retry::Class::Unfamiliar, error })
                }
            },
            Err(doubt) => self.settle_doubt(&due, doubt).await,
        }
    }

    async fn ask_for(&self, due: &Due) -> Result<crate::wechat::refund::Refund, Inconclusive> {
        let asked = self
            .wechat
            .create_refund(&NewRefund {
                transaction_id: &due.transaction_id,
                out_refund_no: &crash::renamed("refund_number", due.refund_id.as_str()),
                reason: &due.reason,
                refund_fen: due.amount_fen.0,
                total_fen: due.paid_fen.0,
            })
            .await;
        match asked {
            // Refused as a repetition, or as too much: what WeChat has under this number is asked for.
            Err(refusal @ Inconclusive { class: Class::Claimed(Claim::Conflict), .. }) => {
                match self.wechat.query_refund(due.refund_id.as_str()).await {
                    // It has nothing under this number and takes nothing: repeating cannot help.
                    Err(Inconclusive { class: Class::Claimed(Claim::Absent), .. }) => {
                        Err(Inconclusive { class: Class::Refused, ..refusal })
                    }
                    known => known,
                }
            }
            otherwise => otherwise,
        }
    }

    async fn settle_doubt(&self, due: &Due, doubt: Inconclusive) -> Result<Verdict, Fault> {
        let error = doubt.to_string();
        store::refund::postpone(self.db.pool(), &due.refund_id, Some(&error)).await?;
        Ok(match doubt.class {
            Class::Unknown => Verdict::Retry { class: retry::Class::Unknown, error },
            Class::Busy => Verdict::Retry { class: retry::Class::Busy, error },
            Class::Misconfigured => return Err(super::barred(&self.wechat, &doubt)),
            Class::Claimed(Claim::NotEnough) => {
                self.open_case(due, CaseKind::MerchantBalance, &error).await?;
                pending(&error)
            }
            // Minutes after the payment WeChat may not know it yet; also after a request that never arrived.
            Class::Claimed(Claim::Absent | Claim::Paid | Claim::Closed | Claim::Conflict) => pending(&error),
            // The case asks a person, and nothing is sent before the person has decided.
            Class::Claimed(Claim::PayerAccountAbnormal) => {
                self.open_case(due, CaseKind::PayerAccountAbnormal, &error).await?;
                Verdict::Done(Vec::new())
            }
            Class::Refused => {
                self.open_case(due, CaseKind::RefundRefused, &error).await?;
                Verdict::Done(Vec::new())
            }
        })
    }

    /// WeChat called. Whatever it said, it is not said again by repeating this message.
    async fn hear(&self, seen: &RefundSeen) -> Result<Verdict, Fault> {
        Ok(match self.record(&seen.facts, Some(seen)).await? {
            Verdict::Retry { class: retry::Class::Pending, .. } => Verdict::Done(Vec::new()),
            verdict => verdict,
        })
    }

    async fn record(&self, facts: &RefundFacts, callback: Option<&RefundSeen>) -> Result<Verdict, Fault> {
        let mut step = self.db.begin("refunds.record").await?;
        let taken_in = callback.and_then(|seen| seen.taken_in.as_ref());
        let mchid = &self.wechat.account().mchid;
        let recorded = store::refund::record(&mut step, mchid, facts, taken_in, &self.terms).await?;
        if let Some(callback) = callback {
            store::refund::note_callback(&mut step, callback, &recorded).await?;
        }
        step.commit().await?;
        metrics::counter!("refunds_seen_total", "standing" => facts.standing.as_str()).increment(1);
        match recorded {
            Recorded::Known { status, order_id } => {
                let follow_ups = self.after(&order_id).await?;
                if status == RefundStatus::Processing {
                    return Ok(pending("WeChat is at work on it"));
                }
                Ok(Verdict::Done(follow_ups))
            }
            Recorded::Replaced { by, order_id } => {
                let mut follow_ups = self.after(&order_id).await?;
                follow_ups.push(Message::RefundDue(RefundDue { refund_id: by }));
                Ok(Verdict::Done(follow_ups))
            }
            Recorded::Foreign { order_id } => {
                let mut follow_ups = self.after(&order_id).await?;
                // What gave way to it goes on under another number.
                let requested = store::refund::requested(self.db.pool(), std::slice::from_ref(&order_id)).await?;
                let due = |(_, refund_id)| Message::RefundDue(RefundDue { refund_id });
                follow_ups.extend(requested.into_iter().map(due));
                Ok(Verdict::Done(follow_ups))
            }
            Recorded::Early { order_id } => self.ask_about_payment(&order_id).await,
            Recorded::Unknown | Recorded::Mismatched => Ok(Verdict::Done(Vec::new())),
        }
    }

    /// Money went back of an order that the books do not hold as paid: WeChat's word about the payment comes first, and
    /// the worker that records it sends for the refund again.
    async fn ask_about_payment(&self, order: &OrderId) -> Result<Verdict, Fault> {
        let transaction = match self.wechat.query_order(order.as_str()).await {
            Ok(transaction) => transaction,
            Err(Inconclusive { class: Class::Refused | Class::Claimed(_), .. }) => {
                return Ok(Verdict::Done(Vec::new()));
            }
            Err(doubt) => {
                return Ok(Verdict::Retry { class: retry::Class::Unknown, error: doubt.to_string() });
            }
        };
        Ok(Verdict::Done(match transaction.standing() {
            Standing::Paid(payment) => {
                let seen = PaymentSeen { payment: *payment, source: Source::Query, request_id: String::new() };
                vec![Message::PaymentSeen(seen)]
            }
            // The case is open; what WeChat reports of the payment later is recorded as ever.
            Standing::Unpaid | Standing::Closed | Standing::Unclear(_) => Vec::new(),
        }))
    }

    async fn open_case(&self, due: &Due, kind: CaseKind, error: &str) -> Result<(), Fault> {
        let mut step = self.db.begin("refunds.case").await?;
        store::refund_person::ask(&mut step, &due.refund_id, &due.order_id, kind, error).await?;
        step.commit().await?;
        Ok(())
    }

    /// What follows from a change of the order, derived from what is stored.
    async fn after(&self, order: &OrderId) -> Result<Vec<Message>, Fault> {
        let ids = std::slice::from_ref(order);
        let snapshots = store::order::snapshots(self.db.pool(), ids).await?;
        let schedules: Vec<_> = snapshots.iter().map(|snapshot| snapshot.document.schedule_id).collect();
        super::tell_cache(&self.cache, &snapshots, &schedules).await;
        let mut follow_ups = super::offers_made(&self.db, &self.cache, OffersOf::Freed(order), self.alarms).await?;
        follow_ups.extend(super::notifications_due(&self.db, ids).await?.into_iter().map(|(_, message)| message));
        Ok(follow_ups)
    }
}

fn by_hand(due: &Due) -> RefundFacts {
    RefundFacts {
        out_refund_no: due.refund_id.to_string(),
        out_trade_no: due.order_id.to_string(),
        wechat_refund_id: format!("offline-{}", due.refund_id),
        standing: RefundStanding::Abnormal,
        refund_fen: due.amount_fen,
        success_time: None,
        told: RefundTold::default(),
    }
}

fn pending(why: &str) -> Verdict {
    Verdict::Retry { class: retry::Class::Pending, error: why.to_owned() }
}
