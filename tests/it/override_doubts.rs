//! Operators' decisions when WeChat's answer is a doubt, when the order was paid meanwhile, and when their message comes
//! twice or for nothing.

use holdfast::domain::message::{Message, OrderOverride, Payment, PaymentSeen, Source};
use holdfast::domain::money::Fen;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use holdfast::api::Role;

use crate::{
    overrides::{by, stage},
    queues::Queues,
    stack::{Answer, Stack, until},
    story::order_id,
};

impl Stack {
    /// Decides and does not wait for what comes of it: the override's id.
    async fn decide_without_waiting(&self, order: &str, action: &str) -> String {
        let receipt = format!("r-{}", &order[order.len() - 8..]);
        let more = if action == "record-payment" { vec!["--receipt", &receipt] } else { Vec::new() };
        let (code, decided) = self.decide(order, action, &[&more[..], &["--as", "olga", "--no-wait"]].concat()).await;
        assert_eq!(code, 0, "{decided}");
        decided["override_id"].as_str().expect("an id").to_owned()
    }

    async fn until_override(&self, id: &str, status: &str) -> Value {
        let viewer = self.token_of_role("vera", Role::Viewer);
        until(&format!("override {id} is {status}"), async || {
            let path = format!("/v1/ops/overrides/{id}");
            let read = Answer::of(self.request(Method::GET, &path).bearer_auth(&viewer)).await;
            (read.body["status"] == status).then_some(read.body)
        })
        .await
    }

    /// Lays a decision's message into the queue again, as a redelivery or the sweep does.
    async fn lay_decision(&self, order: &str, id: &str) {
        let override_id = Uuid::parse_str(id).expect("an id");
        self.lay(&Message::OrderOverride(OrderOverride { override_id, order_id: order_id(order) })).await;
    }

