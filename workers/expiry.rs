//! Worker `expiry`: ends what was not paid in time or is not wanted any more, never on the clock's word alone.
//!
//! Consumes   order.alarm, order.cancel, order.paid_offline, order.override   from queue `expiry` (alarms come there from `delay.*`)
//! Changes    payment_orders, seat_reservations, free_seats, waitlist, notifications
//! Emits      payment.seen, order.held and order.alarm (of offers to the waiting list; sold_out), notification.due
//! Calls      WeChat: query before a seat is freed, close before an order is given up
//! Retries    when WeChat's answer is unknown or "slow down"
//! Safe twice because the order's columns decide, and WeChat's close can be repeated

use std::{borrow::Cow, sync::Arc, time::Duration};

use crate::{
    broker::consume::{Fault, Handler, Received, Shape, Verdict},
    cache::Cache,
    crash,
    domain::{
        ids::OrderId,
        message::{
            Alarm, Message, OrderAlarm, OrderCancel, OrderOverride, OrderPaidOffline, Payment, PaymentSeen, Source,
        },
        order::{Event, Status},
        overrides::{OverrideDocument, OverrideStatus},
        retry,
    },
    store::{
        self, Database,
        order::{Change, Due},
        override_effects::UnderLock,
        waitlist::{OffersOf, Terms},
    },
    wechat::{
        answers::{Claim, Class, Inconclusive},
        exchange::PayClient,
        pay::OrderClosed,
        transaction::Standing,
    },
};

use super::AlarmTimes;

pub struct Expiry {
    pub db: Database,
    pub cache: Cache,
    pub wechat: Arc<PayClient>,
    pub terms: Terms,
    pub alarms: AlarmTimes,
}

/// What wakes this worker.
#[derive(Debug, Clone)]
pub enum Wakeup {
    Alarm(OrderAlarm),
    Cancel(OrderCancel),
    PaidOffline(OrderPaidOffline),
    Override(OrderOverride),
}

impl TryFrom<Message> for Wakeup {
    type Error = Message;

    fn try_from(message: Message) -> Result<Self, Message> {
        match message {
            Message::OrderAlarm(alarm) => Ok(Self::Alarm(alarm)),
            Message::OrderCancel(cancel) => Ok(Self::Cancel(cancel)),
            Message::OrderPaidOffline(paid) => Ok(Self::PaidOffline(paid)),
            Message::OrderOverride(decided) => Ok(Self::Override(decided)),
            other => Err(other),
        }
    }
}

impl Handler for Expiry {
    type Message = Wakeup;
    const NAME: &'static str = "expiry";
    const SHAPE: Shape = Shape { batch: 1, concurrent: 32 };

    async fn handle(&self, batch: &[Received<Wakeup>]) -> Result<Vec<Verdict>, Fault> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for received in batch {
            verdicts.push(match &received.message {
                Wakeup::Alarm(alarm) => self.ring(alarm, received.attempt).await?,
                Wakeup::Cancel(cancel) => self.cancel(cancel).await?,
                Wakeup::PaidOffline(paid) => self.take_offline(paid).await?,
                Wakeup::Override(decided) => self.carry_out(decided).await?,
            });
        }
        Ok(verdicts)
    }
}

/// How an order is to end, once WeChat agrees.
pub(super) struct Ending {
    pub(super) event: Event,
    /// As the audit log calls it.
    pub(super) name: &'static str,
    /// Who wants it so: `worker:expiry` when it is a deadline.
    pub(super) actor: Cow<'static, str>,
    pub(super) reason: Option<String>,
    pub(super) request_id: Option<String>,
    /// The override that it carries out: judged again and settled in the same transaction.
    pub(super) of_override: Option<OverrideDocument>,
}

impl Ending {
    fn lapse() -> Self {
        Self {
            event: Event::HoldOver,
            name: "hold_over",
            actor: "worker:expiry".into(),
            reason: None,
            request_id: None,
            of_override: None,
        }
    }

    fn expire() -> Self {
        Self::lapse().for_good()
    }

    /// A hold was to end, and nobody can pay the order any more: all of it ends, by the same wish.
    fn for_good(self) -> Self {
        Self { event: Event::DeadlineClosed, name: "deadline_closed", ..self }
    }
}

