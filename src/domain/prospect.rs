//! What would happen if a message were handled now: judged from what is stored, by the rules that its worker follows.
//!
//! Nothing is asked of WeChat and nothing is changed. So "would lapse" means: the worker would ask WeChat, and free
//! the seat if it says unpaid.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    ids::{OrderId, RefundId, ScheduleId, UserId},
    message::{Alarm, Message, OrderPaidOffline, Payment, WaitlistWish},
    money::Fen,
    notification::{Kind, NotificationStatus},
    order::{Event, SeatAtPayment, Status, Step, step},
    refund::{self, RefundStatus, RefundStep},
};

/// What a message's handling would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prospect {
    /// Nothing of it is left to be done.
    DoneAlready,
    WouldHold,
    WouldReject,
    WouldGiveCode,
    WouldConfirm,
    WouldRefund,
    /// WeChat's word about a refund would be entered into the books.
    WouldRecordRefund,
    WouldRefuseRefund,
    WouldOpenCase,
    WouldLapse,
    /// The order would be closed at WeChat and given up.
    WouldClose,
    WouldAskWechat,
    WouldNotify,
    WouldChangeWaitlist,
    /// It would wait: its time has not come, or its order is not in the books.
    WouldWait,
    WouldParkAgain,
}

impl Prospect {
    pub const ALL: [Self; 16] = [
        Self::DoneAlready,
        Self::WouldHold,
        Self::WouldReject,
        Self::WouldGiveCode,
        Self::WouldConfirm,
        Self::WouldRefund,
        Self::WouldRecordRefund,
        Self::WouldRefuseRefund,
        Self::WouldOpenCase,
        Self::WouldLapse,
        Self::WouldClose,
        Self::WouldAskWechat,
        Self::WouldNotify,
        Self::WouldChangeWaitlist,
        Self::WouldWait,
        Self::WouldParkAgain,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::DoneAlready => "done_already",
            Self::WouldHold => "would_hold",
            Self::WouldReject => "would_reject",
            Self::WouldGiveCode => "would_give_code",
            Self::WouldConfirm => "would_confirm",
            Self::WouldRefund => "would_refund",
            Self::WouldRecordRefund => "would_record_refund",
            Self::WouldRefuseRefund => "would_refuse_refund",
            Self::WouldOpenCase => "would_open_case",
            Self::WouldLapse => "would_lapse",
            Self::WouldClose => "would_close",
            Self::WouldAskWechat => "would_ask_wechat",
            Self::WouldNotify => "would_notify",
            Self::WouldChangeWaitlist => "would_change_waitlist",
            Self::WouldWait => "would_wait",
            Self::WouldParkAgain => "would_park_again",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prospect| prospect.as_str() == text)
    }
}

/// An order, as far as what may happen to it goes.
#[derive(Debug, Clone)]
pub struct OrderFacts {
    pub user_id: UserId,
    pub schedule_id: ScheduleId,
    pub status: Status,
    pub amount_fen: Fen,
    pub transaction_id: Option<String>,
    pub paid_fen: Fen,
    pub promised_fen: Fen,
    pub refunded_fen: Fen,
    /// Its temporary reservation still stands.
    pub holds_seat: bool,
    /// By the database's clock.
    pub hold_over: bool,
    pub deadline_over: bool,
    /// When the next of its deadlines is; none when it has no more.
    pub next_deadline: Option<OffsetDateTime>,
    /// Of its open cases.
    pub in_cases_fen: Fen,
}

impl OrderFacts {
    /// Money that WeChat took, or may take at any moment, and that is neither a seat nor back yet.
    pub fn open_fen(&self) -> Fen {
        let unsettled = match self.status {
            Status::AwaitingPayment | Status::Lapsed => self.amount_fen.0,
            Status::Confirmed => self.promised_fen.0.saturating_sub(self.refunded_fen.0),
            Status::Refunding => self.paid_fen.0.saturating_sub(self.refunded_fen.0),
            Status::Submitted
            | Status::Held
            | Status::Rejected
            | Status::Cancelled
            | Status::Expired
            | Status::Refunded => 0,
        };
        Fen(unsettled.max(self.in_cases_fen.0))
    }
}

