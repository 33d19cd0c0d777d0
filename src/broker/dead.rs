//! The dead-letter queues: read without taking, taken out of on demand, put back into work.
//!
//! A reading consumes without acknowledging and gives everything back at its end. Whoever dies over it loses nothing:
//! the broker gives back by itself what was not acknowledged.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Consumer, ErrorKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::crash;

use super::{
    BrokerAway, Link, PublishError, Publisher,
    envelope::{Outgoing, long, text, whole_number},
    link::{answered, close},
};

/// Most letters of a queue that one reading sees: the largest prefetch. What lies behind them is seen once some of
/// these are dealt with.
const MOST: u16 = u16::MAX;
/// No letter for so long is worth a look whether there are any.
const SILENCE: Duration = Duration::from_secs(2);
/// RabbitMQ 4.0 to 4.2 drop a message that came back 20 times, unless a queue says otherwise. A letter that came back
/// so often is put there anew, which sets its count to zero.
const RETURNS_MAX: i64 = 10;

/// A message in a dead-letter queue.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The AMQP `type`; empty when it has none.
    pub kind: String,
    pub message_id: Option<String>,
    /// Texts and whole numbers; the broker's own headers are left out.
    pub headers: Map<String, Value>,
    /// The work queue that the broker itself took it from, when its worker died over it again and again.
    pub given_up_in: Option<String>,
    pub body: Vec<u8>,
    returns: i64,
    tag: u64,
}

impl Letter {
    /// A header that is a text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    fn of(delivery: Delivery) -> Self {
        let table = delivery.properties.headers().clone().unwrap_or_default();
        // PostgreSQL's texts hold no NUL, nor does its JSON, in names and values alike.
        let storable = |text: &str| text.replace('\0', "\u{fffd}");
        let mut headers = Map::new();
        for (name, value) in table.inner() {
            if is_of_broker(name.as_str()) {
                continue;
            }
            if let Some(text) = text(value) {
                headers.insert(storable(name.as_str()), storable(&text).into());
            } else if let Some(number) = whole_number(value) {
                headers.insert(storable(name.as_str()), number.into());
            }
        }
        let of_broker = |name: &str| table.inner().get(name);
        let readable = |text: &ShortString| storable(text.as_str());
        Self {
            kind: delivery.properties.kind().as_ref().map(readable).unwrap_or_default(),
            message_id: delivery.properties.message_id().as_ref().map(readable),
            headers,
            given_up_in: of_broker("x-first-death-queue").and_then(text).map(|queue| storable(&queue)),
            body: delivery.data,
            returns: of_broker("x-delivery-count").and_then(whole_number).unwrap_or(0),
            tag: delivery.delivery_tag,
        }
    }
}

