//! What travels on the queues. A message knows its own queue, so a handler only says what follows.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;
use uuid::Uuid;

pub use super::refund_facts::{RefundFacts, RefundTold, TakenIn};
use super::{
    ids::{OrderId, RefundId, ScheduleId, SeatNo, UserId, request_name},
    json::{self, json_fault},
    money::Fen,
    notification::Kind,
    order::Channel,
    text::plain,
};

/// The longest delay of an alarm: a week, as long as the settings admit.
const LONGEST_ALARM_MS: u64 = 604_800_000;

/// How many `orders.N` queues there are. A session's orders always take the same one.
pub const ORDER_LANES: u8 = 8;

/// A work queue of `rabbitmq/definitions.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// `orders.0` … `orders.7`.
    Orders(u8),
    Prepay,
    Payments,
    Expiry,
    Refunds,
    Notifications,
}

impl Queue {
    pub fn name(self) -> String {
        match self {
            Self::Orders(lane) => format!("orders.{lane}"),
            Self::Prepay => "prepay".into(),
            Self::Payments => "payments".into(),
            Self::Expiry => "expiry".into(),
            Self::Refunds => "refunds".into(),
            Self::Notifications => "notifications".into(),
        }
    }

    /// Where messages are parked that nobody can handle. All `orders.N` share one.
    pub fn dead(self) -> &'static str {
        match self {
            Self::Orders(_) => "orders.dead",
            Self::Prepay => "prepay.dead",
            Self::Payments => "payments.dead",
            Self::Expiry => "expiry.dead",
            Self::Refunds => "refunds.dead",
            Self::Notifications => "notifications.dead",
        }
    }

    /// Every dead-letter queue.
    pub const DEAD: [&'static str; 6] =
        ["orders.dead", "prepay.dead", "payments.dead", "expiry.dead", "refunds.dead", "notifications.dead"];

    /// The work queue of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().find(|queue| queue.name() == name)
    }

    pub fn order_lanes() -> impl Iterator<Item = Self> {
        (0..ORDER_LANES).map(Self::Orders)
    }

    /// Every work queue.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::order_lanes().chain([Self::Prepay, Self::Payments, Self::Expiry, Self::Refunds, Self::Notifications])
    }
}

/// A customer's wish, as the ingress took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSubmitted {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// WeChat's name of the customer under our appid, when the token carries it.
    pub openid: Option<Openid>,
    pub schedule_id: ScheduleId,
    pub seat_no: Option<SeatNo>,
    pub amount_fen: Fen,
    pub channel: Channel,
    /// SHA-256 (hex) of what was asked for: tells a repeated request from another one under the same key.
    pub request_hash: String,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    pub submitted_at: OffsetDateTime,
    pub request_id: String,
}

/// A WeChat openid. Personal data: its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Openid(pub String);

impl std::fmt::Debug for Openid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Openid(…)")
    }
}

/// Money that WeChat says it took: the signed facts, nothing concluded yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// As WeChat spelled it; it may name no order of ours.
    pub out_trade_no: String,
    pub transaction_id: String,
    pub mchid: String,
    pub appid: String,
    pub trade_type: String,
    pub bank_type: Option<String>,
    pub total_fen: Fen,
    pub payer_total_fen: Option<Fen>,
    pub currency: String,
    /// Absent when WeChat gave none, or one outside the calendar of `calendar::Moment`: the money is booked at the
    /// database's time then.
    #[serde(default, with = "crate::domain::calendar::lenient")]
    pub success_time: Option<OffsetDateTime>,
    /// WeChat reports that money of it was given back, and not how much. Absent in messages of earlier releases.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refunded: bool,
}

/// How we came to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Source {
    /// WeChat called; `notification_id` is the callback's own id.
    Callback { notification_id: String },
    /// We asked.
    Query,
    /// An operator took the money in another way.
    Offline {
        operator: String,
        /// Absent in messages of earlier releases, and when none was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentSeen {
    pub payment: Payment,
    pub source: Source,
    /// `Request-ID` of WeChat's callback or answer.
    pub request_id: String,
}

