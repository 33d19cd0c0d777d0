//! Thousands of dead letters of every kind, replayed twice while customers go on booking: what they were about is
//! done once, and the second time changes nothing.
//!
//! `./dev test letters` runs it with 10 000 letters.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use holdfast::domain::{
    message::{Alarm, Message, NotificationDue, OrderAlarm, OrderHeld, RefundRequested},
    notification::Kind,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    customer::Customer,
    queues::Queues,
    stack::{Choice, Stack, until_within},
    story::{order_id, refund_id},
};

/// One order leads to so many letters.
const PER_ORDER: usize = 5;
const SEATS_PER_SESSION: u32 = 250;
const AT_ONCE: usize = 32;

fn letters() -> usize {
    std::env::var("DEAD_LETTERS").map_or(500, |number| number.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_ten_thousand_dead_letters_are_replayed_twice_while_customers_book() {
    let orders = letters() / PER_ORDER;
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".into())];
    let roles = vec!["api", "seats", "prepay"];
    let mut stack = Stack::start_with("dead-many", Choice { settings, roles, ..Choice::default() }).await;
    let refused = json!({ "on": "callback_refund", "rate": 0.2, "callback": "never" });
    stack.script(&json!({ "seed": 7, "rules": [refused] })).await;
    let paid = paid_orders(&stack, orders).await;
    let queues = Queues::of(&stack).await;
    // WeChat's words about the payments, as a broken release would have parked them.
    let words = queues.take_each("payments", orders).await;
    queues.purge("payments").await;
    let lay = async || {
        for word in &words {
            queues.put_parked("payments.dead", "payments", "payment.seen", word.key(), &word.body).await;
        }
        for order in &paid {
            for message in about(order) {
                let (dead, queue) = (message.queue().dead(), message.queue().name());
                queues.put_parked(dead, &queue, message.kind(), &message.key(), &message.body()).await;
            }
        }
    };
    lay().await;

    for worker in ["payments", "expiry", "refunds", "notifications", "reconcile"] {
        stack.spawn(worker);
    }
    let session = stack.add_schedule(SEATS_PER_SESSION).await;
    let customers = Customer::crowd(&stack, "passer-by", 60);
    let enough = CancellationToken::new();
    let load = async {
        for customer in &customers {
            if enough.is_cancelled() {
                break;
            }
            let (answer, _) = customer.order(&session, None).await;
            stack.pay(answer.body["order_id"].as_str().expect("an order")).await;
        }
    };
    let first = async {
        let began = Instant::now();
        let page = stack.dead_ok(&["list", "--limit", "100000"]).await;
        let entered = began.elapsed();
        assert_eq!(page["items"].as_array().map(Vec::len), Some(orders * PER_ORDER));
        let began = Instant::now();
        stack.dead_ok(&["list", "--text", "broken release"]).await;
        let listed = began.elapsed();
        let began = Instant::now();
        let groups = stack.dead_ok(&["list", "--group", "effect"]).await;
        println!(
            "{} letters: entered in {entered:?}, listed in {listed:?}, grouped in {:?}",
            orders * PER_ORDER,
            began.elapsed()
        );
        // A callback that was sent again may have settled some.
        assert!(letters_that(&groups, "would_confirm") > orders as i64 / 2, "{groups}");
        let began = Instant::now();
        let replayed = stack.dead(&["replay", "--all", "--rate", "5000", "--stop-at", "100"]).await.1;
        println!("replayed in {:?}: {replayed}", began.elapsed());
        assert_eq!((&replayed["state"], &replayed["parked_again"]), (&json!("finished"), &json!(0)), "{replayed}");
        enough.cancel();
    };
    tokio::join!(load, first);
    rest(&stack).await;
    let confirmed = "SELECT count(*) FROM bookings WHERE order_id IN (SELECT order_id FROM payment_orders WHERE user_id LIKE 'guest%')";
    assert_eq!(stack.count(confirmed).await, orders as i64);
    let (books, ledger) = (stack.books().await, stack.ledger().await);

    lay().await;
    let again = stack.dead(&["replay", "--all", "--rate", "5000"]).await.1;
    assert_eq!((&again["letters"], &again["state"]), (&json!(orders * PER_ORDER), &json!("finished")), "{again}");
    assert_eq!(again["parked_again"], 0, "{again}");
    rest(&stack).await;
    assert_eq!(stack.ledger().await, ledger, "WeChat was asked for something again");
    assert_eq!(stack.books().await, books);
    stack.check_money().await;
}

fn letters_that(groups: &Value, effect: &str) -> i64 {
    let groups = groups["items"].as_array().expect("groups");
    groups.iter().find(|group| group["group"] == effect).map_or(0, |group| group["letters"].as_i64().expect("a count"))
}

/// What else is said about an order, some of it too early and some of it too late.
fn about(order: &str) -> [Message; PER_ORDER - 1] {
    let id = order_id(order);
    [
        Message::OrderHeld(OrderHeld { order_id: id.clone() }),
        Message::OrderAlarm(OrderAlarm { order_id: id.clone(), alarm: Alarm::Check, after_ms: 0 }),
        Message::NotificationDue(NotificationDue { order_id: id.clone(), kind: Kind::BookingConfirmed }),
        Message::RefundRequested(RefundRequested {
            refund_id: refund_id(&format!("{order}-part")),
            order_id: id,
            amount_fen: Some(holdfast::domain::money::Fen(1_000)),
            reason: "一部分".into(),
            requested_by: "operator:test".into(),
            requested_at: None,
            request_id: "test".into(),
        }),
    ]
}

/// So many orders that WeChat has taken money for; nobody has heard of it yet.
async fn paid_orders(stack: &Stack, orders: usize) -> Vec<String> {
    let mut sessions = Vec::new();
    for _ in 0..orders.div_ceil(SEATS_PER_SESSION as usize) {
        sessions.push(stack.add_schedule(SEATS_PER_SESSION).await);
    }
    let sessions = &sessions;
    let submitted = stream::iter(0..orders).map(|number| async move {
        let token = stack.quick_token(&format!("guest-{number}"));
        stack.submit(&token, &sessions[number / SEATS_PER_SESSION as usize]).await
    });
    let submitted: Vec<String> = submitted.buffer_unordered(AT_ONCE).collect().await;
    until_within(Duration::from_secs(300), "all have their code", async || {
        let waiting = "SELECT count(*) FROM payment_orders WHERE status = 'awaiting_payment'";
        (stack.count(waiting).await == orders as i64).then_some(())
    })
    .await;
    stream::iter(&submitted)
        .for_each_concurrent(AT_ONCE, |order| async move { assert_eq!(stack.pay(order).await.status, 200) })
        .await;
    until_within(Duration::from_secs(120), "WeChat has told of all", async || {
        (stack.ready_in("payments").await as usize >= orders).then_some(())
    })
    .await;
    submitted
}

/// Nothing is under way any more.
async fn rest(stack: &Stack) {
    until_within(Duration::from_secs(180), "nothing is under way", async || {
        // WeChat's minute between two looks at a refund is not waited for.
        sqlx::query("UPDATE refunds SET next_check_at = now() - interval '1 hour', swept_at = NULL
                      WHERE status IN ('requested', 'processing')")
            .execute(&stack.db)
            .await
            .expect("changed");
        let open = "SELECT (SELECT count(*) FROM refunds WHERE status IN ('requested', 'processing'))
                         + (SELECT count(*) FROM notifications WHERE status = 'pending')
                         + (SELECT count(*) FROM payment_orders WHERE status NOT IN ('confirmed', 'refunding', 'refunded'))";
        if stack.count(open).await > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            return None;
        }
        let queues = ["prepay", "payments", "expiry", "refunds", "notifications", "delay.1s", "delay.5s", "delay.30s"];
        for queue in queues.into_iter().chain(holdfast::domain::message::Queue::DEAD) {
            if stack.ready_in(queue).await > 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
}
