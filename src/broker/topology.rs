//! The queues and exchanges there must be: `rabbitmq/definitions.json`, in RabbitMQ's own import format,
//! is the only source. Every process checks at start what it uses; `holdfast topology apply` declares what is missing.

use std::{collections::BTreeSet, fmt, time::Duration};

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    BrokerAway, Link,
    link::{ANSWERS_WITHIN, answered_within, close},
    permissions,
};

/// A new queue begins with an election among its replicas, which a busy broker needs seconds for.
const MADE_WITHIN: Duration = Duration::from_secs(30);

const DEFINITIONS: &str = include_str!("../../rabbitmq/definitions.json");

/// What `rabbitmq/definitions.json` says, the virtual host left out: the connection chooses it.
#[derive(Debug, Deserialize)]
pub struct Topology {
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<QueueDefinition>,
    pub bindings: Vec<Binding>,
}

#[derive(Debug, Deserialize)]
pub struct Exchange {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub durable: bool,
    pub arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct QueueDefinition {
    pub name: String,
    pub durable: bool,
    pub arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct Binding {
    /// Exchange.
    pub source: String,
    /// Queue.
    pub destination: String,
    pub routing_key: String,
}

/// One way in which the broker is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum Difference {
    Missing {
        what: &'static str,
        name: String,
    },
    /// `broker_says` names the argument that differs.
    Different {
        what: &'static str,
        name: String,
        broker_says: String,
    },
    /// Our account may not declare it.
    Refused {
        what: &'static str,
        name: String,
        broker_says: String,
    },
    /// Our account lacks a right that the process needs.
    NoRight {
        account: String,
        right: Right,
        what: &'static str,
        name: String,
    },
}

/// A right that RabbitMQ gives for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    Configure,
    Write,
    Read,
}

impl Right {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What a process does at the broker. Names of queues and exchanges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// Queues that it consumes from its start to its end: needs the right to read them.
    pub consumes: BTreeSet<String>,
    /// Queues that it reads on demand: needs the right to read them.
    pub reads: BTreeSet<String>,
    /// Queues that it publishes to through the default exchange, for which no right of the queue's own is needed.
    pub publishes_to: BTreeSet<String>,
    /// Delay exchanges that it publishes to, each with the queue of the same name: needs the right to write to them.
    pub waits_in: BTreeSet<&'static str>,
    /// Declares what is missing: needs every right on everything.
    pub declares: bool,
}

impl Uses {
    /// What a process does that is several at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.consumes.extend(other.consumes);
        self.reads.extend(other.reads);
        self.publishes_to.extend(other.publishes_to);
        self.waits_in.extend(other.waits_in);
        self.declares |= other.declares;
        self
    }

    fn queue(&self, name: &str) -> bool {
        self.declares
            || [&self.consumes, &self.reads, &self.publishes_to].iter().any(|names| names.contains(name))
            || self.waits_in.contains(name)
    }

    /// The right without which the process cannot do its work there; none where it needs no right of that name's own.
    fn needed(&self, what: &'static str, name: &str) -> Option<Right> {
        if self.declares {
            Some(Right::Configure)
        } else if what == QUEUE && (self.consumes.contains(name) || self.reads.contains(name)) {
            Some(Right::Read)
        } else {
            self.waits_in.contains(name).then_some(Right::Write)
        }
    }
}

const QUEUE: &str = "queue";
const EXCHANGE: &str = "exchange";

/// What a look at the broker gave.
#[derive(Debug)]
pub struct Survey {
    pub differences: Vec<Difference>,
    /// Kind and name of what this account may not look at (RabbitMQ from 4.2.6 on): nothing is known of it.
    pub unseen: Vec<(&'static str, String)>,
    /// Whether arguments were compared, which only an account can that may declare.
    pub compared: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, name } => write!(f, "{what} {name} is missing"),
            Self::NoRight { account, right, what, name } => write!(
                f,
                "the account {account} lacks the right \"{}\" on {what} {name} at RabbitMQ; rabbitmq/permissions.json gives it",
                right.as_str()
            ),
            Self::Refused { what, name, broker_says } => write!(f, "{what} {name} may not be declared: {broker_says}"),
            Self::Different { what, name, broker_says } => write!(f, "{what} {name} is different: {broker_says}"),
        }
    }
}

/// Exists as written, does not exist, or exists otherwise.
enum Found {
    Same,
    Missing,
    Different(String),
    /// Our account may not declare it. With the broker's words.
    Refused(String),
}

impl Topology {
    /// The topology that this release needs.
    pub fn required() -> Self {
        serde_json::from_str(DEFINITIONS).expect("rabbitmq/definitions.json is checked by a test")
    }