/// What an alarm reminds of. The deadline itself is a column; the alarm only wakes the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// The hold may be over.
    Hold,
    /// The payment deadline may be over.
    Payment,
    /// Perhaps it was paid and WeChat's callback got lost.
    Check,
    /// Its session sold out while its hold had lapsed.
    SoldOut,
}

impl Alarm {
    pub const ALL: [Self; 4] = [Self::Hold, Self::Payment, Self::Check, Self::SoldOut];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Payment => "payment",
            Self::Check => "check",
            Self::SoldOut => "sold_out",
        }
    }

    /// The delay exchange (and queue) it waits in; none for what is said at once.
    pub fn delay(self) -> Option<&'static str> {
        match self {
            Self::Hold => Some("delay.hold"),
            Self::Payment => Some("delay.payment"),
            Self::Check => Some("delay.check"),
            Self::SoldOut => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderHeld {
    pub order_id: OrderId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAlarm {
    pub order_id: OrderId,
    pub alarm: Alarm,
    /// How long it waits before it wakes the worker, in milliseconds; equal for all alarms of a kind, or 0: at once.
    pub after_ms: u64,
}

/// The customer does not want the order any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCancel {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// Who wishes it, when it is not the customer: `operator:…`. Absent in messages of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    pub request_id: String,
}

/// The customer paid an operator in another way. The order is closed at WeChat before it is believed, so that
/// it cannot be paid twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPaidOffline {
    pub order_id: OrderId,
    /// The receipt's number: the same receipt pays once.
    pub receipt: String,
    pub operator: String,
    /// Absent in messages of earlier releases, and when none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub amount_fen: Fen,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    pub paid_at: OffsetDateTime,
    pub request_id: String,
}

/// An operator's decision about an order is to be carried out. What it says is in the books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderOverride {
    pub override_id: Uuid,
    pub order_id: OrderId,
}

/// What a customer wants of a waiting list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitlistWish {
    Join,
    Leave,
}

/// A change of a session's waiting list. It takes the way of the session's orders, so that it keeps its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitlistChange {
    pub schedule_id: ScheduleId,
    pub user_id: UserId,
    pub openid: Option<Openid>,
    pub wish: WaitlistWish,
    pub request_id: String,
}

/// Money is to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRequested {
    pub refund_id: RefundId,
    pub order_id: OrderId,
    /// All that is left when absent.
    pub amount_fen: Option<Fen>,
    pub reason: String,
    /// `user:…` or `operator:…`
    pub requested_by: String,
    /// When the ingress took the request, by the database's clock: a customer's refund is judged by it, however long the
    /// message waits. Absent in messages of earlier releases, and where nobody waits for a rule.
    #[serde(default, with = "crate::domain::calendar::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<OffsetDateTime>,
    pub request_id: String,
}

/// A refund that is in the books is to be carried on: sent to WeChat, or asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundDue {
    pub refund_id: RefundId,
}

/// WeChat told of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundSeen {
    pub facts: RefundFacts,
    pub source: Source,
    pub request_id: String,
    /// Set when an operator asked for it to be taken into the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_in: Option<TakenIn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationDue {
    pub order_id: OrderId,
    pub kind: Kind,
}

/// Everything that can be in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    OrderSubmitted(OrderSubmitted),
    OrderHeld(OrderHeld),
    OrderAlarm(OrderAlarm),
    OrderCancel(OrderCancel),
    OrderPaidOffline(OrderPaidOffline),
    OrderOverride(OrderOverride),
    WaitlistChange(WaitlistChange),
    PaymentSeen(PaymentSeen),
    RefundRequested(RefundRequested),
    RefundDue(RefundDue),
    RefundSeen(RefundSeen),
    NotificationDue(NotificationDue),
}

/// Why a delivery could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("no message has the type {0:?}")]
    UnknownType(String),
    /// The cause says where it went wrong, never what was there: it ends in a log and in a dead letter's header.
    #[error("the body is no {kind}: {cause}")]
    Body { kind: &'static str, cause: String },
}

