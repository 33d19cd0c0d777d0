//! How a message looks on the wire: properties and headers around the JSON body.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use time::OffsetDateTime;

use crate::domain::calendar;
use crate::domain::message::{Message, OrderAlarm, Queue, Unreadable};
use crate::domain::retry::{Class, Tier};
use crate::domain::text::plain;
use crate::spans::TraceParent;

/// The `x-schema` of the bodies that this release writes. A release that adds a kind of message, or a value to an enum in
/// one, raises it, so that a worker of the release before leaves such a message alone.
const SCHEMA: i32 = 1;
/// Longest `x-error`: enough for a cause, small enough for a header.
const LONGEST_ERROR: usize = 500;

/// Where a publish goes and what it carries; ready for the wire.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

impl Outgoing {
    /// A message to its own queue; an alarm to its delay queue, to wait there `after`.
    pub(super) fn first(message: &Message, trace: TraceParent, now: OffsetDateTime) -> Self {
        let mut headers = FieldTable::default();
        headers.insert("x-attempt".into(), AMQPValue::LongInt(1));
        headers.insert("x-schema".into(), AMQPValue::LongInt(SCHEMA));
        headers.insert("traceparent".into(), long(&trace.to_string()));
        let mut properties = BasicProperties::default()
            .with_message_id(message.key().into())
            .with_type(message.kind().into())
            .with_timestamp(u64::try_from(now.unix_timestamp()).unwrap_or(0))
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_headers(headers);
        let mut exchange = ShortString::default();
        if let Message::OrderAlarm(OrderAlarm { alarm, after_ms: after_ms @ 1.., .. }) = message
            && let Some(delay) = alarm.delay()
        {
            exchange = delay.into();
            properties = properties.with_expiration(after_ms.to_string().into());
        }
        Self { exchange, routing_key: message.queue().name().into(), properties, body: message.body() }
    }

    pub(super) fn kind(&self) -> &str {
        self.properties.kind().as_ref().map_or("unknown", ShortString::as_str)
    }

    /// The exchange or queue that it goes to first.
    pub(super) fn place(&self) -> &str {
        if self.exchange.as_str().is_empty() { self.routing_key.as_str() } else { self.exchange.as_str() }
    }

    /// The context it carries.
    pub(super) fn trace(&self) -> Option<TraceParent> {
        trace_of(&self.properties)
    }

    /// The same, following from another step.
    pub(super) fn following(mut self, trace: TraceParent) -> Self {
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        headers.insert("traceparent".into(), long(&trace.to_string()));
        self.properties = self.properties.with_headers(headers);
        self
    }

    /// What tells a returned publish from its neighbours: where it went and its id.
    pub(super) fn address(&self) -> (ShortString, ShortString, Option<ShortString>) {
        (self.exchange.clone(), self.routing_key.clone(), self.properties.message_id().clone())
    }
}

/// Reads a delivery: its marks, which can always be had, and its message.
pub fn read(properties: &BasicProperties, body: &[u8]) -> (Marks, Result<Message, Unreadable>) {
    let marks = Marks::of(properties);
    let message = Message::read(&marks.kind, body);
    (marks, message)
}

/// Whether a newer release wrote it: this one cannot tell a fault from a kind or a value that it does not know.
pub(super) fn is_newer(properties: &BasicProperties) -> bool {
    let schema = properties.headers().as_ref().and_then(|table| table.inner().get("x-schema"));
    schema.and_then(whole_number).is_some_and(|schema| schema > i64::from(SCHEMA))
}

/// `order.held>prepay`: what, and where it goes first. The lanes of `orders` are one place.
impl std::fmt::Display for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.place();
        let place = place.strip_prefix("orders.").filter(|lane| *lane != "dead").map_or(place, |_| "orders");
        write!(f, "{}>{place}", self.kind())
    }
}

/// The marks of one delivery that its handling needs.
#[derive(Debug, Clone)]
pub struct Marks {
    /// 1 for the first attempt. Counted in the message, never by the broker.
    pub attempt: u32,
    pub trace: Option<TraceParent>,
    pub kind: String,
    /// When it was first published, seconds since 1970.
    pub published_at: Option<u64>,
}

impl Marks {
    pub(super) fn of(properties: &BasicProperties) -> Self {
        let headers = properties.headers().as_ref();
        let header = |name: &str| headers.and_then(|table| table.inner().get(name));
        Self {
            attempt: header("x-attempt").and_then(whole_number).and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1),
            trace: trace_of(properties),
            kind: properties.kind().as_ref().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            published_at: *properties.timestamp(),
        }
    }
}

