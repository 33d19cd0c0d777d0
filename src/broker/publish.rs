//! Publishing, confirmed: a message is with the broker, or we know that it may not be.

use std::time::Duration;

use super::envelope::TraceParent;
use crate::domain::message::Message;

/// Sends messages and waits for the broker's word. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {}

/// Why a message is not known to be with the broker.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No confirm within the time limit: it may or may not be there. Publishing again is safe.
    #[error("the broker did not confirm within {0:?}")]
    Unconfirmed(Duration),
    /// The broker refused it: its queue is full or missing.
    #[error("the broker refused it: {0}")]
    Refused(String),
}

impl Publisher {
    /// Publishes to the message's own queue; done when the broker has it safely.
    pub async fn publish(
        &self,
        _message: &Message,
        _trace: &TraceParent,
    ) -> Result<(), PublishError> {
        unreachable!("replaced by the next commit")
    }

    /// Whether the connection is up and not blocked by an alarm.
    pub fn is_ready(&self) -> bool {
        false
    }
}
