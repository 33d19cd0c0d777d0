//! Hands on the broker: puts messages into queues as anybody could, and looks at those that lie there.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt as _;
use holdfast::domain::message::Message;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    message::{BasicGetMessage, Delivery},
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::stack::{Stack, until};

pub(crate) struct Queues {
    connection: Connection,
    channel: Channel,
}

/// A message as it lies in a queue.
#[derive(Debug)]
pub(crate) struct Lying {
    pub body: Vec<u8>,
    pub properties: BasicProperties,
    /// Headers in words: numbers as digits, everything that is no text or number as its Rust form.
    pub headers: BTreeMap<String, String>,
}

impl Queues {
    pub(crate) async fn of(stack: &Stack) -> Self {
        let connection = Connection::connect(&stack.amqp_url, ConnectionProperties::default()).await;
        let connection = connection.expect("the broker");
        Self { channel: connection.create_channel().await.expect("a channel"), connection }
    }

    /// Publishes whatever it is.
    pub(crate) async fn put(&self, queue: &str, kind: &str, body: &[u8]) {
        let properties = BasicProperties::default().with_type(kind.into()).with_delivery_mode(2);
        self.put_with(queue, properties, body).await;
    }

    /// The same, as a release of this schema writes it.
    pub(crate) async fn put_of_schema(&self, queue: &str, kind: &str, schema: i32, body: &[u8]) {
        let mut headers = FieldTable::default();
        headers.insert("x-schema".into(), AMQPValue::LongInt(schema));
        let properties = BasicProperties::default().with_type(kind.into()).with_delivery_mode(2).with_headers(headers);
        self.put_with(queue, properties, body).await;
    }

    /// The same with a `message_id`.
    pub(crate) async fn put_named(&self, queue: &str, kind: &str, id: &str, body: &[u8]) {
        let properties =
            BasicProperties::default().with_type(kind.into()).with_message_id(id.into()).with_delivery_mode(2);
        self.put_with(queue, properties, body).await;
    }

    /// A dead letter as a worker would have parked it; laid twice, it is the same letter.
    pub(crate) async fn put_parked(&self, dead: &str, queue: &str, kind: &str, id: &str, body: &[u8]) {
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("x-error-class", "bug"),
            ("x-error", "a broken release"),
            ("x-worker", queue),
            ("x-queue", queue),
            ("x-first-failed-at", "2026-01-01T00:00:00Z"),
        ] {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        headers.insert("x-attempt".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default()
            .with_type(kind.into())
            .with_message_id(id.into())
            .with_delivery_mode(2)
            .with_headers(headers);
        self.put_with(dead, properties, body).await;
    }

    /// Takes so many different messages away; waits until there are as many.
    pub(crate) async fn take_each(&self, queue: &str, count: usize) -> Vec<Lying> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        channel.basic_qos(500, BasicQosOptions::default()).await.expect("many at a time");
        let mut consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await.expect("the queue");
        let mut taken = BTreeMap::new();
        while taken.len() < count {
            let next = timeout(Duration::from_secs(60), consumer.next()).await.expect("a message lies there");
            let next = next.expect("a stream").expect("a delivery");
            next.acker.ack(BasicAckOptions::default()).await.expect("taken away");
            let message = Lying::from(next);
            taken.insert(message.key().to_owned(), message);
        }
        channel.close(200, "done".into()).await.expect("closed");
        taken.into_values().collect()
    }

    /// Publishes a message of ours, as a worker of ours would have.
    pub(crate) async fn put_message(&self, message: &Message) {
        let properties = BasicProperties::default()
            .with_message_id(message.key().into())
            .with_type(message.kind().into())
            .with_delivery_mode(2);
        self.put_with(&message.queue().name(), properties, &message.body()).await;
    }

    /// Puts a message that was taken away back into a queue, as it is: what a shovel does.
    pub(crate) async fn shovel(&self, letter: &Lying, queue: &str) {
        self.put_with(queue, letter.properties.clone(), &letter.body).await;
    }

    async fn put_with(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish("".into(), queue.into(), options, body, properties).await;
        sent.expect("published").await.expect("confirmed");
    }

    /// Takes the first message away; waits until there is one.
    pub(crate) async fn take(&self, queue: &str) -> Lying {
        // Not `basic.get`: queues with a single active consumer refuse it. The channel is closed each time, so that
        // what was delivered behind the first message goes back to its place.
        let channel = self.connection.create_channel().await.expect("a channel");
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        channel.basic_qos(1, BasicQosOptions::default()).await.expect("one at a time");
        let mut consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await.expect("the queue");
        let taken = timeout(Duration::from_secs(60), consumer.next()).await.expect("a message lies there");
        let taken = taken.expect("a stream").expect("a delivery");
        taken.acker.ack(BasicAckOptions::default()).await.expect("taken away");
        channel.close(200, "done".into()).await.expect("closed");
        Lying::from(taken)
    }

    /// Looks at the first message and leaves it there; waits until there is one.
    pub(crate) async fn look(&self, queue: &str) -> Lying {
        until(&format!("a message lies in {queue}"), async || {
            let seen = self.get(queue).await?;
            let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            seen.delivery.acker.nack(back).await.expect("given back");
            Some(Lying::from(seen.delivery))
        })
        .await
    }

    /// Looks at a message that waits for its second or third attempt, once one waits for this reason.
    pub(crate) async fn look_waiting(&self, class: &str) -> Lying {
        until(&format!("a message waits because of {class}"), async || {
            for queue in ["delay.1s", "delay.5s"] {
                let Some(seen) = self.get(queue).await else { continue };
                let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                seen.delivery.acker.nack(back).await.expect("given back");
                let waiting = Lying::from(seen.delivery);
                if waiting.header("x-error-class") == class {
                    return Some(waiting);
                }
            }
            None
        })
        .await
    }

    pub(crate) async fn purge(&self, queue: &str) {
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.expect("purged");
    }

    pub(crate) async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
    }

    /// Declares a queue without any of the arguments that ours have.
    pub(crate) async fn declare_plain(&self, queue: &str) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("declared");
    }

    /// Replaces an exchange by one of another type.
    pub(crate) async fn make_direct(&self, exchange: &str) {
        self.channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared =
            self.channel.exchange_declare(exchange.into(), ExchangeKind::Direct, options, FieldTable::default());
        declared.await.expect("declared");
    }

    async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("the queue")
    }
}

impl From<Delivery> for Lying {
    fn from(delivery: Delivery) -> Self {
        let words = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::LongInt(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let headers = delivery.properties.headers().iter().flat_map(|table| table.inner());
        let headers = headers.map(|(name, value)| (name.to_string(), words(value))).collect();
        Self { headers, properties: delivery.properties, body: delivery.data }
    }
}

impl Lying {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Its `message_id`.
    pub(crate) fn key(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", |id| id.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}