fn trace_of(properties: &BasicProperties) -> Option<TraceParent> {
    let header = properties.headers().as_ref()?.inner().get("traceparent")?;
    TraceParent::parse(&text(header)?)
}

/// When a message could first be taken off its queue (Unix seconds): when its delay was over, else when it was
/// published. The broker notes the end of a delay, newest first.
pub(super) fn due_at(properties: &BasicProperties) -> Option<u64> {
    let deaths = properties.headers().as_ref().and_then(|table| table.inner().get("x-death"));
    let newest = deaths.and_then(|deaths| match deaths {
        AMQPValue::FieldArray(deaths) => deaths.as_slice().first(),
        _ => None,
    });
    match newest {
        Some(AMQPValue::FieldTable(death)) => match death.inner().get("time") {
            Some(AMQPValue::Timestamp(at)) => Some(*at),
            _ => *properties.timestamp(),
        },
        _ => *properties.timestamp(),
    }
}

/// Why a delivery is set aside for a person.
#[derive(Debug, Clone)]
pub(super) struct Parking<'a> {
    pub(super) worker: &'a str,
    pub(super) class: &'a str,
    pub(super) error: &'a str,
}

/// A copy that waits in a delay queue and comes back to `queue` as the next attempt.
pub(super) fn retry_copy(
    properties: &BasicProperties,
    body: &[u8],
    queue: Queue,
    tier: Tier,
    class: Class,
    now: OffsetDateTime,
) -> Outgoing {
    let marks = Marks::of(properties);
    let mut headers = carried(properties);
    headers.insert(
        "x-attempt".into(),
        AMQPValue::LongInt(i32::try_from(marks.attempt.saturating_add(1)).unwrap_or(i32::MAX)),
    );
    headers.insert("x-error-class".into(), long(class.as_str()));
    mark_first_failure(&mut headers, now);
    let wait = jittered(tier, properties.message_id().as_ref().map_or("", |id| id.as_str()), marks.attempt);
    Outgoing {
        exchange: tier.name().into(),
        routing_key: queue.name().into(),
        properties: properties.clone().with_expiration(wait.to_string().into()).with_headers(headers),
        body: body.to_vec(),
    }
}

/// A copy for the dead-letter queue, saying why.
pub(super) fn dead_copy(
    properties: &BasicProperties,
    body: &[u8],
    queue: Queue,
    parking: &Parking<'_>,
    now: OffsetDateTime,
) -> Outgoing {
    let mut headers = carried(properties);
    headers.insert(
        "x-attempt".into(),
        AMQPValue::LongInt(i32::try_from(Marks::of(properties).attempt).unwrap_or(i32::MAX)),
    );
    headers.insert("x-error-class".into(), long(parking.class));
    headers.insert("x-error".into(), long(&plain(parking.error, LONGEST_ERROR)));
    headers.insert("x-worker".into(), long(parking.worker));
    headers.insert("x-queue".into(), long(&queue.name()));
    mark_first_failure(&mut headers, now);
    let mut properties = properties.clone().with_headers(headers).with_delivery_mode(2);
    if properties.message_id().is_none() {
        // A returned publish is recognised by its id; a foreign message may have none.
        properties = properties.with_message_id(uuid::Uuid::now_v7().to_string().into());
    }
    Outgoing { exchange: ShortString::default(), routing_key: queue.dead().into(), properties, body: body.to_vec() }
}

