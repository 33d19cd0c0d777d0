//! Hundreds of customers who end in every way there is, at a WeChat that goes wrong in every way it has. Then nothing
//! is stuck, our books and WeChat's agree to the fen, nobody was told anything twice, and no log tells a secret.
//!
//! `./dev test mixed` runs it with 2 000 orders.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    books::DEAD,
    customer::Customer,
    habits::{Habit, every_ending, weather},
    stack::Stack,
};

const CUSTOMERS_PER_SESSION: usize = 20;
const SEATS_PER_SESSION: u32 = 12;
/// Customers on their way at the same time.
const AT_ONCE: usize = 60;

/// A number that may be chosen from outside, for longer runs and other weather.
fn chosen(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |number| number.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_1_every_ending_mixed() {
    let orders = chosen("MIXED_ORDERS", 400);
    let mut choice = every_ending();
    // Everything that the processes could ever say, to be searched for what they must not.
    choice.settings.push(("HOLDFAST_LOG__FILTER", "debug".into()));
    let stack = Stack::start_with("mixed_endings", choice).await;
    let mut sessions = Vec::new();
    for _ in 0..orders.div_ceil(CUSTOMERS_PER_SESSION) {
        sessions.push(stack.add_schedule(SEATS_PER_SESSION).await);
    }
    stack.script(&weather(chosen("MIXED_SEED", 2026))).await;

    let crowd = Customer::crowd(&stack, "guest", orders);
    stream::iter(crowd.iter().enumerate())
        .for_each_concurrent(AT_ONCE, |(number, customer)| {
            let habit = Habit::of(number * 7 + number / 20);
            let session = &sessions[number / CUSTOMERS_PER_SESSION];
            let seat = number.is_multiple_of(3).then_some(number as i64 % 12 + 1);
            async move { drop(customer.live(habit, session, seat).await) }
        })
        .await;
    stack.pay_offers().await;
    // Balances were topped up.
    stack.script(&json!({})).await;
    stack.come_to_an_end(Duration::from_secs(120)).await;
    check(&stack, &sessions).await;
    stack.check_logs_tell_no_secret().await;
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
        let (code, line, error) = stack.holdfast(&["schedule", "line", session]).await;
        assert_eq!(code, 0, "somebody was overtaken: {line}{error}");
    }
    stack.check_money().await;
}
