//! What `reconcile` must heal: queues that are gone, messages that got lost, a leader that died.

use std::{
    collections::BTreeSet,
    fs::File,
    process::{Child, Command},
};

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::{
    queues::Queues,
    stack::{Choice, PRICE_FEN, Stack, WORKERS, checkout, free_port, until},
};

/// A stack whose sweeps do not wait.
fn eager(roles: Vec<&'static str>) -> Choice {
    let settings = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "0".to_owned()),
        ("HOLDFAST_RECONCILE__BATCH", "2".to_owned()),
    ];
    Choice { settings, roles, ..Choice::default() }
}

/// A reconcile process of its own, with a health port that the test knows.
struct Instance {
    child: Child,
    health: String,
}

impl Instance {
    async fn start(stack: &Stack) -> Self {
        let port = free_port().await;
        let mut command = stack.command(&["worker", "reconcile"]);
        let log = File::create(stack.log(&format!("reconcile-{port}"))).expect("a log");
        command.env("HOLDFAST_HEALTH__LISTEN", format!("127.0.0.1:{port}")).stderr(log);
        let child = command.spawn().expect("it starts");
        Self { child, health: format!("http://127.0.0.1:{port}") }
    }

    /// The sum over a metric's labels; `None` while the process or the metric is not there.
    async fn metric(&self, name: &str) -> Option<f64> {
        let answer = reqwest::get(format!("{}/metrics", self.health)).await.ok()?;
        let text = answer.text().await.ok()?;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    async fn until_metric(&self, name: &str, fits: impl Fn(f64) -> bool) {
        until(&format!("{name} fits"), async || self.metric(name).await.filter(|value| fits(*value))).await;
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    /// Tells it to stop, and waits until it has.
    fn stop(mut self) {
        self.signal("-TERM");
        assert_eq!(self.child.wait().expect("it ended").code(), Some(0));
    }

    async fn is_ready(&self) -> bool {
        reqwest::get(format!("{}/readyz", self.health)).await.is_ok_and(|answer| answer.status().is_success())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn queue_names() -> Vec<String> {
    let text = std::fs::read_to_string(checkout("rabbitmq/definitions.json")).expect("the definitions");
    let definitions: Value = serde_json::from_str(&text).expect("JSON");
    let queues = definitions["queues"].as_array().expect("queues");
    queues.iter().map(|queue| queue["name"].as_str().expect("a name").to_owned()).collect()
}

async fn connect(stack: &Stack) -> Connection {
    Connection::connect(&stack.amqp_url, ConnectionProperties::default()).await.expect("the broker")
}

#[tokio::test]
async fn broker_wiped() {
    let roles = ["api", "reconcile"].into_iter().chain(WORKERS).collect();
    let stack = Stack::start_with("broker_wiped", eager(roles)).await;
    let schedule = stack.add_schedule(2).await;
    let token = stack.quick_token("ann");
    // WeChat gives no code: the order's only message waits in a delay queue.
    stack.script(&json!({ "rules": [{ "on": "order", "status": 500 }] })).await;
    let order = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &order, "held").await;

    let connection = connect(&stack).await;
    let channel = connection.create_channel().await.expect("a channel");
    for queue in queue_names() {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("it is deleted");
    }
    stack.script(&json!({})).await;

    // Every consumer has found its queue again, and the order its code, its payment and its message.
    stack.until_status(&token, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    stack.until_status(&token, &order, "confirmed").await;
    until("the customer is told", async || stack.messages_to("ann").await.pop()).await;
    let again = stack.submit(&stack.quick_token("bob"), &schedule).await;
    stack.until_status(&stack.quick_token("bob"), &again, "awaiting_payment").await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn what_is_overdue_is_put_back_once_however_old_it_is() {
    let stack = Stack::start_with("sweep", eager(vec![])).await;
    overdue_books(&stack).await;
    let reconcile = Instance::start(&stack).await;
    reconcile.until_metric("reconcile_pass_seconds_count", |passes| passes >= 3.0).await;

    let mut keys = Vec::new();
    for queue in ["prepay", "expiry", "refunds", "notifications"] {
        keys.extend(drain(&stack, queue).await);
    }
    let once: BTreeSet<&String> = keys.iter().collect();
    assert_eq!(once.len(), keys.len(), "something was swept twice: {keys:?}");
    let ending = |end: &str| keys.iter().filter(|key| key.ends_with(end)).count();
    let of_each_kind = ["/held", "/alarm/hold", "/alarm/payment", "/alarm/sold_out", "/due", "/notify/hold_lapsed"];
    assert_eq!(of_each_kind.map(ending), [5, 5, 5, 5, 5, 5], "{keys:?}");
    assert_eq!(keys.len(), 30, "{keys:?}");
    assert_eq!(reconcile.metric("reconcile_swept_total").await, Some(30.0));
}

#[tokio::test]
async fn another_instance_leads_when_the_leader_dies() {
    let stack = Stack::start_with("leader", eager(vec![])).await;
    let mut first = Instance::start(&stack).await;
    first.until_metric("reconcile_leads", |leads| leads == 1.0).await;
    let second = Instance::start(&stack).await;
    second.until_metric("reconcile_leads", |leads| leads == 0.0).await;
    until("the second one is ready", async || second.is_ready().await.then_some(())).await;

    first.child.kill().expect("it can be killed");
    second.until_metric("reconcile_leads", |leads| leads == 1.0).await;
    second.until_metric("reconcile_pass_seconds_count", |passes| passes >= 1.0).await;

    // One that is told to stop gives the office up before it ends.
    let third = Instance::start(&stack).await;
    third.until_metric("reconcile_leads", |leads| leads == 0.0).await;
    second.stop();
    third.until_metric("reconcile_leads", |leads| leads == 1.0).await;
}

/// The alarms that look at WeChat for them may have been in what is gone.
#[tokio::test]
async fn every_unpaid_order_is_looked_at_again_when_the_broker_has_lost_a_queue() {
    let stack = Stack::start_with("looked_at_again", eager(vec![])).await;
    overdue_books(&stack).await;
    let reconcile = Instance::start(&stack).await;
    reconcile.until_metric("reconcile_swept_total", |swept| swept == 30.0).await;
    Queues::of(&stack).await.delete("refunds").await;
    // Nothing that was swept is taken to be there still.
    reconcile.until_metric("reconcile_swept_total", |swept| swept == 60.0).await;
    let looks = drain(&stack, "delay.check").await;
    let orders: BTreeSet<&str> = looks.iter().filter_map(|key| key.strip_suffix("/alarm/check")).collect();
    let unpaid = stack.count("SELECT count(*) FROM payment_orders WHERE status IN ('held', 'awaiting_payment')").await;
    assert_eq!((looks.len(), orders.len() as i64), (orders.len(), unpaid), "{looks:?}");
}

#[tokio::test]
async fn a_look_that_cannot_be_asked_for_keeps_nothing_else_from_its_queue() {
    let stack = Stack::start_with("not_looked_at_again", eager(vec![])).await;
    overdue_books(&stack).await;
    let reconcile = Instance::start(&stack).await;
    reconcile.until_metric("reconcile_swept_total", |swept| swept == 30.0).await;
    let queues = Queues::of(&stack).await;
    // Leads nowhere: a person has to mend it.
    queues.make_direct("delay.check").await;
    queues.delete("refunds").await;
    reconcile.until_metric("reconcile_swept_total", |swept| swept == 60.0).await;
    assert_eq!(stack.ready_in("delay.check").await, 0);
    assert_eq!(stack.ready_in("refunds").await, 5, "the queue is there again, and what belongs in it");
}

#[tokio::test]
async fn a_queue_that_differs_is_told_and_left_alone() {
    let stack = Stack::start_with("queue_differs", eager(vec![])).await;
    let reconcile = Instance::start(&stack).await;
    reconcile.until_metric("reconcile_pass_seconds_count", |passes| passes >= 1.0).await;

    // It does not come between, and declares what is away for a moment.
    reconcile.signal("-STOP");
    let channel = connect(&stack).await.create_channel().await.expect("a channel");
    channel.queue_delete("expiry".into(), QueueDeleteOptions::default()).await.expect("deleted");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("expiry".into(), durable, arguments).await.expect("declared otherwise");
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish("".into(), "expiry".into(), options, b"kept", BasicProperties::default());
    published.await.expect("published");
    channel.queue_delete("refunds".into(), QueueDeleteOptions::default()).await.expect("deleted");
    reconcile.signal("-CONT");

    reconcile.until_metric("topology_mended_total", |mended| mended == 1.0).await;
    reconcile.until_metric("topology_differences_total", |told| told >= 1.0).await;
    assert_eq!(stack.ready_in("refunds").await, 0);
    assert_eq!(stack.ready_in("expiry").await, 1);
}

/// Five overdue intents of each kind, as an outage of some hours leaves them.
async fn overdue_books(stack: &Stack) {
    let schedule = stack.add_schedule(200).await;
    let sold_out = stack.add_schedule(1).await;
    sqlx::query("DELETE FROM free_seats WHERE schedule_id = $1::uuid")
        .bind(&sold_out)
        .execute(&stack.db)
        .await
        .expect("sold out");
    sqlx::query("INSERT INTO users (user_id) VALUES ('ann')").execute(&stack.db).await.expect("a user");
    // Name, status, when the hold and the payment time end, when the row was touched, session.
    let kinds = [
        ("held0", "held", "1 hour", "2 hours", "-3 hours", &schedule),
        ("hold0", "awaiting_payment", "-1 hour", "1 hour", "-3 hours", &schedule),
        ("late0", "held", "-3 hours", "-1 hour", "-4 hours", &schedule),
        ("sold0", "lapsed", "-1 hour", "1 hour", "-1 hour", &sold_out),
        ("fine0", "awaiting_payment", "1 hour", "2 hours", "0 hours", &schedule),
        ("seat0", "lapsed", "-1 hour", "1 hour", "-1 hour", &schedule),
    ];
    for (name, status, hold, pay, touched, session) in kinds {
        sqlx::query(
            "INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, code_url,
                    hold_expires_at, pay_before, audit_head, submitted_at, updated_at)
             SELECT $1 || n, 'ann', $2::uuid, $3::order_status, 'native', $4, '', 'weixin://', now() + $5::interval,
                    now() + $6::interval, '', now(), now() + $7::interval
               FROM generate_series(1, 5) n",
        )
        .bind(name)
        .bind(session)
        .bind(status)
        .bind(PRICE_FEN)
        .bind(hold)
        .bind(pay)
        .bind(touched)
        .execute(&stack.db)
        .await
        .expect("orders");
    }
    let refunds = "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, created_at, next_check_at)
         SELECT 'fine0' || n || '-auto', 'fine0' || n, 'processing'::refund_status, 1, '', '', now() - interval '3 days',
                now() - interval '2 days'
           FROM generate_series(1, 5) n
          UNION ALL SELECT 'fine01-later', 'fine01', 'requested', 1, '', '', now(), now() + interval '1 hour'
          UNION ALL SELECT 'fine01-over', 'fine01', 'succeeded', 1, '', '', now(), now() - interval '1 hour'";
    sqlx::query(refunds).execute(&stack.db).await.expect("refunds");
    let notifications = "INSERT INTO notifications (order_id, kind, status, created_at, updated_at)
         SELECT order_id, 'hold_lapsed'::notification_kind, 'pending'::notification_status, now() - interval '1 day', now() - interval '1 day'
           FROM payment_orders WHERE order_id LIKE 'seat0%'
          UNION ALL SELECT 'fine01', 'booking_confirmed', 'sent', now(), now() - interval '1 day'";
    sqlx::query(notifications).execute(&stack.db).await.expect("notifications");
}

/// Takes every message out of a queue: their ids.
async fn drain(stack: &Stack, queue: &str) -> Vec<String> {
    let channel = connect(stack).await.create_channel().await.expect("a channel");
    let mut ids = Vec::new();
    while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer") {
        ids.push(got.delivery.properties.message_id().as_ref().expect("an id").to_string());
    }
    ids
}
