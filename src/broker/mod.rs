//! RabbitMQ: carries messages and makes them wait. The only place with lapin.
//!
//! - [`topology`]: the queues there must be, and whether they are.
//! - [`envelope`]: how a message looks on the wire.
//! - [`publish`]: a message is with the broker, or we know that it may not be.
//! - [`consume`]: the loop that every worker runs in.
//! - [`dead`]: the dead-letter queues, read without taking.
//! - [`watch`]: how full the queues are, and the canary that shows they are consumed.
//! - [`pulse`]: what consumers have in hand.

mod acks;
mod breaker;
pub mod consume;
pub mod dead;
pub mod envelope;
mod handler;
mod link;
mod permissions;
pub mod publish;
pub mod pulse;
mod settle;
pub mod topology;
pub mod watch;

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;

pub use link::Link;
pub use publish::{PublishError, Publisher};

use crate::setting::BadSetting;

/// What no log filter may switch on: lapin would log a returned message whole, customers' openids included, and each "no"
/// of the broker as an error, which every process hears at its start, as it tries what its account may do.
/// What came of it is told by [`publish`], [`topology`] and [`consume`].
pub const NEVER_LOGGED: [&str; 2] = ["lapin::returned_messages=off", "lapin::channel=off"];

/// How we reach RabbitMQ.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// `amqp://user:password@host:port/vhost`
    pub url: Option<SecretString>,
    /// How long a publish may wait for the broker's confirm before the caller is told "unknown".
    pub confirm_ms: u64,
}

/// WeChat hangs up on a callback after five seconds and customers do not wait longer either: by then we must have
/// answered, though only "unknown, repeat it".
const CONFIRM_MS_MAX: u64 = 4_500;

impl BrokerSettings {
    /// Everything that is wrong but a missing URL; empty when it can be used.
    pub fn problems(&self) -> Vec<BadSetting> {
        if (1..=CONFIRM_MS_MAX).contains(&self.confirm_ms) {
            return Vec::new();
        }
        let what = format!("must be from 1 to {CONFIRM_MS_MAX}: WeChat hangs up on a callback after 5 seconds");
        vec![BadSetting { setting: "broker.confirm_ms".into(), what }]
    }

    pub fn confirm_within(&self) -> Duration {
        Duration::from_millis(self.confirm_ms)
    }
}

/// The broker did not answer, or refused us.
#[derive(Debug, thiserror::Error)]
#[error("RabbitMQ is away: {0}")]
pub struct BrokerAway(#[from] lapin::Error);

/// The two connections of a process. Publishing has its own: when the broker raises an alarm it
/// blocks a publishing connection whole, acknowledgements included.
#[derive(Clone)]
pub struct Broker {
    pub consuming: Arc<Link>,
    pub publisher: Publisher,
    /// What this process's consumers have in hand.
    pub pulses: pulse::Pulses,
    unseen: watch::Unseen,
}

impl Broker {
    /// Starts connecting in the background; `process` names the connections in the broker's lists.
    pub fn start(url: &SecretString, process: &str, confirm_within: Duration) -> Self {
        Self {
            consuming: Arc::new(Link::new(url.clone(), format!("{process} consume"))),
            publisher: Publisher::start(Link::new(url.clone(), format!("{process} publish")), confirm_within),
            pulses: pulse::Pulses::default(),
            unseen: watch::Unseen::default(),
        }
    }

    /// Closes both connections, once nothing more will be taken or published.
    pub async fn close(&self) {
        self.consuming.close().await;
        self.publisher.close().await;
    }

    /// Whether messages can be sent and taken now.
    pub fn is_ready(&self) -> bool {
        self.publisher.is_ready() && self.consuming.is_up()
    }
}
