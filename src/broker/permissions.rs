//! Which rights an account has at the broker, found out at the start of a process instead of at its first order.
//!
//! AMQP has no question for that. Each probe here is an act that the broker must refuse for its form, or that reaches
//! nothing; only its refusal for want of a right (403) tells. The right to read a queue that is consumed all the time is shown by
//! the consumer itself (`consume`).

use std::{collections::BTreeMap, sync::LazyLock};

use lapin::{
    BasicProperties, Channel, ErrorKind,
    options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::Deserialize;

use super::{
    BrokerAway, Link,
    link::{answered, close},
    topology::{Right, Uses},
};

/// A routing key without a queue. Visible in the broker's log and traces only.
const NOWHERE: &str = "holdfast.start-check";
/// The name by which RabbitMQ knows the exchange without one, in its permissions.
const DEFAULT_EXCHANGE: &str = "amq.default";

#[derive(Deserialize)]
struct Permissions {
    permissions: Vec<Permission>,
}

#[derive(Deserialize)]
struct Permission {
    user: String,
    configure: String,
}

/// Whether an account may declare anything, as `rabbitmq/permissions.json` gives it; true for an account that is not in there.
pub(super) fn may_declare(account: &str) -> bool {
    static CONFIGURE: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
        let all: Permissions = serde_json::from_str(include_str!("../../rabbitmq/permissions.json"))
            .expect("rabbitmq/permissions.json is checked by a test");
        all.permissions.into_iter().map(|permission| (permission.user, permission.configure)).collect()
    });
    CONFIGURE.get(account).is_none_or(|configure| configure != "^$")
}

/// The rights that the account lacks for these uses, as far as a probe can tell without an effect: right, kind and name.
///
/// # Errors
/// The broker is away.
pub(super) async fn lacking(uses: &Uses, link: &Link) -> Result<Vec<(Right, &'static str, String)>, BrokerAway> {
    let mut lacking = Vec::new();
    if !may_publish(link, "", BasicProperties::default()).await? {
        lacking.push((Right::Write, "exchange", DEFAULT_EXCHANGE.to_owned()));
    }
    // One stands for all: each costs an error in the broker's log, and a newer broker has told of each already.
    if let Some(exchange) = uses.waits_in.first() {
        // Refused for its form by every release, and by the name of another user as well (but for an impersonator).
        let unusable = BasicProperties::default().with_expiration("never".into()).with_user_id(NOWHERE.into());
        if !may_publish(link, exchange, unusable).await? {
            lacking.push((Right::Write, "exchange", (*exchange).to_owned()));
        }
    }
    for queue in &uses.reads {
        if !may_read(link, queue).await? {
            lacking.push((Right::Read, "queue", queue.clone()));
        }
    }
    Ok(lacking)
}

/// Publishes what can reach no queue: the default exchange returns it, any other refuses its properties.
async fn may_publish(link: &Link, exchange: &str, properties: BasicProperties) -> Result<bool, BrokerAway> {
    let channel = link.channel().await?;
    let published = answered(async {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        channel.basic_publish(exchange.into(), NOWHERE.into(), options, &[], properties).await?.await
    });
    told(&channel, published.await.map(drop)).await
}

/// Takes from an empty queue. From one with messages it consumes with an argument of the wrong type, since a message
/// that is taken and given back counts as a failed delivery.
async fn may_read(link: &Link, queue: &str) -> Result<bool, BrokerAway> {
    let channel = link.channel().await?;
    let read = answered(async {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
        if found.message_count() == 0 {
            return channel.basic_get(queue.into(), BasicGetOptions::default()).await.map(drop);
        }
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongString("no number".into()));
        let options = BasicConsumeOptions::default();
        channel.basic_consume(queue.into(), ShortString::default(), options, arguments).await.map(drop)
    });
    told(&channel, read.await).await
}

/// Any answer but a 403 shows the right. What else is wrong there, the comparison of the topology tells.
async fn told(channel: &Channel, answer: Result<(), lapin::Error>) -> Result<bool, BrokerAway> {
    match answer {
        Ok(()) => {
            close(channel).await;
            Ok(true)
        }
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(refusal) if error.is_amqp_soft_error() => Ok(refusal.get_id() != 403),
            _ => Err(error.into()),
        },
    }
}

/// Whether the broker refused an act for want of a right: 403 stands for an exclusive use as well.
pub(super) fn is_want_of_right(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal)
        if refusal.get_id() == 403 && refusal.get_message().as_str().contains("refused for user"))
}
