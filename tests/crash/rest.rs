//! What must be true when a story is over and everything has come to rest.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use holdfast::domain::notification::Kind;
use lapin::{Channel, Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    crew::Crew,
    stack::Stack,
    tale::{Messages, Tale},
    twin::WAITS_FOR_THE_OTHER,
};

/// Nobody passes a point for so long when there is nothing left to do.
pub(crate) const QUIET: Duration = Duration::from_millis(150);

/// Looks at queues without taking anything: one connection for all looks.
pub(crate) struct Watch {
    channel: Channel,
    _connection: Connection,
}

impl Watch {
    pub(crate) async fn of(stack: &Stack) -> Self {
        let connection = Connection::connect(&stack.amqp_url, ConnectionProperties::default()).await;
        let connection = connection.expect("the broker");
        Self { channel: connection.create_channel().await.expect("a channel"), _connection: connection }
    }

    /// Whether nothing waits to be taken, now or in a moment.
    async fn is_empty(&self) -> bool {
        let others = ["prepay", "payments", "expiry", "refunds", "notifications", "delay.1s", "delay.5s"];
        for queue in queues_of("seats").into_iter().chain(others.map(str::to_owned)) {
            if self.look(&queue).await.message_count() > 0 {
                return false;
            }
        }
        true
    }

    /// Whether a process consumes each queue of this worker, and no message is ready in one of them.
    pub(crate) async fn are_taken(&self, worker: &str) -> bool {
        for queue in queues_of(worker) {
            let seen = self.look(&queue).await;
            if seen.consumer_count() == 0 || seen.message_count() > 0 {
                return false;
            }
        }
        true
    }

    async fn look(&self, queue: &str) -> lapin::Queue {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("the queue")
    }
}

fn queues_of(worker: &str) -> Vec<String> {
    if worker == "seats" { (0..8).map(|lane| format!("orders.{lane}")).collect() } else { vec![worker.to_owned()] }
}

/// Waits until nothing is under way: in no queue, at no worker, on no callback, for no customer.
pub(crate) async fn come_to_rest(tale: &Tale<'_>, watch: &Watch) {
    let last = RefCell::new((passed(tale.crew), Instant::now()));
    let is_quiet = || {
        let (now, mut last) = (passed(tale.crew), last.borrow_mut());
        if now != last.0 {
            *last = (now, Instant::now());
        }
        last.1.elapsed() >= if tale.crew.the_first_is_done() { QUIET } else { WAITS_FOR_THE_OTHER }
    };
    tale.until("everything has come to rest", async || {
        if !is_quiet() || !watch.is_empty().await {
            return None;
        }
        let pending = "SELECT count(*) FROM notifications WHERE status = 'pending'";
        (tale.stack.count(pending).await == 0 && callbacks_under_way(tale.stack).await == 0).then_some(())
    })
    .await;
}

/// How far everybody got, but for the sweep, which looks again and again.
fn passed(crew: &Crew<'_>) -> BTreeMap<&'static str, u64> {
    let mut passed = crew.recorded();
    passed.retain(|process, _| !matches!(*process, "reconcile" | "twin of reconcile"));
    passed
}

async fn callbacks_under_way(stack: &Stack) -> i64 {
    let health = stack.http.get(format!("{}/healthz", stack.simulator.url)).send().await.expect("the simulator");
    let health: Value = health.json().await.expect("JSON");
    health["callbacks_under_way"].as_i64().expect("a number")
}

/// The promises in the books, WeChat's ledger, and what people were told and are asked to look at.
pub(crate) async fn check(tale: Tale<'_>, began: OffsetDateTime) {
    let stack = tale.stack;
    let (expected, mut cases) = tale.expected();
    let ledger = stack.ledger().await;
    check_messages(&ledger, expected);
    check_refunds(&ledger);
    let mut opened: Vec<String> = sqlx::query_scalar("SELECT kind FROM cases WHERE opened_at >= $1 ORDER BY kind")
        .bind(began)
        .fetch_all(&stack.db)
        .await
        .expect("cases");
    opened.sort_unstable();
    cases.sort_unstable();
    assert_eq!(opened, cases, "cases that were opened");
    stack.check_money().await;
}

/// Each guest was told what they had to be told, once.
fn check_messages(ledger: &Value, expected: Vec<Messages>) {
    let messages = ledger["messages"].as_array().expect("messages");
    let template = |kind: &Kind| format!("template-of-{}", kind.as_str());
    for Messages { user, expected, possible } in expected {
        let mut expected: Vec<String> = expected.iter().map(template).collect();
        let theirs = messages.iter().filter(|message| message["touser"] == json!(format!("openid-{user}")));
        let mut told: Vec<String> = theirs.map(|message| text(message, "template_id")).collect();
        for possible in possible.iter().map(template) {
            let count = |list: &[String]| list.iter().filter(|one| **one == possible).count();
            if count(&told) > count(&expected) {
                expected.push(possible);
            }
        }
        expected.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, expected, "what {user} was told");
    }
}

/// WeChat gave nobody more than they had paid.
fn check_refunds(ledger: &Value) {
    let mut left: BTreeMap<String, i64> = BTreeMap::new();
    for payment in ledger["payments"].as_array().expect("payments") {
        *left.entry(text(payment, "out_trade_no")).or_default() += payment["total"].as_i64().expect("fen");
    }
    let mut numbers = BTreeSet::new();
    for refund in ledger["refunds"].as_array().expect("refunds") {
        assert!(numbers.insert(text(refund, "out_refund_no")), "a refund twice: {refund}");
        if refund["status"] == "SUCCESS" {
            *left.entry(text(refund, "out_trade_no")).or_default() -= refund["refund"].as_i64().expect("fen");
        }
    }
    let overdrawn: Vec<_> = left.iter().filter(|(_, left)| **left < 0).collect();
    assert!(overdrawn.is_empty(), "more was given back than paid: {overdrawn:?}");
}

fn text(entry: &Value, member: &str) -> String {
    entry[member].as_str().unwrap_or_else(|| panic!("{member} of {entry}")).to_owned()
}
