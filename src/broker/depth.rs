//! How many messages lie ready in each queue, and how many consumers it has: all that AMQP itself tells, so that
//! nobody needs the broker's management plugin.

use lapin::{ErrorKind, options::QueueDeclareOptions, types::FieldTable};

use super::{BrokerAway, Link};

/// One queue as the broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Waiting to be delivered; what workers have in hand is not counted.
    pub ready: u32,
    pub consumers: u32,
}

/// The depth of each queue, in the order asked for; `None` for a queue that is not there.
///
/// # Errors
/// The broker is away.
pub async fn depths(link: &Link, queues: &[&str]) -> Result<Vec<Option<Depth>>, BrokerAway> {
    let mut channel = link.channel().await?;
    let mut depths = Vec::new();
    for queue in queues {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare((*queue).into(), options, FieldTable::default()).await {
            Ok(there) => {
                depths.push(Some(Depth { ready: there.message_count(), consumers: there.consumer_count() }));
            }
            // The broker closes the channel over a queue that is missing.
            Err(error) if is_not_found(&error) => {
                depths.push(None);
                channel = link.channel().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let _ = channel.close(200, "done".into()).await;
    Ok(depths)
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404)
}
