//! What the broker can tell of its queues, and the canary: a message of the loop's own that shows a queue's consumer
//! still takes what it is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};
use time::OffsetDateTime;

use super::{
    Broker, BrokerAway, PublishError,
    envelope::Outgoing,
    link::{answered, close},
    permissions,
    topology::Topology,
};
use crate::domain::{message::Queue, retry::Tier};

/// The AMQP `type` of a canary. No handler ever sees one.
const CANARY: &str = "canary";

/// One queue as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    pub queue: String,
    /// Messages that wait. Those in a consumer's hands are not among them.
    pub ready: u32,
    pub consumers: u32,
}

/// What the broker tells of all queues of the topology; one that is missing is in neither list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depths {
    pub told: Vec<Depth>,
    /// Queues that this account may not look at (RabbitMQ from 4.2.6 on).
    pub unseen: BTreeSet<String>,
}

/// What an account may not look at is asked for again after that. Each refusal closes a channel and leaves an error in the
/// broker's log.
const UNSEEN_FOR: Duration = Duration::from_secs(600);

/// Queues that the broker refused to tell of, and when.
#[derive(Debug, Clone, Default)]
pub struct Unseen(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Unseen {
    fn holds(&self, queue: &str) -> bool {
        let unseen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.get(queue).is_some_and(|since| since.elapsed() < UNSEEN_FOR)
    }

    fn note(&self, queue: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned(), Instant::now());
    }
}

impl Broker {
    /// How full every queue of the topology is.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn depths(&self) -> Result<Depths, BrokerAway> {
        let passive = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
        let mut depths = Depths::default();
        let mut channel = self.consuming.channel().await?;
        for queue in Topology::required().queues {
            if self.unseen.holds(&queue.name) {
                depths.unseen.insert(queue.name);
                continue;
            }
            match answered(channel.queue_declare(queue.name.as_str().into(), passive, FieldTable::default())).await {
                Ok(found) => depths.told.push(Depth {
                    queue: queue.name,
                    ready: found.message_count(),
                    consumers: found.consumer_count(),
                }),
                // The broker closes the channel on a "no".
                Err(error) => {
                    if permissions::is_want_of_right(&error) {
                        self.unseen.note(&queue.name);
                        depths.unseen.insert(queue.name);
                    }
                    channel = self.consuming.channel().await?;
                }
            }
        }
        close(&channel).await;
        Ok(depths)
    }

    /// Sends a canary to a work queue, by way of the shortest delay: it shows that delays end, too.
    ///
    /// # Errors
    /// The broker did not confirm it.
    pub async fn send_canary(&self, queue: Queue, now: OffsetDateTime) -> Result<(), PublishError> {
        let properties = BasicProperties::default()
            .with_message_id(format!("canary/{}/{}", queue.name(), now.unix_timestamp()).into())
            .with_type(CANARY.into())
            .with_timestamp(u64::try_from(now.unix_timestamp()).unwrap_or(0))
            .with_delivery_mode(2);
        let canary = Outgoing {
            exchange: Tier::S1.name().into(),
            routing_key: ShortString::from(queue.name()),
            properties,
            body: Vec::new(),
        };
        self.publisher.send(canary).await
    }
}

pub(super) fn is_canary(properties: &BasicProperties) -> bool {
    properties.kind().as_ref().is_some_and(|kind| kind.as_str() == CANARY)
}