    /// The part of it that a process with these uses meets.
    #[must_use]
    pub fn used_by(mut self, uses: &Uses) -> Self {
        self.exchanges.retain(|exchange| uses.declares || uses.waits_in.contains(exchange.name.as_str()));
        self.queues.retain(|queue| uses.queue(&queue.name));
        let exchanges: BTreeSet<&str> = self.exchanges.iter().map(|exchange| exchange.name.as_str()).collect();
        self.bindings.retain(|binding| exchanges.contains(binding.source.as_str()));
        self
    }

    /// Compares the broker with what must be there. Changes nothing, but for bindings: AMQP cannot ask
    /// for one, so they are asserted, which on an intact broker does nothing. An account that may declare nothing, as
    /// most processes' is, learns only that all is there; whether it is as written, `reconcile` goes on comparing.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn survey(&self, link: &Link) -> Result<Survey, BrokerAway> {
        let mut inquiry = Inquiry { link, channel: None };
        let mut differences = Vec::new();
        let mut unseen = Vec::new();
        // Each refusal leaves an error in the broker's log: not asked where the answer is known.
        let mut may_declare = permissions::may_declare(&link.account());
        for exchange in &self.exchanges {
            let found = match inquiry.exchange(exchange, true).await? {
                Found::Same if may_declare => inquiry.exchange(exchange, false).await?.unless_refused(&mut may_declare),
                Found::Refused(_) => {
                    unseen.push((EXCHANGE, exchange.name.clone()));
                    continue;
                }
                otherwise => otherwise,
            };
            differences.extend(found.difference(EXCHANGE, &exchange.name));
        }
        for queue in &self.queues {
            let found = match inquiry.queue(queue, true).await? {
                Found::Same if may_declare => inquiry.queue(queue, false).await?.unless_refused(&mut may_declare),
                Found::Refused(_) => {
                    unseen.push((QUEUE, queue.name.clone()));
                    continue;
                }
                otherwise => otherwise,
            };
            differences.extend(found.difference(QUEUE, &queue.name));
        }
        if differences.is_empty() && unseen.is_empty() && may_declare {
            inquiry.bind(&self.bindings).await?;
        }
        inquiry.end().await;
        Ok(Survey { differences, unseen, compared: may_declare })
    }

    /// Looks whether a process can do its work at this broker: what it uses is there, and its account has the rights
    /// that it needs. What another process uses, and what this account may not look at, is no difference.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn check(uses: &Uses, link: &Link) -> Result<Vec<Difference>, BrokerAway> {
        let Survey { mut differences, unseen, compared: _ } = Self::required().used_by(uses).survey(link).await?;
        let mut lacking = BTreeSet::new();
        for (what, name) in unseen {
            if let Some(right) = uses.needed(what, &name) {
                lacking.insert((right.as_str(), what, name.clone()));
                differences.push(Difference::NoRight { account: link.account(), right, what, name });
            }
        }
        for (right, what, name) in permissions::lacking(uses, link).await? {
            if lacking.insert((right.as_str(), what, name.clone())) {
                differences.push(Difference::NoRight { account: link.account(), right, what, name });
            }
        }
        Ok(differences)
    }

    /// Declares what is missing and tells what exists otherwise: that is never deleted from here, since
    /// there may be messages in it.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn apply(&self, link: &Link) -> Result<Vec<Difference>, BrokerAway> {
        let mut inquiry = Inquiry { link, channel: None };
        let mut differences = Vec::new();
        for exchange in &self.exchanges {
            differences.extend(inquiry.exchange(exchange, false).await?.difference(EXCHANGE, &exchange.name));
        }
        for queue in &self.queues {
            differences.extend(inquiry.queue(queue, false).await?.difference(QUEUE, &queue.name));
        }
        // What differs is there all the same.
        if !differences.iter().any(|difference| matches!(difference, Difference::Refused { .. })) {
            inquiry.bind(&self.bindings).await?;
        }
        inquiry.end().await;
        Ok(differences)
    }
}

/// Questions to the broker, all on one channel until it answers "no": with that it closes the channel.
struct Inquiry<'a> {
    link: &'a Link,
    channel: Option<Channel>,
}

