//! How many seats and unpaid orders one customer may have, and what a refusal for a rule leaves behind: an answer.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    stack::{Answer, Choice, PRICE_FEN, Stack, until},
    story::{deadlines, hasty},
};

/// Enough requests a second for one greedy customer.
fn greedy() -> Vec<(&'static str, String)> {
    let mut settings = deadlines(600, 1200);
    settings.extend([
        ("HOLDFAST_API__ORDERS_PER_SECOND", "1000".to_owned()),
        ("HOLDFAST_API__ORDERS_BURST", "5000".to_owned()),
        ("HOLDFAST_ORDER__UNPAID_PER_CUSTOMER", "6".to_owned()),
    ]);
    settings
}

impl Stack {
    /// Asks for a seat and waits for the outcome.
    async fn wish(&self, user: &str, key: &str, schedule: &str) -> Answer {
        let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
        let request = self.submit_request(&self.quick_token(user), key, &body).header("Prefer", "wait=10");
        Answer::of(request).await
    }
}

/// C3: one customer against a session of thirty gets what the session allows, the honest one is served, and the refused
/// requests leave no row and no message.
#[tokio::test]
async fn c3_one_customer_gets_the_configured_seats_and_the_honest_one_is_served() {
    let stack = Stack::start_with("limit_seats", Choice { settings: greedy(), ..Choice::default() }).await;
    let schedule = stack.add_schedule(30).await;
    let mut refused = 0;
    for round in 0..10 {
        let keys: Vec<String> = (0..50).map(|n| format!("{round}-{n}")).collect();
        for answer in join_all(keys.iter().map(|key| stack.wish("greedy", key, &schedule))).await {
            match answer.status {
                StatusCode::CREATED => {}
                StatusCode::CONFLICT => {
                    assert_eq!(answer.problem(), "limit-reached", "{}", answer.body);
                    refused += 1;
                }
                status => panic!("{status}: {}", answer.body),
            }
        }
    }
    assert_eq!(refused, 496);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 4, "no row for a refusal");
    assert_eq!(stack.count("SELECT count(*) FROM notifications").await, 0, "and no message");
    let (honest, order) = stack.payable("honest", &schedule).await;
    assert_eq!(stack.pay(&order).await.status, 200);
    stack.until_status(&honest, &order, "confirmed").await;
    stack.check_money().await;
}

/// C3: a refusal by the worker reads as the order's outcome, also with the same key again; a freed seat makes room.
#[tokio::test]
async fn c3_a_refusal_for_a_rule_is_the_orders_outcome() {
    let stack = hasty("limit_outcome", 600, 1200).await;
    let schedule = stack.add_schedule(10).await;
    let ann = stack.quick_token("ann");
    let mut orders = Vec::new();
    for _ in 0..4 {
        orders.push(stack.payable("ann", &schedule).await.1);
    }
    let fifth = stack.wish("ann", "fifth", &schedule).await;
    assert_eq!((fifth.status, fifth.problem()), (StatusCode::CONFLICT, "limit-reached"), "{}", fifth.body);
    let id = fifth.body["order_id"].as_str().expect("an order's id").to_owned();
    let read = stack.order(&ann, &id).await;
    assert_eq!((&read.body["status"], &read.body["reason"]), (&json!("rejected"), &json!("limit-reached")));
    let again = stack.wish("ann", "fifth", &schedule).await;
    assert_eq!((again.problem(), &again.body["order_id"]), ("limit-reached", &json!(id)));
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 4);

    stack.cancel(&ann, &orders[0]).await;
    stack.until_status(&ann, &orders[0], "cancelled").await;
    let sixth = stack.wish("ann", "sixth", &schedule).await;
    assert_eq!(sixth.status, StatusCode::CREATED, "{}", sixth.body);
    stack.check_money().await;
}

/// C3: unpaid orders count over all sessions, also when they come through different queues at once.
#[tokio::test]
async fn c3_unpaid_orders_are_limited_over_all_sessions_at_once() {
    let stack = hasty("limit_unpaid", 600, 1200).await;
    let mut schedules = Vec::new();
    for _ in 0..12 {
        schedules.push(stack.add_schedule(3).await);
    }
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let wishes = schedules.iter().zip(&keys).map(|(schedule, key)| stack.wish("ann", key, schedule));
    let answers = join_all(wishes).await;
    let held = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    let refused = answers.iter().filter(|answer| answer.problem() == "limit-reached").count();
    assert_eq!((held, refused), (4, 8));
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 4);
    // What is paid is no longer unpaid.
    let order: String =
        sqlx::query_scalar("SELECT order_id FROM payment_orders LIMIT 1").fetch_one(&stack.db).await.unwrap();
    stack.pay(&order).await;
    stack.until_status(&stack.quick_token("ann"), &order, "confirmed").await;
    let free = stack.add_schedule(1).await;
    assert_eq!(stack.wish("ann", "one-more", &free).await.status, StatusCode::CREATED);
    stack.check_money().await;
}