/// A session, as far as its seats go.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    /// Takes orders: neither cancelled nor begun.
    pub open: bool,
    pub price_fen: Fen,
    pub seat_free: bool,
}

/// Everything that is stored about what some messages name.
#[derive(Debug, Clone, Default)]
pub struct Books {
    pub mchid: String,
    pub appid: String,
    pub orders: HashMap<OrderId, OrderFacts>,
    pub sessions: HashMap<ScheduleId, SessionFacts>,
    pub refunds: HashMap<RefundId, RefundStatus>,
    /// Refunds about which an open case asks a person.
    pub asked: HashSet<RefundId>,
    pub notifications: HashMap<(OrderId, Kind), NotificationStatus>,
    /// WeChat's payments that are stored, settled or not.
    pub transactions: HashMap<String, OrderId>,
    /// WeChat's numbers of refunds that none of ours asked for and that are counted.
    pub foreign_refunds: HashSet<String>,
    /// What cases are about: a payment or a refund that names nothing of ours.
    pub cases: HashSet<String>,
    /// Who waits for a seat.
    pub waiting: HashSet<(ScheduleId, UserId)>,
}

impl Books {
    /// What would come of this message now.
    pub fn judge(&self, message: &Message) -> Prospect {
        use Prospect as P;
        match message {
            Message::OrderSubmitted(wish) => {
                match (self.orders.get(&wish.order_id), self.sessions.get(&wish.schedule_id)) {
                    (Some(order), _) if order.user_id == wish.user_id => P::DoneAlready,
                    (Some(_), _) | (None, None) => P::WouldParkAgain,
                    (None, Some(session))
                        if session.open && session.seat_free && session.price_fen == wish.amount_fen =>
                    {
                        P::WouldHold
                    }
                    (None, Some(_)) => P::WouldReject,
                }
            }
            Message::OrderHeld(held) => match self.orders.get(&held.order_id) {
                None => P::WouldParkAgain,
                Some(order) if order.status == Status::Held && !order.deadline_over => P::WouldGiveCode,
                Some(_) => P::DoneAlready,
            },
            Message::OrderAlarm(alarm) => match self.orders.get(&alarm.order_id) {
                None => P::WouldWait,
                Some(order) => self.of_alarm(order, alarm.alarm),
            },
            Message::OrderCancel(cancel) => match self.orders.get(&cancel.order_id) {
                None => P::WouldWait,
                Some(order) if order.user_id != cancel.user_id => P::WouldParkAgain,
                Some(order) if order.status.is_payable() => P::WouldClose,
                Some(_) => P::DoneAlready,
            },
            Message::OrderPaidOffline(offline) => self.of_offline(offline),
            // What it comes to is WeChat's to say; one that was carried out changes nothing.
            Message::OrderOverride(decided) => match self.orders.get(&decided.order_id) {
                None => P::WouldWait,
                Some(_) => P::WouldAskWechat,
            },
            Message::PaymentSeen(seen) => self.of_payment(&seen.payment),
            Message::WaitlistChange(change) => {
                let waits = self.waiting.contains(&(change.schedule_id, change.user_id.clone()));
                match change.wish {
                    _ if !self.sessions.contains_key(&change.schedule_id) => P::WouldParkAgain,
                    WaitlistWish::Join if waits => P::DoneAlready,
                    WaitlistWish::Leave if !waits => P::DoneAlready,
                    WaitlistWish::Join | WaitlistWish::Leave => P::WouldChangeWaitlist,
                }
            }
            Message::RefundRequested(request) => {
                match (self.refunds.get(&request.refund_id), self.orders.get(&request.order_id)) {
                    (Some(_), _) => P::DoneAlready,
                    (None, None) => P::WouldWait,
                    (None, Some(order)) => {
                        let left = Fen(order.paid_fen.0.saturating_sub(order.promised_fen.0));
                        let asked = request.amount_fen.unwrap_or(left);
                        let can_be_met = order.status == Status::Confirmed && asked > Fen::ZERO && asked <= left;
                        if can_be_met { P::WouldRefund } else { P::WouldRefuseRefund }
                    }
                }
            }
            Message::RefundDue(due) => match self.refunds.get(&due.refund_id) {
                None => P::WouldParkAgain,
                // A person decides about it: nothing is sent.
                Some(RefundStatus::Requested) if self.asked.contains(&due.refund_id) => P::WouldWait,
                Some(RefundStatus::Requested) => P::WouldRefund,
                Some(RefundStatus::Processing) => P::WouldAskWechat,
                Some(RefundStatus::Closed)
                    if self.refunds.get(&due.refund_id.successor()).is_none_or(|by| by.is_open()) =>
                {
                    P::WouldRefund
                }
                Some(
                    RefundStatus::Succeeded
                    | RefundStatus::Abnormal
                    | RefundStatus::Refused
                    | RefundStatus::Closed
                    | RefundStatus::PaidByHand
                    | RefundStatus::NotOwed,
                ) => P::DoneAlready,
            },
            Message::RefundSeen(seen) => {
                let id = RefundId::try_from(seen.facts.out_refund_no.clone()).ok();
                match id.and_then(|id| self.refunds.get(&id)) {
                    Some(status) => match refund::step(*status, seen.facts.standing) {
                        RefundStep::Move { .. } => P::WouldRecordRefund,
                        RefundStep::Contradicts if self.cases.contains(&seen.facts.out_refund_no) => P::DoneAlready,
                        RefundStep::Contradicts => P::WouldOpenCase,
                        RefundStep::AlreadyDone => P::DoneAlready,
                    },
                    None if self.foreign_refunds.contains(&seen.facts.out_refund_no) => P::DoneAlready,
                    None if self.is_paid(&seen.facts.out_trade_no) => P::WouldRecordRefund,
                    None if self.cases.contains(&seen.facts.out_refund_no) => P::DoneAlready,
                    None => P::WouldOpenCase,
                }
            }
            Message::NotificationDue(due) => match self.notifications.get(&(due.order_id.clone(), due.kind)) {
                Some(NotificationStatus::Pending) => P::WouldNotify,
                Some(NotificationStatus::Sent | NotificationStatus::Failed | NotificationStatus::Uncertain) | None => {
                    P::DoneAlready
                }
            },
        }
    }

