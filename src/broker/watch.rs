//! What the broker can tell of its queues, and the canary: a message of the loop's own that shows a queue's consumer
//! still takes what it is sent.

use lapin::{
    BasicProperties,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};
use time::OffsetDateTime;

use super::{Broker, BrokerAway, PublishError, envelope::Outgoing, topology::Topology};
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

impl Broker {
    /// How full every queue of the topology is; one that is missing is left out.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn depths(&self) -> Result<Vec<Depth>, BrokerAway> {
        let passive = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
        let mut depths = Vec::new();
        let mut channel = self.consuming.channel().await?;
        for queue in Topology::required().queues {
            match channel.queue_declare(queue.name.as_str().into(), passive, FieldTable::default()).await {
                Ok(found) => depths.push(Depth {
                    queue: queue.name,
                    ready: found.message_count(),
                    consumers: found.consumer_count(),
                }),
                // The broker closes the channel on a "no".
                Err(_) => channel = self.consuming.channel().await?,
            }
        }
        let _ = channel.close(200, "done".into()).await;
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
