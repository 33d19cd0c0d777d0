//! Hundreds of customers who end in every way there is, at a WeChat that goes wrong in every way it has. Then nothing
//! is stuck, our books and WeChat's agree to the fen, and nobody was told anything twice.
//!
//! `./dev test mixed` runs it with 2 000 orders.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    books::DEAD,
    customer::Customer,
    stack::{Answer, Choice, Stack, WORKERS, until, until_within},
    story::deadlines,
};

const CUSTOMERS_PER_SESSION: usize = 20;
const SEATS_PER_SESSION: u32 = 12;
/// Customers on their way at the same time.
const AT_ONCE: usize = 60;
const HOLD_SECONDS: u32 = 8;
const PAYMENT_SECONDS: u32 = 14;

/// A number that may be chosen from outside, for longer runs and other weather.
fn chosen(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |number| number.parse().expect("a number"))
}

/// Rates of everything that can go wrong; which order meets what is decided by the seed.
fn weather() -> Value {
    json!({ "seed": chosen("MIXED_SEED", 2026), "rules": [
        { "on": "order", "rate": 0.04, "answer_lost": true },
        { "on": "order", "rate": 0.04, "status": 503, "html": true },
        { "on": "order", "rate": 0.02, "signtest": true },
        { "on": "query", "rate": 0.05, "status": 502, "html": true },
        { "on": "query", "rate": 0.02, "wrong_signature": true },
        { "on": "close", "rate": 0.10, "answer_lost": "error" },
        { "on": "refund", "rate": 0.10, "answer_lost": true },
        { "on": "refund", "rate": 0.10, "status": 404, "code": "RESOURCE_NOT_EXISTS" },
        { "on": "refund", "rate": 0.04, "refund": "NOT_ENOUGH" },
        { "on": "refund", "rate": 0.04, "refund": "ABNORMAL" },
        { "on": "refund", "rate": 0.05, "refund": "CLOSED" },
        { "on": "refund_query", "rate": 0.05, "status": 500 },
        { "on": "callback_payment", "rate": 0.10, "callback": "never" },
        { "on": "callback_payment", "rate": 0.10, "callback": "twice" },
        { "on": "callback_payment", "rate": 0.10, "callback": { "late_ms": 2000 } },
        { "on": "callback_payment", "rate": 0.05, "callback": "reordered" },
        { "on": "callback_payment", "rate": 0.03, "callback": "wrong_amount" },
        { "on": "callback_payment", "rate": 0.05, "callback": "signtest" },
        { "on": "callback_payment", "rate": 0.03, "callback": "wrong_key" },
        { "on": "callback_refund", "rate": 0.20, "callback": "never" },
        { "on": "callback_refund", "rate": 0.10, "callback": "twice" },
        { "on": "template_send", "rate": 0.05, "answer_lost": true },
        { "on": "template_send", "rate": 0.05, "errcode": -1 },
        { "on": "template_send", "rate": 0.01, "expire_token": true },
    ]})
}

/// What one customer does with the code they got.
#[derive(Clone, Copy)]
enum Habit {
    Pays,
    PaysAfterTheHold,
    Forgets,
    Cancels,
    CancelsWhilePaying,
    WantsAllBack,
    WantsBackInTwoParts,
}

impl Habit {
    fn of(number: usize) -> Self {
        match number % 20 {
            0..=7 => Self::Pays,
            8..=10 => Self::PaysAfterTheHold,
            11 | 12 => Self::Forgets,
            13 => Self::Cancels,
            14 | 15 => Self::CancelsWhilePaying,
            16..=18 => Self::WantsAllBack,
            _ => Self::WantsBackInTwoParts,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_1_every_ending_mixed() {
    let orders = chosen("MIXED_ORDERS", 400);
    let sweep = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "3".to_owned()),
    ];
    let settings = [deadlines(HOLD_SECONDS, PAYMENT_SECONDS), sweep].concat();
    let roles = ["api"].into_iter().chain(WORKERS).chain(["reconcile"]).collect();
    let stack = Stack::start_with("mixed_endings", Choice { settings, roles, ..Choice::default() }).await;
    let mut sessions = Vec::new();
    for _ in 0..orders.div_ceil(CUSTOMERS_PER_SESSION) {
        sessions.push(stack.add_schedule(SEATS_PER_SESSION).await);
    }
    stack.script(&weather()).await;

    let crowd = Customer::crowd(&stack, "guest", orders);
    stream::iter(crowd.iter().enumerate())
        .for_each_concurrent(AT_ONCE, |(number, customer)| {
            let session = &sessions[number / CUSTOMERS_PER_SESSION];
            live(&stack, customer, Habit::of(number * 7 + number / 20), number, session)
        })
        .await;
    pay_offers(&stack).await;
    // The rest is WeChat's time: its minute between two refunds of an order, and balances that were topped up.
    stack.script(&json!({})).await;
    come_to_an_end(&stack).await;
    check(&stack, &sessions).await;
}

/// One customer's story, which never waits for an end.
async fn live(stack: &Stack, customer: &Customer, habit: Habit, number: usize, session: &str) {
    let (answer, _) = customer.order(session, number.is_multiple_of(3).then_some(number as i64 % 12 + 1)).await;
    let Some(order) = answer.body["order_id"].as_str() else { panic!("{}", answer.body) };
    if answer.status == StatusCode::CONFLICT {
        if number.is_multiple_of(2) {
            customer.post(&format!("/v1/schedules/{session}/waitlist"), &json!({})).await;
        }
        return;
    }
    match habit {
        Habit::Forgets => {}
        Habit::Pays => drop(stack.pay(order).await),
        Habit::PaysAfterTheHold => {
            until("the hold is over", async || {
                let now = customer.look(order).await;
                (!["held", "awaiting_payment"].contains(&now["status"].as_str()?)).then_some(())
            })
            .await;
            stack.pay(order).await;
        }
        Habit::Cancels => drop(customer.post(&format!("/v1/orders/{order}/cancel"), &json!({})).await),
        Habit::CancelsWhilePaying => {
            let path = format!("/v1/orders/{order}/cancel");
            let nothing = json!({});
            tokio::join!(customer.post(&path, &nothing), stack.pay(order));
        }
        Habit::WantsAllBack | Habit::WantsBackInTwoParts => {
            if stack.pay(order).await.status != StatusCode::OK {
                return;
            }
            until("the payment is known", async || {
                customer.look(order).await["transaction_id"].is_string().then_some(())
            })
            .await;
            let path = format!("/v1/orders/{order}/refunds");
            if matches!(habit, Habit::WantsBackInTwoParts) {
                customer.post(&path, &json!({ "reason": "一部分", "amount_fen": 7_000 })).await;
            }
            customer.post(&path, &json!({ "reason": "不去了" })).await;
        }
    }
}

/// Two of three of those who were offered a seat pay for it.
async fn pay_offers(stack: &Stack) {
    let offered: Vec<String> = sqlx::query_scalar(
        "SELECT order_id FROM payment_orders JOIN waitlist ON offered_order_id = order_id
          WHERE status = 'awaiting_payment' ORDER BY ticket",
    )
    .fetch_all(&stack.db)
    .await
    .expect("offers");
    for (_, order) in offered.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        stack.pay(order).await;
    }
}