/// What a close at WeChat came to.
pub(super) enum Shut {
    /// Nobody can pay the order any more.
    Closed,
    Paid(Box<Payment>),
    /// WeChat's answer proves neither.
    Open(Result<Verdict, Fault>),
}

impl Expiry {
    async fn ring(&self, alarm: &OrderAlarm, attempt: u32) -> Result<Verdict, Fault> {
        let Some(order) = store::order::due(self.db.pool(), &alarm.order_id).await? else {
            return Ok(not_in_the_books(&alarm.order_id));
        };
        if !order.status.is_payable() {
            // It ended before; what that led to is derived again, in case it was not said then.
            return self.done(&order).await;
        }
        match alarm.alarm {
            Alarm::Hold if order.status == Status::Lapsed => self.done(&order).await,
            Alarm::Hold if !order.hold_over => Ok(early()),
            // The sale of its session ended both: it is closed for good.
            Alarm::Hold if order.deadline_over => self.close(&order, Ending::expire()).await,
            Alarm::Hold => self.lapse(&order, Ending::lapse()).await,
            Alarm::Payment if !order.deadline_over => Ok(early()),
            Alarm::Payment => self.close(&order, Ending::expire()).await,
            Alarm::SoldOut if order.status == Status::Lapsed && order.session_sold_out => {
                self.close(&order, Ending::expire()).await
            }
            Alarm::SoldOut => Ok(Verdict::Done(Vec::new())),
            // Its alarms are set for the ordinary times; the end of the sale may come before them.
            Alarm::Check if order.deadline_over => self.close(&order, Ending::expire()).await,
            Alarm::Check => self.check(&order, alarm, attempt).await,
        }
    }

    async fn cancel(&self, cancel: &OrderCancel) -> Result<Verdict, Fault> {
        let Some(order) = store::order::due(self.db.pool(), &cancel.order_id).await? else {
            return Ok(not_in_the_books(&cancel.order_id));
        };
        if order.user_id != cancel.user_id {
            let error = format!("{} belongs to another user", cancel.order_id);
            return Ok(Verdict::Park { class: "foreign_order", error });
        }
        if !order.status.is_payable() {
            return self.done(&order).await;
        }
        let actor = cancel.requested_by.clone().unwrap_or_else(|| format!("user:{}", cancel.user_id.as_str()));
        let ending = Ending {
            event: Event::CancelClosed,
            name: "cancelled",
            actor: actor.into(),
            reason: None,
            request_id: Some(cancel.request_id.clone()),
            of_override: None,
        };
        self.close(&order, ending).await
    }

    /// Money taken by an operator: believed once WeChat can take none for the order any more.
    pub(super) async fn take_offline(&self, offline: &OrderPaidOffline) -> Result<Verdict, Fault> {
        let Some(order) = store::order::due(self.db.pool(), &offline.order_id).await? else {
            return Ok(not_in_the_books(&offline.order_id));
        };
        let mut messages = Vec::new();
        if order.status.is_payable() {
            match self.shut(&order).await {
                Shut::Closed => {}
                // Paid at WeChat as well: one settles the order, the other becomes a case.
                Shut::Paid(payment) => messages.push(seen(*payment)),
                Shut::Open(verdict) => return verdict,
            }
        }
        // An order that is over or settled by other money becomes a refund or a case: the worker `payments` decides.
        messages.push(Message::PaymentSeen(self.seen_offline(offline)));
        Ok(Verdict::Done(messages))
    }

    fn seen_offline(&self, offline: &OrderPaidOffline) -> PaymentSeen {
        let account = self.wechat.account();
        PaymentSeen {
            payment: Payment {
                out_trade_no: offline.order_id.to_string(),
                transaction_id: format!("offline-{}", offline.receipt),
                mchid: account.mchid.clone(),
                appid: account.appid.clone(),
                trade_type: "OFFLINE".into(),
                bank_type: None,
                total_fen: offline.amount_fen,
                payer_total_fen: None,
                currency: "CNY".into(),
                success_time: Some(offline.paid_at),
                refunded: false,
            },
            source: Source::Offline { operator: offline.operator.clone(), reason: offline.reason.clone() },
            request_id: offline.request_id.clone(),
        }
    }