/// Each kind of message can be taken out of the whole; the whole comes back when it is another one.
macro_rules! kind_of_message {
    ($($kind:ident),+) => {$(
        impl TryFrom<Message> for $kind {
            type Error = Message;

            fn try_from(message: Message) -> Result<Self, Message> {
                match message {
                    Message::$kind(inner) => Ok(inner),
                    other => Err(other),
                }
            }
        }
    )+};
}
kind_of_message!(OrderSubmitted, OrderHeld, PaymentSeen, NotificationDue);

impl Message {
    /// The AMQP `type` property.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OrderSubmitted(_) => "order.submitted",
            Self::OrderHeld(_) => "order.held",
            Self::OrderAlarm(_) => "order.alarm",
            Self::OrderCancel(_) => "order.cancel",
            Self::OrderPaidOffline(_) => "order.paid_offline",
            Self::OrderOverride(_) => "order.override",
            Self::WaitlistChange(_) => "waitlist.change",
            Self::PaymentSeen(_) => "payment.seen",
            Self::RefundRequested(_) => "refund.requested",
            Self::RefundDue(_) => "refund.due",
            Self::RefundSeen(_) => "refund.seen",
            Self::NotificationDue(_) => "notification.due",
        }
    }

    /// The queue whose worker handles it (for an alarm: after its delay).
    pub fn queue(&self) -> Queue {
        match self {
            Self::OrderSubmitted(m) => Queue::Orders(m.schedule_id.lane(ORDER_LANES)),
            Self::OrderHeld(_) => Queue::Prepay,
            Self::OrderAlarm(_) | Self::OrderCancel(_) | Self::OrderPaidOffline(_) | Self::OrderOverride(_) => {
                Queue::Expiry
            }
            Self::WaitlistChange(m) => Queue::Orders(m.schedule_id.lane(ORDER_LANES)),
            Self::PaymentSeen(_) => Queue::Payments,
            Self::RefundRequested(_) | Self::RefundDue(_) | Self::RefundSeen(_) => Queue::Refunds,
            Self::NotificationDue(_) => Queue::Notifications,
        }
    }

    /// The AMQP `message_id`: the business key, so that a message sent twice is seen to be the same.
    pub fn key(&self) -> String {
        match self {
            Self::OrderSubmitted(m) => format!("{}/submitted", m.order_id),
            Self::OrderHeld(m) => format!("{}/held", m.order_id),
            Self::OrderAlarm(m) => format!("{}/alarm/{}", m.order_id, m.alarm.as_str()),
            Self::OrderCancel(m) => format!("{}/cancel", m.order_id),
            Self::OrderPaidOffline(m) => format!("{}/offline/{}", m.order_id, m.receipt),
            Self::OrderOverride(m) => format!("{}/override/{}", m.order_id, m.override_id),
            // Customer and request name themselves, and may hold a slash.
            Self::WaitlistChange(m) => {
                format!("{}/waitlist/{:?}/{}", m.schedule_id, m.wish, request_name(&m.user_id, &m.request_id))
            }
            Self::RefundRequested(m) => format!("{}/requested", m.refund_id),
            Self::RefundDue(m) => format!("{}/due", m.refund_id),
            Self::RefundSeen(m) => format!("{}/seen/{}", m.facts.out_refund_no, m.facts.standing.as_str()),
            Self::PaymentSeen(m) => format!("{}/paid/{}", m.payment.out_trade_no, m.payment.transaction_id),
            Self::NotificationDue(m) => format!("{}/notify/{}", m.order_id, m.kind.as_str()),
        }
    }

    /// The order it is about, when it names one as we name orders.
    pub fn order_id(&self) -> Option<OrderId> {
        OrderId::try_from(self.order()?.to_owned()).ok()
    }

    /// The order that it is about, as far as the message itself tells.
    pub fn order(&self) -> Option<&str> {
        match self {
            Self::OrderSubmitted(m) => Some(m.order_id.as_str()),
            Self::OrderHeld(m) => Some(m.order_id.as_str()),
            Self::OrderAlarm(m) => Some(m.order_id.as_str()),
            Self::OrderCancel(m) => Some(m.order_id.as_str()),
            Self::OrderPaidOffline(m) => Some(m.order_id.as_str()),
            Self::OrderOverride(m) => Some(m.order_id.as_str()),
            Self::PaymentSeen(m) => Some(&m.payment.out_trade_no),
            Self::RefundRequested(m) => Some(m.order_id.as_str()),
            Self::RefundDue(m) => Some(m.refund_id.order()),
            Self::RefundSeen(m) => Some(&m.facts.out_trade_no),
            Self::NotificationDue(m) => Some(m.order_id.as_str()),
            Self::WaitlistChange(_) => None,
        }
    }

    /// The money that it names.
    pub fn money_fen(&self) -> Option<Fen> {
        match self {
            Self::OrderSubmitted(m) => Some(m.amount_fen),
            Self::OrderPaidOffline(m) => Some(m.amount_fen),
            Self::PaymentSeen(m) => Some(m.payment.total_fen),
            Self::RefundRequested(m) => m.amount_fen,
            Self::RefundSeen(m) => Some(m.facts.refund_fen),
            Self::OrderHeld(_)
            | Self::OrderAlarm(_)
            | Self::OrderCancel(_)
            | Self::OrderOverride(_)
            | Self::WaitlistChange(_)
            | Self::RefundDue(_)
            | Self::NotificationDue(_) => None,
        }
    }

    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::OrderSubmitted(m) => serde_json::to_vec(m),
            Self::OrderHeld(m) => serde_json::to_vec(m),
            Self::OrderAlarm(m) => serde_json::to_vec(m),
            Self::PaymentSeen(m) => serde_json::to_vec(m),
            Self::OrderCancel(m) => serde_json::to_vec(m),
            Self::OrderPaidOffline(m) => serde_json::to_vec(m),
            Self::OrderOverride(m) => serde_json::to_vec(m),
            Self::WaitlistChange(m) => serde_json::to_vec(m),
            Self::RefundRequested(m) => serde_json::to_vec(m),
            Self::RefundDue(m) => serde_json::to_vec(m),
            Self::RefundSeen(m) => serde_json::to_vec(m),
            Self::NotificationDue(m) => serde_json::to_vec(m),
        }
        .expect("plain structs with text keys always serialize")
    }

    /// Reads a delivery. Unknown members are ignored: the next release may add some.
    pub fn read(kind: &str, body: &[u8]) -> Result<Self, Unreadable> {
        fn of<T: DeserializeOwned>(kind: &'static str, body: &[u8]) -> Result<T, Unreadable> {
            json::read(body).map_err(|error| Unreadable::Body { kind, cause: json_fault(&error) })
        }
        let message = match kind {
            "order.submitted" => of("order.submitted", body).map(Self::OrderSubmitted),
            "order.held" => of("order.held", body).map(Self::OrderHeld),
            "order.alarm" => of("order.alarm", body).map(Self::OrderAlarm),
            "payment.seen" => of("payment.seen", body).map(Self::PaymentSeen),
            "order.cancel" => of("order.cancel", body).map(Self::OrderCancel),
            "order.paid_offline" => of("order.paid_offline", body).map(Self::OrderPaidOffline),
            "order.override" => of("order.override", body).map(Self::OrderOverride),
            "waitlist.change" => of("waitlist.change", body).map(Self::WaitlistChange),
            "refund.requested" => of("refund.requested", body).map(Self::RefundRequested),
            "refund.due" => of("refund.due", body).map(Self::RefundDue),
            "refund.seen" => of("refund.seen", body).map(Self::RefundSeen),
            "notification.due" => of("notification.due", body).map(Self::NotificationDue),
            other => Err(Unreadable::UnknownType(plain(other, 64))),
        }?;
        let outside =
            |what: &str| Unreadable::Body { kind: message.kind(), cause: format!("{what} is outside every range") };
        if message.money_fen().is_some_and(|fen| !fen.is_amount()) {
            return Err(outside("its amount"));
        }
        match &message {
            // The broker closes the channel over a delay that it cannot keep.
            Self::OrderAlarm(alarm) if alarm.after_ms > LONGEST_ALARM_MS => Err(outside("its delay")),
            _ => Ok(message),
        }
    }
}

#[cfg(test)]
#[path = "tests/message.rs"]
mod tests;
