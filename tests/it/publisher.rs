//! The broker's word reaches the one it is meant for: thousands of publishes side by side, some to a queue that is
//! missing, some to one that is full.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use holdfast::{
    broker::{Broker, PublishError},
    domain::{
        ids::OrderId,
        message::{Alarm, Message, NotificationDue, OrderAlarm, OrderHeld},
        notification::Kind,
    },
};
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::stack::server_resources::VirtualHost;

const TASKS: usize = 20;
const EACH: usize = 1_000;
const ROOM: u32 = 2_000;

/// A broker with a queue that takes everything (`notifications`), one with room for some (`prepay`), an exchange
/// that leads nowhere (`delay.hold`), and one that is not there (`delay.payment`).
struct Neighbour {
    channel: Channel,
    publisher: Broker,
    _host: VirtualHost,
}

impl Neighbour {
    async fn start() -> Self {
        let host = VirtualHost::make().await;
        let connection = Connection::connect(&host.amqp_url, ConnectionProperties::default()).await.expect("a broker");
        let channel = connection.create_channel().await.expect("a channel");
        for (queue, room) in [("notifications", 1_000_000), ("prepay", ROOM)] {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue.into(), options, arguments(room)).await.expect("a queue");
        }
        let hold = Alarm::Hold.delay().expect("it waits").into();
        channel
            .exchange_declare(hold, ExchangeKind::Fanout, Default::default(), FieldTable::default())
            .await
            .expect("an exchange");
        let publisher = Broker::start(&host.amqp_url.clone().into(), "publisher test", Duration::from_secs(20));
        Self { channel, publisher, _host: host }
    }

    /// How often each message is in the queue, by its id; the queue is empty afterwards.
    async fn take_all(&self, queue: &str) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for id in self.take_in_order(queue).await {
            *found.entry(id).or_default() += 1;
        }
        found
    }

    async fn take_in_order(&self, queue: &str) -> Vec<String> {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let mut left =
            self.channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("it").message_count();
        let consume =
            self.channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let mut deliveries = consume.await.expect("a consumer");
        let mut found = Vec::new();
        while left > 0 {
            let delivery = deliveries.next().await.expect("open").expect("a delivery");
            delivery.ack(BasicAckOptions::default()).await.expect("acknowledged");
            found.push(delivery.properties.message_id().clone().expect("an id").to_string());
            left -= 1;
        }
        found
    }
}

fn arguments(room: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(room.cast_signed()));
    arguments
}

fn order(number: usize) -> OrderId {
    OrderId::try_from(format!("hf{number:08}")).expect("an id")
}

fn to_the_open_queue(number: usize) -> Message {
    Message::NotificationDue(NotificationDue { order_id: order(number), kind: Kind::Refunded })
}

fn to_the_small_queue(number: usize) -> Message {
    Message::OrderHeld(OrderHeld { order_id: order(number) })
}

fn to_nowhere(number: usize, alarm: Alarm) -> Message {
    Message::OrderAlarm(OrderAlarm { order_id: order(number), alarm, after_ms: 600_000 })
}

/// Publishes from many tasks at once; each message with its answer.
async fn publish_all(broker: &Broker, message: fn(usize) -> Message) -> Vec<(Message, Result<(), PublishError>)> {
    let tasks = (0..TASKS).map(|task| {
        let publisher = broker.publisher.clone();
        tokio::spawn(async move {
            let sends = (0..EACH).map(|n| message(task * EACH + n)).map(async |message| {
                let answer = publisher.publish(&message).await;
                (message, answer)
            });
            join_all(sends).await
        })
    });
    join_all(tasks).await.into_iter().flat_map(|task| task.expect("a task")).collect()
}

fn confirmed(answers: &[(Message, Result<(), PublishError>)], kind: &str) -> BTreeSet<String> {
    let confirmed = answers.iter().filter(|(message, answer)| message.kind() == kind && answer.is_ok());
    confirmed.map(|(message, _)| message.key()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_publish_gets_its_own_answer() {
    let neighbour = Neighbour::start().await;
    let answers = publish_all(&neighbour.publisher, |number| match number % 5 {
        0 => to_nowhere(number, Alarm::Hold),
        1 | 2 => to_the_small_queue(number),
        _ => to_the_open_queue(number),
    })
    .await;

    assert_eq!(answers.len(), TASKS * EACH, "none hangs");
    for (message, answer) in &answers {
        match (message, answer) {
            (Message::OrderAlarm(_), Err(PublishError::Refused("its queue is missing"))) => {}
            (Message::OrderHeld(_), Ok(()) | Err(PublishError::Refused("its queue is full or has no leader"))) => {}
            (Message::NotificationDue(_), Ok(())) => {}
            _ => panic!("{} was answered {answer:?}", message.key()),
        }
    }
    for (queue, kind) in [("notifications", "notification.due"), ("prepay", "order.held")] {
        let found = neighbour.take_all(queue).await;
        let once = confirmed(&answers, kind).into_iter().map(|id| (id, 1)).collect();
        assert!(found == once, "{queue} holds {} messages, {} were confirmed", found.len(), once.len());
    }
    assert!(confirmed(&answers, "order.held").len() < TASKS * EACH * 2 / 5, "the small queue was full");
}

/// A missing exchange closes the channel under everybody's publishes; only those that meant it are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_exchange_is_the_affair_of_those_who_publish_to_it() {
    let neighbour = Neighbour::start().await;
    let answers = publish_all(&neighbour.publisher, |number| match number % 1_000 {
        500 => to_nowhere(number, Alarm::Payment),
        _ => to_the_open_queue(number),
    })
    .await;

    for (message, answer) in &answers {
        match (message, answer) {
            (Message::OrderAlarm(_), Err(PublishError::Refused(_))) | (Message::NotificationDue(_), Ok(())) => {}
            _ => panic!("{} was answered {answer:?}", message.key()),
        }
    }
    let found = neighbour.take_all("notifications").await;
    let there: BTreeSet<String> = found.keys().cloned().collect();
    assert!(there == confirmed(&answers, "notification.due"), "what was confirmed is there");
    let again = found.values().map(|times| times - 1).sum::<usize>();
    assert!(again < 20 * 256, "{again} were published again: more than the windows that were cut off");
}

/// More than a window of them, and a window goes out side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_queue_keep_their_order() {
    let neighbour = Neighbour::start().await;
    let messages: Vec<Message> = (0..EACH).map(to_the_open_queue).collect();
    // Tokio would make one task that sends so much pause, and what paused queue up anew.
    let published = tokio::task::unconstrained(neighbour.publisher.publisher.publish_all(&messages));
    published.await.expect("confirmed");
    let sent: Vec<String> = messages.iter().map(Message::key).collect();
    assert!(neighbour.take_in_order("notifications").await == sent, "they came in another order");
}