    fn of_alarm(&self, order: &OrderFacts, alarm: Alarm) -> Prospect {
        use Prospect as P;
        if !order.status.is_payable() {
            return P::DoneAlready;
        }
        match alarm {
            Alarm::Hold if order.status == Status::Lapsed => P::DoneAlready,
            Alarm::Hold if order.hold_over => P::WouldLapse,
            Alarm::Payment if order.deadline_over => P::WouldClose,
            Alarm::Hold | Alarm::Payment => P::WouldWait,
            Alarm::SoldOut if order.status == Status::Lapsed && !self.has_free_seat(order) => P::WouldClose,
            Alarm::SoldOut => P::DoneAlready,
            Alarm::Check => P::WouldAskWechat,
        }
    }

    fn of_payment(&self, payment: &Payment) -> Prospect {
        let order = OrderId::try_from(payment.out_trade_no.clone()).ok().and_then(|id| self.orders.get(&id));
        let Some(order) = order else {
            let is_known = self.cases.contains(&payment.transaction_id);
            return if is_known { Prospect::DoneAlready } else { Prospect::WouldOpenCase };
        };
        let fits = payment.total_fen == order.amount_fen
            && payment.currency == "CNY"
            && payment.mchid == self.mchid
            && payment.appid == self.appid;
        self.of_money(order, &payment.out_trade_no, &payment.transaction_id, fits)
    }

    fn of_offline(&self, offline: &OrderPaidOffline) -> Prospect {
        match self.orders.get(&offline.order_id) {
            None => Prospect::WouldWait,
            Some(order) => {
                let fits = offline.amount_fen == order.amount_fen;
                let (id, transaction) = (offline.order_id.as_str(), format!("offline-{}", offline.receipt));
                self.of_money(order, id, &transaction, fits)
            }
        }
    }

    /// Whether an order of this number is paid.
    fn is_paid(&self, number: &str) -> bool {
        let order = OrderId::try_from(number.to_owned()).ok().and_then(|id| self.orders.get(&id));
        order.is_some_and(|order| order.paid_fen > Fen::ZERO)
    }