fn is_of_broker(name: &str) -> bool {
    ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-opt-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// How many letters are ready in each of these queues; none in one that does not exist.
///
/// # Errors
/// The broker is away.
pub async fn depths(link: &Link, queues: &[&'static str]) -> Result<Vec<u32>, BrokerAway> {
    let mut depths = Vec::with_capacity(queues.len());
    let mut channel = link.channel().await?;
    for queue in queues {
        match depth(&channel, queue).await {
            Ok(depth) => depths.push(depth),
            Err(error) if is_missing(&error) => {
                depths.push(0);
                channel = link.channel().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    close(&channel).await;
    Ok(depths)
}

async fn depth(channel: &Channel, queue: &str) -> Result<u32, lapin::Error> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(answered(channel.queue_declare(queue.into(), passive, FieldTable::default())).await?.message_count())
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404)
}

/// One reading of one queue.
pub struct Reading {
    queue: &'static str,
    channel: Channel,
    consumer: Consumer,
    /// Letters still to come.
    left: u32,
    /// Letters that the queue will have when this is over.
    kept: u32,
    complete: bool,
}

impl Reading {
    /// # Errors
    /// The broker is away or has no such queue.
    pub async fn begin(link: &Link, queue: &'static str) -> Result<Self, BrokerAway> {
        let channel = link.channel().await?;
        let there = depth(&channel, queue).await?;
        answered(channel.basic_qos(MOST, BasicQosOptions::default())).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer =
            answered(channel.basic_consume(queue.into(), ShortString::default(), options, arguments)).await?;
        let left = there.min(u32::from(MOST));
        Ok(Self { queue, channel, consumer, left, kept: there, complete: left == there })
    }

    /// The next letters, at most so many; none when all were seen.
    ///
    /// # Errors
    /// The connection broke: everything is back in the queue.
    pub async fn next(&mut self, most: usize) -> Result<Vec<Letter>, BrokerAway> {
        let mut letters = Vec::new();
        let mut silences = 0;
        while letters.len() < most && self.left > 0 {
            if let Ok(Some(delivery)) = timeout(SILENCE, self.consumer.next()).await {
                letters.push(Letter::of(delivery?));
                self.left -= 1;
                silences = 0;
                continue;
            }
            // A busy broker is waited for. Nothing ready, twice, means that somebody else has taken the rest.
            silences = if depth(&self.channel, self.queue).await? > 0 { 0 } else { silences + 1 };
            if silences > 1 {
                self.kept = self.kept.saturating_sub(self.left);
                self.left = 0;
                self.complete = false;
            }
        }
        Ok(letters)
    }

    /// Takes a letter out of its queue for good.
    ///
    /// # Errors
    /// The connection broke: it is back in the queue.
    pub async fn take(&mut self, letter: &Letter) -> Result<(), BrokerAway> {
        let acked = answered(self.channel.basic_ack(letter.tag, BasicAckOptions::default()));
        crash::around("ack", &letter.kind, acked).await?;
        self.kept = self.kept.saturating_sub(1);
        Ok(())
    }

    /// Puts a letter that came back too often there anew. The copy is confirmed before the letter is taken.
    ///
    /// # Errors
    /// The broker is away, or did not take the copy; then the letter stays as it is.
    pub async fn renew(&mut self, letter: &Letter, publisher: &Publisher) -> Result<(), BrokerAway> {
        if letter.returns < RETURNS_MAX {
            return Ok(());
        }
        let copy = Posting {
            queue: self.queue.to_owned(),
            kind: letter.kind.clone(),
            message_id: letter.message_id.clone(),
            headers: letter.headers.clone(),
            body: letter.body.clone(),
        };
        if publisher.post(vec![copy]).await.iter().all(Result::is_ok) {
            answered(self.channel.basic_ack(letter.tag, BasicAckOptions::default())).await?;
        }
        Ok(())
    }

    /// Gives back what was not taken; says how many letters the queue has now, and whether all of them were seen.
    ///
    /// # Errors
    /// The connection broke: everything is back in the queue.
    pub async fn end(self) -> Result<(u32, bool), BrokerAway> {
        answered(self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default())).await?;
        // Tag 0: everything that is outstanding on this channel.
        answered(self.channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true })).await?;
        // Whoever reads next must find them there. When nothing comes back any more, somebody else has taken the rest.
        let (mut back, mut since) = (depth(&self.channel, self.queue).await?, Instant::now());
        while back < self.kept && since.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = depth(&self.channel, self.queue).await?;
            if now != back {
                (back, since) = (now, Instant::now());
            }
        }
        close(&self.channel).await;
        Ok((self.kept, self.complete))
    }
}

/// A letter on its way to a queue.
#[derive(Debug, Clone)]
pub struct Posting {
    pub queue: String,
    pub kind: String,
    pub message_id: Option<String>,
    pub headers: Map<String, Value>,
    pub body: Vec<u8>,
}

impl Posting {
    /// The headers of a letter that begins anew: its first attempt, with the context and schema it had. `replay` names
    /// the replay and the letter, and stays with the message should it fail again.
    pub fn headers_of_replay(headers: &Map<String, Value>, replay: String) -> Map<String, Value> {
        let mut anew = Map::new();
        for name in ["x-schema", "traceparent"] {
            if let Some(value) = headers.get(name) {
                anew.insert(name.to_owned(), value.clone());
            }
        }
        anew.insert("x-attempt".into(), 1.into());
        anew.insert("x-replay".into(), replay.into());
        anew
    }

    fn outgoing(self) -> Outgoing {
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            let value = match value.as_i64() {
                Some(number) => i32::try_from(number).map_or(AMQPValue::LongLongInt(number), AMQPValue::LongInt),
                None => long(value.as_str().unwrap_or_default()),
            };
            headers.insert(name.as_str().into(), value);
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut properties = BasicProperties::default()
            .with_type(self.kind.into())
            .with_timestamp(u64::try_from(now).unwrap_or(0))
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_headers(headers);
        if let Some(id) = self.message_id {
            properties = properties.with_message_id(id.into());
        }
        Outgoing { exchange: ShortString::default(), routing_key: self.queue.into(), properties, body: self.body }
    }
}

impl Publisher {
    /// Publishes letters, side by side; one answer for each.
    pub async fn post(&self, postings: Vec<Posting>) -> Vec<Result<(), PublishError>> {
        let sends = postings.into_iter().map(|posting| self.send(posting.outgoing()));
        futures_util::future::join_all(sends).await
    }
}