    /// The hold is over: WeChat is asked before the seat is freed.
    pub(super) async fn lapse(&self, order: &Due, ending: Ending) -> Result<Verdict, Fault> {
        match self.standing(order).await {
            _ if crash::without("query_before_freeing") => self.end(order, ending).await,
            Ok(Standing::Paid(payment)) => Ok(paid(*payment)),
            Ok(Standing::Unpaid) => self.end(order, ending).await,
            Ok(Standing::Closed) => self.end(order, ending.for_good()).await,
            Ok(Standing::Unclear(why)) => Ok(unclear(why)),
            // WeChat says that it never heard of it, unsigned. Its signed close makes that certain.
            Err(Inconclusive { class: Class::Claimed(Claim::Absent), .. }) => {
                self.close(order, ending.for_good()).await
            }
            Err(doubt) => self.again(&doubt),
        }
    }

    /// Closes the order at WeChat, so that nobody can pay it any more, and then gives it up.
    pub(super) async fn close(&self, order: &Due, ending: Ending) -> Result<Verdict, Fault> {
        match self.shut(order).await {
            Shut::Closed => self.end(order, ending).await,
            Shut::Paid(payment) => Ok(paid(*payment)),
            Shut::Open(verdict) => verdict,
        }
    }

    /// Closes the order at WeChat, whatever it is in our books.
    pub(super) async fn shut(&self, order: &Due) -> Shut {
        match self.wechat.close_order(order.order_id.as_str()).await {
            Ok(OrderClosed) => Shut::Closed,
            Err(_) if crash::without("close_answer") => Shut::Closed,
            // Any refusal may mean that it was paid: the query tells.
            Err(Inconclusive { class: Class::Claimed(_), .. }) => match self.standing(order).await {
                Ok(Standing::Paid(payment)) => Shut::Paid(payment),
                Ok(Standing::Closed) => Shut::Closed,
                Ok(Standing::Unpaid) => {
                    let error = "WeChat did not close it, and it is not paid".to_owned();
                    Shut::Open(Ok(Verdict::Retry { class: retry::Class::Unknown, error }))
                }
                Ok(Standing::Unclear(why)) => Shut::Open(Ok(unclear(why))),
                Err(doubt) => Shut::Open(self.again(&doubt)),
            },
            Err(doubt) => Shut::Open(self.again(&doubt)),
        }
    }

    /// Perhaps it was paid and the callback got lost.
    async fn check(&self, order: &Due, alarm: &OrderAlarm, attempt: u32) -> Result<Verdict, Fault> {
        let period = Duration::from_millis(alarm.after_ms);
        // A timer goes on beside another one of the order, in case that the other is lost, and leaves the look to it.
        if attempt == 1
            && !period.is_zero()
            && !store::order::take_look(self.db.pool(), &alarm.order_id, period).await?
        {
            return Ok(Verdict::Done(vec![Message::OrderAlarm(alarm.clone())]));
        }
        match self.standing(order).await {
            Ok(Standing::Paid(payment)) => Ok(paid(*payment)),
            // Whoever had it closed is about to write down why: a cancellation, perhaps, in the step beside this one.
            Ok(Standing::Closed) if attempt == 1 => {
                let error = "closed at WeChat, and not yet in the books".to_owned();
                Ok(Verdict::Retry { class: retry::Class::Early, error })
            }
            Ok(Standing::Closed) => self.end(order, Ending::expire()).await,
            // Not paid, or no answer: the next look is due anyway. A look on the customer's behalf is not repeated.
            Ok(Standing::Unpaid | Standing::Unclear(_)) | Err(_) if alarm.after_ms > 0 => {
                Ok(Verdict::Done(vec![Message::OrderAlarm(alarm.clone())]))
            }
            Ok(Standing::Unpaid | Standing::Unclear(_)) | Err(_) => Ok(Verdict::Done(Vec::new())),
        }
    }

    pub(super) async fn standing(&self, order: &Due) -> Result<Standing, Inconclusive> {
        Ok(self.wechat.query_order(order.order_id.as_str()).await?.standing())
    }