/// Our own headers of a delivery. The broker's (`x-death`, `x-delivery-count`) stay behind: RabbitMQ
/// would take a re-published `x-death` for its own history.
fn carried(properties: &BasicProperties) -> FieldTable {
    const OURS: [&str; 6] = ["x-attempt", "x-schema", "traceparent", "x-first-failed-at", "x-error-class", "x-replay"];
    let mut headers = FieldTable::default();
    if let Some(table) = properties.headers() {
        for (name, value) in table.inner() {
            if OURS.contains(&name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    headers
}

fn mark_first_failure(headers: &mut FieldTable, now: OffsetDateTime) {
    if !headers.inner().contains_key("x-first-failed-at") {
        headers.insert("x-first-failed-at".into(), long(&calendar::show(now)));
    }
}

/// 80–100 % of the tier, told by the message itself so that a retry needs no randomness. Always at most
/// the queue's own TTL, so the head of the queue holds nobody up for longer than the jitter.
fn jittered(tier: Tier, message_id: &str, attempt: u32) -> u64 {
    let whole = u64::try_from(tier.duration().as_millis()).unwrap_or(u64::MAX);
    let seed =
        message_id.bytes().fold(u64::from(attempt), |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    whole - whole / 5 * (seed % 101) / 100
}

pub(super) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub(super) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

pub(super) fn whole_number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::LongUInt(n) => Some(i64::from(*n)),
        AMQPValue::LongLongInt(n) => Some(*n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        calendar::Moment,
        message::{Payment, PaymentSeen, Source},
        money::Fen,
    };
    use proptest::prelude::*;

    #[test]
    fn the_brokers_own_headers_stay_behind_and_the_attempt_counts_up() {
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::LongInt(3));
        headers.insert("x-attempt".into(), AMQPValue::LongInt(2));
        let properties = BasicProperties::default().with_message_id("k".into()).with_headers(headers);
        let copy = retry_copy(&properties, b"{}", Queue::Prepay, Tier::S5, Class::Unknown, OffsetDateTime::UNIX_EPOCH);
        let headers = copy.properties.headers().clone().expect("set above");
        assert!(!headers.inner().contains_key("x-death"));
        assert_eq!(Marks::of(&copy.properties).attempt, 3);
        assert_eq!(copy.exchange.as_str(), "delay.5s");
        assert_eq!(copy.routing_key.as_str(), "prepay");
    }

    #[test]
    fn what_waited_is_due_when_its_wait_was_over() {
        let published = BasicProperties::default().with_timestamp(100);
        assert_eq!(due_at(&published), Some(100));
        let death = |at| {
            let mut death = FieldTable::default();
            death.insert("time".into(), AMQPValue::Timestamp(at));
            AMQPValue::FieldTable(death)
        };
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![death(900), death(400)].into()));
        assert_eq!(due_at(&published.with_headers(headers)), Some(900));
        assert_eq!(due_at(&BasicProperties::default()), None);
    }

    proptest! {
        #[test]
        fn a_jittered_wait_never_exceeds_its_tier(id in ".{0,40}", attempt in 1u32..1000) {
            for tier in Tier::ALL {
                let whole = u64::try_from(tier.duration().as_millis()).unwrap();
                let wait = jittered(tier, &id, attempt);
                prop_assert!(wait <= whole && wait >= whole / 5 * 4 - 1);
            }
        }
    }

    fn any_payment() -> impl Strategy<Value = Message> {
        let text = || "\\PC{0,40}";
        (text(), text(), text(), (1i64..=Fen::LARGEST.0, any::<i64>()), 0i64..4_000_000_000, prop::option::of(text()))
            .prop_map(|(out_trade_no, transaction_id, request_id, (total, payer_total), seconds, bank_type)| {
                let payment = Payment {
                    out_trade_no,
                    transaction_id,
                    mchid: "1900000109".into(),
                    appid: "wx8888888888888888".into(),
                    trade_type: "NATIVE".into(),
                    bank_type,
                    total_fen: Fen(total),
                    payer_total_fen: Some(Fen(payer_total)),
                    currency: "CNY".into(),
                    success_time: Moment::of_seconds(seconds).map(Moment::get),
                    refunded: seconds % 2 == 0,
                };
                Message::PaymentSeen(PaymentSeen { payment, source: Source::Query, request_id })
            })
    }

    proptest! {
        #[test]
        fn p3_a_message_arrives_as_it_was_sent_however_often_it_is_tried_again(
            message in any_payment(), tries in 0u32..20, words in "\\PC{0,900}",
        ) {
            let trace = TraceParent::new([9; 24]);
            let at = OffsetDateTime::UNIX_EPOCH;
            let mut sent = Outgoing::first(&message, trace, at);
            for later in 1..=tries {
                let now = at + std::time::Duration::from_secs(later.into());
                sent = retry_copy(&sent.properties, &sent.body, Queue::Payments, Tier::S1, Class::Unknown, now);
            }
            let parking = Parking { worker: "payments", class: "bug", error: &words };
            let dead = dead_copy(&sent.properties, &sent.body, Queue::Payments, &parking, at);
            for copy in [&sent, &dead] {
                let (marks, read) = read(&copy.properties, &copy.body);
                prop_assert_eq!(read.expect("our own message"), message.clone());
                prop_assert_eq!((marks.attempt, marks.trace), (tries + 1, Some(trace)));
                prop_assert_eq!(copy.properties.message_id(), &Some(message.key().into()));
            }
            let headers = dead.properties.headers().clone().expect("set above");
            let header = |name: &str| headers.inner().get(name).and_then(text).expect("it is there");
            prop_assert!(header("x-error").chars().count() <= LONGEST_ERROR);
            let first = if tries == 0 { at } else { at + std::time::Duration::from_secs(1) };
            prop_assert_eq!(header("x-first-failed-at"), calendar::show(first));
        }
    }
}