    fn of_money(&self, order: &OrderFacts, order_id: &str, transaction_id: &str, fits: bool) -> Prospect {
        use Prospect as P;
        match self.transactions.get(transaction_id) {
            Some(owner) if owner.as_str() == order_id => return P::DoneAlready,
            Some(_) if self.cases.contains(&format!("{transaction_id}/{order_id}")) => return P::DoneAlready,
            // Recorded for another order: a person must see both.
            Some(_) => return P::WouldOpenCase,
            None => {}
        }
        let event = if !fits || order.transaction_id.is_some() {
            Event::PaymentMismatched
        } else if order.holds_seat {
            Event::Paid(SeatAtPayment::Held)
        } else if self.has_free_seat(order) && order.status != Status::Cancelled {
            Event::Paid(SeatAtPayment::Free)
        } else {
            Event::Paid(SeatAtPayment::None)
        };
        match step(order.status, event) {
            Step::Move { to: Status::Confirmed, .. } => P::WouldConfirm,
            Step::Move { .. } => P::WouldRefund,
            Step::Stay { .. } => P::WouldOpenCase,
            Step::AlreadyDone | Step::Irrelevant => P::DoneAlready,
        }
    }

    fn has_free_seat(&self, order: &OrderFacts) -> bool {
        self.sessions.get(&order.schedule_id).is_some_and(|session| session.open && session.seat_free)
    }

    /// Money that would be out of sight if the message were thrown away.
    pub fn open_fen(&self, message: &Message) -> Fen {
        let of_order = message.order_id().and_then(|id| self.orders.get(&id)).map_or(Fen::ZERO, OrderFacts::open_fen);
        // What these say of money, the books may not know.
        let said = match message {
            Message::PaymentSeen(_) | Message::OrderPaidOffline(_) | Message::RefundSeen(_) => message.money_fen(),
            Message::RefundRequested(_)
            | Message::RefundDue(_)
            | Message::OrderSubmitted(_)
            | Message::OrderHeld(_)
            | Message::OrderAlarm(_)
            | Message::OrderCancel(_)
            | Message::OrderOverride(_)
            | Message::WaitlistChange(_)
            | Message::NotificationDue(_) => None,
        };
        let unrecorded = said.filter(|_| self.judge(message) != Prospect::DoneAlready);
        of_order.max(unrecorded.unwrap_or(Fen::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{PaymentSeen, Source};

    /// B6: a payment that is recorded for another order is not done, whatever the books know of its number.
    #[test]
    fn one_payment_for_two_orders_is_never_done_already() {
        let id = |text: &str| OrderId::try_from(text.to_owned()).unwrap();
        let order = OrderFacts {
            user_id: UserId::try_from("ann".to_owned()).unwrap(),
            schedule_id: ScheduleId::parse("00000000-0000-7000-8000-000000000000").unwrap(),
            status: Status::AwaitingPayment,
            amount_fen: Fen(1),
            transaction_id: None,
            paid_fen: Fen::ZERO,
            promised_fen: Fen::ZERO,
            refunded_fen: Fen::ZERO,
            holds_seat: true,
            hold_over: false,
            deadline_over: false,
            next_deadline: None,
            in_cases_fen: Fen::ZERO,
        };
        let mut books = Books::default();
        books.orders.insert(id("hf0001"), order.clone());
        books.orders.insert(id("hf0002"), order);
        books.transactions.insert("42".to_owned(), id("hf0001"));
        let seen = |out_trade_no: &str| {
            let payment = Payment {
                out_trade_no: out_trade_no.to_owned(),
                transaction_id: "42".to_owned(),
                mchid: String::new(),
                appid: String::new(),
                trade_type: String::new(),
                bank_type: None,
                total_fen: Fen(1),
                payer_total_fen: None,
                currency: "CNY".to_owned(),
                success_time: Some(OffsetDateTime::UNIX_EPOCH),
                refunded: false,
            };
            Message::PaymentSeen(PaymentSeen { payment, source: Source::Query, request_id: String::new() })
        };
        assert_eq!(books.judge(&seen("hf0001")), Prospect::DoneAlready);
        assert_eq!(books.judge(&seen("hf0002")), Prospect::WouldOpenCase);
        assert_eq!(books.open_fen(&seen("hf0002")), Fen(1), "thrown away it would be out of sight");
        books.cases.insert("42/hf0002".to_owned());
        assert_eq!(books.judge(&seen("hf0002")), Prospect::DoneAlready, "its case shows it");
    }
}