    /// WeChat's answer proved nothing: the same again, later, or once WeChat takes such a call at all.
    pub(super) fn again(&self, doubt: &Inconclusive) -> Result<Verdict, Fault> {
        let class = match doubt.class {
            Class::Unknown | Class::Claimed(_) => retry::Class::Unknown,
            Class::Busy => retry::Class::Busy,
            Class::Misconfigured => return Err(super::barred(&self.wechat, doubt)),
            Class::Refused => return Ok(Verdict::Park { class: "wechat_refused", error: doubt.to_string() }),
        };
        Ok(Verdict::Retry { class, error: doubt.to_string() })
    }

    /// Ends the order in the books, in one transaction, and says what follows.
    async fn end(&self, order: &Due, ending: Ending) -> Result<Verdict, Fault> {
        let mut step = self.db.begin("expiry.end").await?;
        if let Some(document) = &ending.of_override {
            match store::override_effects::lock(&mut step, document).await? {
                UnderLock::Stands(_) => {}
                UnderLock::Settled => return self.done(order).await,
                UnderLock::Overtaken(why) => {
                    store::overrides::settle(&mut step, document.override_id, OverrideStatus::Refused, why).await?;
                    step.commit().await?;
                    return self.done(order).await;
                }
            }
        }
        for locked in store::order::lock(&mut step, std::slice::from_ref(&order.order_id)).await? {
            let change = Change {
                reason: ending.reason.clone(),
                request_id: ending.request_id.clone(),
                ..Change::of_status(locked.status, ending.name, ending.actor.clone())
            };
            if store::ending::apply(&mut step, &locked, ending.event, change, &self.terms).await? {
                metrics::counter!("orders_ended_total", "event" => ending.name).increment(1);
                if let Some(document) = &ending.of_override {
                    let id = document.override_id;
                    store::overrides::settle(&mut step, id, OverrideStatus::Done, "WeChat agreed").await?;
                }
            }
        }
        step.commit().await?;
        self.done(order).await
    }

    async fn done(&self, order: &Due) -> Result<Verdict, Fault> {
        Ok(Verdict::Done(self.follow_ups(order).await?))
    }

    /// What follows from an order that has ended, derived from what is stored.
    pub(super) async fn follow_ups(&self, order: &Due) -> Result<Vec<Message>, Fault> {
        let ids = std::slice::from_ref(&order.order_id);
        let schedules = [order.schedule_id];
        let freed = OffersOf::Freed(&order.order_id);
        let mut follow_ups = super::offers_made(&self.db, &self.cache, freed, self.alarms).await?;
        follow_ups.extend(super::sold_out_alarms(&self.db, ids).await?);
        follow_ups.extend(super::notifications_due(&self.db, ids).await?.into_iter().map(|(_, message)| message));
        let snapshots = store::order::snapshots(self.db.pool(), ids).await?;
        super::tell_cache(&self.cache, &snapshots, &schedules).await;
        // Its seat went on to somebody who waits: there is none left that could be paid for. Those that lapsed
        // before heard so when the session sold out.
        if snapshots.iter().any(|snapshot| snapshot.document.status == Status::Lapsed)
            && let Some(now) = store::order::due(self.db.pool(), &order.order_id).await?
            && now.session_sold_out
        {
            let alarm = OrderAlarm { order_id: now.order_id, alarm: Alarm::SoldOut, after_ms: 0 };
            follow_ups.push(Message::OrderAlarm(alarm));
        }
        Ok(follow_ups)
    }
}

fn seen(payment: Payment) -> Message {
    Message::PaymentSeen(PaymentSeen { payment, source: Source::Query, request_id: String::new() })
}

pub(super) fn paid(payment: Payment) -> Verdict {
    Verdict::Done(vec![seen(payment)])
}

/// The queue's clock ran ahead of the database's.
fn early() -> Verdict {
    Verdict::Retry { class: retry::Class::Early, error: "it is not time yet".into() }
}

fn not_in_the_books(id: &OrderId) -> Verdict {
    Verdict::Retry { class: retry::Class::Early, error: format!("{id} is not in the books yet") }
}

/// WeChat says something that this release does not know: for a person.
pub(super) fn unclear(why: &str) -> Verdict {
    Verdict::Park { class: "wechat_unclear", error: why.to_owned() }
}