async fn come_to_an_end(stack: &Stack) {
    let rounds = Cell::new(0);
    until_within(Duration::from_secs(120), "nothing is under way", async || {
        rounds.set(rounds.get() + 1);
        if rounds.get() % 100 == 1 {
            stack.advance_simulator(61).await;
            // Their next look would be minutes away.
            sqlx::query("UPDATE refunds SET next_check_at = now() - interval '1 hour', swept_at = NULL
                          WHERE status IN ('requested', 'processing')")
                .execute(&stack.db)
                .await
                .expect("changed");
            sqlx::query("UPDATE notifications SET updated_at = now() - interval '1 hour', swept_at = NULL
                          WHERE status = 'pending'")
                .execute(&stack.db)
                .await
                .expect("changed");
        }
        let open = stack
            .count(
                "SELECT (SELECT count(*) FROM payment_orders WHERE status IN ('submitted', 'held', 'awaiting_payment', 'lapsed'))
                      + (SELECT count(*) FROM refunds WHERE status IN ('requested', 'processing'))
                      + (SELECT count(*) FROM notifications WHERE status = 'pending')",
            )
            .await;
        (open == 0).then_some(())
    })
    .await;
    let work = ["prepay", "payments", "expiry", "refunds", "notifications"];
    for queue in work.map(str::to_owned).into_iter().chain((0..8).map(|lane| format!("orders.{lane}"))) {
        until(&format!("{queue} is empty"), async || (stack.ready_in(&queue).await == 0).then_some(())).await;
    }
}

async fn check(stack: &Stack, sessions: &[String]) {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT status::text, count(*) FROM payment_orders GROUP BY status")
        .fetch_all(&stack.db)
        .await
        .expect("counts");
    let endings: BTreeMap<String, i64> = rows.into_iter().collect();
    println!("endings: {endings:?}");
    let met: BTreeSet<&str> = endings.keys().map(String::as_str).collect();
    for ending in ["confirmed", "rejected", "cancelled", "expired", "refunded"] {
        assert!(met.contains(ending), "nobody ended {ending}");
    }
    // What is still owed waits for a person, who was told.
    let owed = "SELECT count(*) FROM payment_orders o WHERE status = 'refunding' AND NOT EXISTS (
                    SELECT FROM cases c WHERE c.order_id = o.order_id AND c.kind = 'refund_abnormal' AND c.status = 'open')";
    assert_eq!(stack.count(owed).await, 0);
    for queue in DEAD {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    for session in sessions {
        let (code, line, _) = stack.holdfast(&["schedule", "line", session]).await;
        assert_eq!(code, 0, "somebody was overtaken: {line}");
    }
    stack.check_money().await;
}

impl Customer {
    async fn look(&self, order: &str) -> Value {
        until("an answer", async || {
            Answer::try_of(self.request(Method::GET, &format!("/v1/orders/{order}"))).await.ok()
        })
        .await
        .body
    }

    /// Asks for something once, whatever the answer; each wish has its own key.
    async fn post(&self, path: &str, wish: &Value) -> Answer {
        let key = format!("{wish}-of-{}", self.user).replace(|c: char| !c.is_ascii_graphic(), "-");
        Answer::of(self.request(Method::POST, path).header("Idempotency-Key", key).json(wish)).await
    }
}