/// C3: a hold that ran out and was replaced does not become a seat beyond the limit when it is paid after all.
#[tokio::test]
async fn c3_late_money_makes_no_seat_beyond_the_limit() {
    let stack = hasty("limit_late", 600, 1200).await;
    let schedule = stack.add_schedule(3).await;
    sqlx::query("UPDATE course_schedules SET seats_per_customer = 1").execute(&stack.db).await.expect("changed");
    let (ann, first) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&ann, &first).await;
    let (_, second) = stack.booked("ann", &schedule).await;
    assert_eq!(stack.pay(&first).await.status, 200);
    let refunded = stack.until_status(&ann, &first, "refunded").await;
    assert_eq!(refunded["reason"], "limit-reached");
    assert_eq!(stack.order(&ann, &second).await.body["status"], "confirmed");
    stack.check_money().await;
}

/// C3: who is at the limit keeps the place in the line, and the next one is offered the seat.
#[tokio::test]
async fn c3_an_offer_counts_for_the_limits() {
    let stack = hasty("limit_offers", 600, 1200).await;
    let schedule = stack.add_schedule(2).await;
    sqlx::query("UPDATE course_schedules SET seats_per_customer = 1").execute(&stack.db).await.expect("changed");
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.booked("bob", &schedule).await;
    stack.wait_in_line(&["bob", "cid"], &schedule).await;
    stack.cancel(&ann, &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    let offered = stack.offered_to("cid").await;
    assert_eq!(stack.pay(&offered).await.status, 200);
    stack.until_status(&stack.quick_token("cid"), &offered, "confirmed").await;
    assert_eq!(
        stack.count("SELECT count(*) FROM waitlist WHERE user_id = 'bob' AND offered_order_id IS NULL").await,
        1
    );
    stack.check_money().await;
}

/// C3, D4: a full session says so to each customer once, and answers every further request with alternatives.
#[tokio::test]
async fn c3_a_customer_is_told_once_that_a_session_is_sold_out() {
    let stack = Stack::start_with("limit_told_once", Choice { settings: greedy(), ..Choice::default() }).await;
    let (schedule, other) = (stack.add_schedule(1).await, stack.add_schedule(5).await);
    stack.booked("bob", &schedule).await;
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    for answer in join_all(keys.iter().map(|key| stack.wish("ann", key, &schedule))).await {
        assert_eq!((answer.status, answer.problem()), (StatusCode::CONFLICT, "sold-out"), "{}", answer.body);
        assert_eq!(answer.body["alternatives"]["schedules"][0]["schedule_id"], json!(other));
    }
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE user_id = 'ann'").await, 1);
    until("ann is told", async || (stack.messages_to("ann").await.len() == 1).then_some(())).await;
    assert_eq!(stack.count("SELECT count(*) FROM notifications WHERE kind = 'booking_failed'").await, 1);
}

/// §3: before its opening a session takes no order and says when it will; at the opening it does.
#[tokio::test]
async fn s3_a_session_opens_at_its_time() {
    let stack = hasty("sale_opens", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    stack.move_session(&schedule, "sale_opens_at", "3 seconds").await;
    // The catalogue does not know of the change: the worker judges.
    let early = stack.wish("ann", "early", &schedule).await;
    assert_eq!((early.status, early.problem()), (StatusCode::CONFLICT, "not-on-sale"), "{}", early.body);
    assert!(early.body["sale_opens_at"].is_string(), "with the time: {}", early.body);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 0);
    until("it is on sale", async || {
        let open = "SELECT count(*) FROM course_schedules WHERE sale_opens_at <= now()";
        (stack.count(open).await == 1).then_some(())
    })
    .await;
    let served = stack.wish("ann", "in-time", &schedule).await;
    assert_eq!(served.status, StatusCode::CREATED, "{}", served.body);
    assert_ne!(served.body["order_id"], Value::Null);
}