    /// Everything that was laid into the queue is done.
    async fn until_idle(&self, worker: &str, done: u64) {
        until(&format!("{worker} has done {done}"), async || {
            let counts = crate::metrics::Counts::of_worker(self, worker).await;
            (counts.sum("messages_total", &[("queue", worker), ("outcome", "done")]) >= done).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn s4_2_a_decision_waits_until_wechat_has_said_something_clear() {
    let stack = stage("waits", 1_000_000).await;
    let queues = Queues::of(&stack).await;
    let schedule = stack.add_schedule(10).await;
    let busy = |on: &str| json!([{ "on": on, "status": 429 }]);
    let unclear = json!([{ "on": "query", "state": "ACCEPT" }]);
    for (action, rules, queue, class, comes_to, order_is) in [
        ("confirm", busy("query"), "delay.1s", "busy", "refused", "awaiting_payment"),
        ("confirm", unclear, "expiry.dead", "wechat_unclear", "refused", "awaiting_payment"),
        ("waive", busy("close"), "delay.1s", "busy", "done", "confirmed"),
        ("release", busy("query"), "delay.1s", "busy", "done", "lapsed"),
        ("record-payment", busy("close"), "delay.1s", "busy", "done", "confirmed"),
        ("close", busy("close"), "delay.1s", "busy", "done", "cancelled"),
    ] {
        // One customer may not have so many orders at a time.
        let (ann, order) = stack.payable(&format!("ann-{action}-{class}"), &schedule).await;
        stack.script(&json!({ "rules": rules })).await;
        // Side by side: a message does not stay in a delay queue for long.
        let (left, id) = tokio::join!(queues.take(queue), stack.decide_without_waiting(&order, action));
        assert_eq!(left.header("x-error-class"), class, "{action}: {left:?}");
        stack.until_override(&id, "approved").await;
        assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment", "{action}");
        stack.script(&json!({})).await;
        queues.shovel(&left, "expiry").await;
        stack.until_override(&id, comes_to).await;
        stack.until_status(&ann, &order, order_is).await;
    }
    stack.verified().await;
}

/// With the worker `payments` away nothing is settled yet, however often one looks.
#[tokio::test]
async fn s4_2_a_decision_about_an_order_that_is_paid_meanwhile_asks_once() {
    let mut stack = stage("paid_meanwhile", 1_000_000).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, waived) = stack.payable("ann", &schedule).await;
    let (bob, recorded) = stack.payable("bob", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never" }] })).await;
    stack.kill("payments");
    for order in [&waived, &recorded] {
        assert_eq!(stack.pay(order).await.status, 200);
    }
    let (code, refused) = stack.decide(&waived, "waive", &["--as", "olga"]).await;
    assert_eq!((code, &refused["outcome"]), (1, &json!("WeChat says it is paid: recorded")), "{refused}");
    stack.decided(&recorded, "record-payment", &["--as", "olga", "--receipt", "r-1"]).await;
    stack.until_idle("expiry", 2).await;
    assert_eq!(stack.ready_in("payments").await, 3, "WeChat's word about each, and the money taken by hand");

    stack.spawn("payments");
    for (token, order) in [(&ann, &waived), (&bob, &recorded)] {
        let confirmed = stack.until_status(token, order, "confirmed").await;
        assert!(confirmed["transaction_id"].as_str().is_some_and(|id| id.starts_with("4200")), "{confirmed}");
    }
    let paid_twice = ("paid_twice".to_owned(), "offline-r-1".to_owned());
    until("a person is told of bob's other money", async || {
        (stack.open_cases().await == [paid_twice.clone()]).then_some(())
    })
    .await;
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_a_decision_that_something_else_came_before_is_refused_with_the_reason() {
    let mut stack = stage("came_before", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.kill("expiry");
    let id = stack.decide_without_waiting(&order, "waive").await;
    stack.pay(&order).await;
    let paid = stack.until_status(&ann, &order, "confirmed").await;
    stack.spawn("expiry");
    assert_eq!(stack.until_override(&id, "refused").await["outcome"], "the order is confirmed already");
    assert_eq!(stack.order(&ann, &order).await.body["transaction_id"], paid["transaction_id"]);
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_an_order_that_wechat_never_heard_of_can_be_decided_about() {
    let stack = stage("unheard", 1_000_000).await;
    let schedule = stack.add_schedule(2).await;
    stack.script(&json!({ "rules": [{ "on": "order", "status": 502, "html": true }] })).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    let (code, refused) = stack.decide(&order, "confirm", &["--as", "olga"]).await;
    assert_eq!((code, &refused["outcome"]), (1, &json!("WeChat has no such order")), "{refused}");
    // It has no code and, being closed at WeChat now, never will: with the hold all of it ends.
    stack.decided(&order, "release", &["--as", "olga"]).await;
    stack.until_status(&ann, &order, "expired").await;
    assert_eq!(stack.audited(&order, "deadline_closed").await, by("olga"));
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 2);
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_the_message_of_a_decision_that_comes_twice_or_for_nothing_changes_nothing() {
    let mut stack = stage("twice", 1_000_000).await;
    let queues = Queues::of(&stack).await;
    let schedule = stack.add_schedule(3).await;
    let (ann, paid) = stack.payable("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never" }] })).await;
    stack.pay(&paid).await;
    stack.kill("payments");
    let confirm = stack.decided(&paid, "confirm", &["--as", "olga"]).await;
    // WeChat's word was heard and lost before its worker had it.
    until("it lies in the queue", async || (stack.ready_in("payments").await == 1).then_some(())).await;
    queues.purge("payments").await;
    stack.lay_decision(&paid, confirm["override_id"].as_str().expect("an id")).await;
    stack.spawn("payments");
    stack.until_status(&ann, &paid, "confirmed").await;

    let (bob, recorded) = stack.payable("bob", &schedule).await;
    let record = stack.decided(&recorded, "record-payment", &["--as", "olga", "--receipt", "r-1"]).await;
    stack.until_status(&bob, &recorded, "confirmed").await;
    let refund = stack.decided(&paid, "refund", &["--as", "olga"]).await;
    stack.until_status(&ann, &paid, "refunded").await;
    for (order, decided) in [(&recorded, &record), (&paid, &refund)] {
        stack.lay_decision(order, decided["override_id"].as_str().expect("an id")).await;
    }
    stack.lay_decision(&paid, &Uuid::nil().to_string()).await;
    assert_eq!(queues.take("expiry.dead").await.header("x-error-class"), "no_such_override");
    // Three decisions, each of them again, and the recorded payment that the second telling brings once more.
    stack.until_idle("expiry", 7).await;
    until("all that follows is done", async || {
        (stack.ready_in("payments").await == 0 && stack.ready_in("refunds").await == 0).then_some(())
    })
    .await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_transactions").await, 2);
    assert_eq!(stack.count("SELECT count(*) FROM refunds").await, 1);
    assert_eq!(stack.count("SELECT count(*) FROM cases").await, 0);
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_money_that_was_set_aside_twice_is_for_a_person() {
    let stack = stage("set_aside_twice", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    for number in ["one", "two"] {
        let payment = Payment {
            out_trade_no: order.clone(),
            transaction_id: format!("42-{number}"),
            mchid: stack.environment["HOLDFAST_WECHAT_PAY__MCHID"].clone(),
            appid: stack.environment["HOLDFAST_WECHAT_PAY__APPID"].clone(),
            trade_type: "NATIVE".into(),
            bank_type: None,
            total_fen: Fen(1),
            payer_total_fen: None,
            currency: "CNY".into(),
            success_time: Some(OffsetDateTime::now_utc()),
            refunded: false,
        };
        stack.lay(&Message::PaymentSeen(PaymentSeen { payment, source: Source::Query, request_id: "r".into() })).await;
    }
    stack.until_count("two cases are open", "SELECT count(*) FROM cases WHERE status = 'open'", 2).await;
    let (code, refused) = stack.decide(&order, "refund", &["--as", "olga"]).await;
    let why = "more than one payment was set aside: settle them by hand";
    assert_eq!((code, &refused["outcome"]), (1, &json!(why)), "{refused}");
    assert_eq!(stack.count("SELECT count(*) FROM refunds").await, 0);
    assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment");
    stack.verified().await;
}

#[tokio::test]
async fn s4_2_a_decision_that_cannot_be_read_says_all_that_is_wrong() {
    let stack = stage("unreadable", 1_000_000).await;
    let olga = stack.token_of_role("olga", Role::Operator);
    let propose = async |wish: &Value| {
        let post = stack.request(Method::POST, "/v1/ops/overrides").bearer_auth(&olga);
        Answer::of(post.header("Idempotency-Key", "k").json(wish)).await
    };
    let wish = json!({ "order_id": "hf0000000000", "action": "close", "reason": "a customer called" });
    let nobody = propose(&wish).await;
    assert_eq!((nobody.status, nobody.problem()), (StatusCode::NOT_FOUND, "no-such-order"));

    let wrong = json!({ "order_id": "?", "action": "close", "amount_fen": 0, "receipt": "r-1", "reason": " " });
    let wrong = propose(&wrong).await;
    assert_eq!((wrong.status, wrong.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"));
    let named: Vec<_> = wrong.body["errors"].as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(named, ["order_id", "amount_fen", "reason", "receipt"]);
    for (reason, problem) in [("a".repeat(501), "1 to 500"), ("a customer\ncalled".to_owned(), "one line")] {
        let mut wish = wish.clone();
        wish["reason"] = json!(reason);
        let refused = propose(&wish).await.body;
        assert!(refused["errors"][0]["problem"].as_str().is_some_and(|said| said.contains(problem)), "{refused}");
    }
    assert_eq!(stack.count("SELECT count(*) FROM order_overrides").await, 0);
}