impl Inquiry<'_> {
    async fn channel(&mut self) -> Result<&Channel, lapin::Error> {
        match &mut self.channel {
            Some(channel) => Ok(channel),
            none => Ok(none.insert(self.link.channel().await?)),
        }
    }

    async fn exchange(&mut self, exchange: &Exchange, passive: bool) -> Result<Found, lapin::Error> {
        let kind = match exchange.kind.as_str() {
            "fanout" => ExchangeKind::Fanout,
            "direct" => ExchangeKind::Direct,
            "topic" => ExchangeKind::Topic,
            other => ExchangeKind::Custom(other.to_owned()),
        };
        let options = ExchangeDeclareOptions { passive, durable: exchange.durable, ..Default::default() };
        let (name, arguments) = (exchange.name.as_str().into(), table(&exchange.arguments));
        let declared = self.channel().await?.exchange_declare(name, kind, options, arguments);
        let declared = answered_within(patience(passive), declared).await;
        self.found(declared)
    }

    async fn queue(&mut self, queue: &QueueDefinition, passive: bool) -> Result<Found, lapin::Error> {
        let options = QueueDeclareOptions { passive, durable: queue.durable, ..Default::default() };
        let (name, arguments) = (queue.name.as_str().into(), table(&queue.arguments));
        let declared = self.channel().await?.queue_declare(name, options, arguments);
        let declared = answered_within(patience(passive), declared).await;
        self.found(declared.map(drop))
    }

    fn found(&mut self, declared: Result<(), lapin::Error>) -> Result<Found, lapin::Error> {
        let Err(error) = declared else { return Ok(Found::Same) };
        self.channel = None;
        match error.kind() {
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404 => Ok(Found::Missing),
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 403 => {
                Ok(Found::Refused(refusal.get_message().to_string()))
            }
            // 406: other arguments, or (503, COMMAND_INVALID on some releases) another exchange type.
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 406 => {
                Ok(Found::Different(refusal.get_message().to_string()))
            }
            _ => Err(error),
        }
    }

    async fn bind(&mut self, bindings: &[Binding]) -> Result<(), lapin::Error> {
        for binding in bindings {
            let bound = self.channel().await?.queue_bind(
                binding.destination.as_str().into(),
                binding.source.as_str().into(),
                binding.routing_key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            answered_within(MADE_WITHIN, bound).await?;
        }
        Ok(())
    }

    async fn end(self) {
        if let Some(channel) = self.channel {
            close(&channel).await;
        }
    }
}

impl Found {
    fn difference(self, what: &'static str, name: &str) -> Option<Difference> {
        match self {
            Self::Same => None,
            Self::Missing => Some(Difference::Missing { what, name: name.to_owned() }),
            Self::Different(broker_says) => Some(Difference::Different { what, name: name.to_owned(), broker_says }),
            Self::Refused(broker_says) => Some(Difference::Refused { what, name: name.to_owned(), broker_says }),
        }
    }

    /// Of something that is there.
    fn unless_refused(self, may_declare: &mut bool) -> Self {
        if matches!(self, Self::Refused(_)) {
            *may_declare = false;
            return Self::Same;
        }
        self
    }
}

/// How long the broker may take to look, or to make what is missing.
fn patience(passive: bool) -> Duration {
    if passive { ANSWERS_WITHIN } else { MADE_WITHIN }
}

fn table(arguments: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Value::Bool(yes) => AMQPValue::Boolean(*yes),
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap_or(i64::MAX)),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Null | Value::Array(_) | Value::Object(_) => AMQPValue::Void,
        };
        table.insert(name.as_str().into(), value);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{
        message::{Alarm, Queue},
        retry::Tier,
    };

    #[test]
    fn definitions_and_code_name_the_same_queues() {
        let topology = Topology::required();
        let queues: BTreeSet<String> = topology.queues.iter().map(|queue| queue.name.clone()).collect();
        let mut named: BTreeSet<String> = Tier::ALL.iter().map(|tier| tier.name().to_owned()).collect();
        named.extend(Alarm::ALL.iter().filter_map(|alarm| alarm.delay()).map(ToOwned::to_owned));
        for queue in Queue::all() {
            named.insert(queue.name());
            named.insert(queue.dead().to_owned());
        }
        assert_eq!(queues, named);
    }

    #[test]
    fn a_delay_queue_waits_as_long_as_its_tier_says() {
        let topology = Topology::required();
        for tier in Tier::ALL {
            let queue = topology.queues.iter().find(|queue| queue.name == tier.name()).unwrap();
            let ttl = queue.arguments["x-message-ttl"].as_u64().unwrap();
            assert_eq!(u128::from(ttl), tier.duration().as_millis(), "{}", queue.name);
        }
    }

    #[test]
    fn no_queue_may_drop_a_message() {
        for queue in Topology::required().queues {
            let argument = |name: &str| queue.arguments.get(name).and_then(Value::as_str);
            assert!(queue.durable, "{}", queue.name);
            assert_eq!(argument("x-queue-type"), Some("quorum"), "{}", queue.name);
            assert_eq!(argument("x-overflow"), Some("reject-publish"), "{}", queue.name);
            if argument("x-dead-letter-exchange").is_some() {
                assert_eq!(argument("x-dead-letter-strategy"), Some("at-least-once"), "{}", queue.name);
            }
        }
    }
}
