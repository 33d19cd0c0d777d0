//! A session is cancelled: everybody who paid gets their money back once, however often the command is interrupted.

use std::{collections::BTreeMap, process::Stdio};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    customer::Customer,
    stack::{PRICE_FEN, Stack, until},
};

const BOOKINGS: usize = 500;
const UNPAID: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_cancelled_with_paid_bookings() {
    let mut stack = Stack::start("session_cancelled").await;
    stack.spawn("reconcile");
    let schedule = stack.add_schedule(BOOKINGS as u32 + 50).await;
    let customers = Customer::crowd(&stack, "guest", BOOKINGS + UNPAID);
    for some in customers.chunks(100) {
        join_all(some.iter().map(async |customer| customer.submit(&schedule, None).await)).await;
    }
    let payable = "SELECT count(*) FROM payment_orders WHERE status = 'awaiting_payment'";
    until("all can pay", async || (stack.count(payable).await == (BOOKINGS + UNPAID) as i64).then_some(())).await;
    let orders: Vec<String> = sqlx::query_scalar("SELECT order_id FROM payment_orders ORDER BY arrival LIMIT $1")
        .bind(BOOKINGS as i64)
        .fetch_all(&stack.db)
        .await
        .expect("orders");
    for some in orders.chunks(50) {
        for paid in join_all(some.iter().map(|order| stack.pay(order))).await {
            assert_eq!(paid.status, StatusCode::OK, "{}", paid.body);
        }
    }
    let confirmed = "SELECT count(*) FROM payment_orders WHERE status = 'confirmed'";
    until("all are booked", async || (stack.count(confirmed).await == BOOKINGS as i64).then_some(())).await;

    let planned = cancel(&stack, &["--dry-run"], &schedule).await;
    let all_fen = BOOKINGS as i64 * PRICE_FEN;
    assert_eq!(
        (&planned["bookings"], &planned["bookings_fen"], &planned["unpaid"]),
        (&json!(BOOKINGS), &json!(all_fen), &json!(UNPAID)),
        "{planned}"
    );
    assert_eq!(stack.count(confirmed).await, BOOKINGS as i64, "a dry run changes nothing");
    assert_eq!(stack.count("SELECT count(*) FROM refunds").await, 0);

    // Interrupted twice, in the middle of its work.
    for refunds in [BOOKINGS / 5, BOOKINGS / 2] {
        let mut child = stack
            .command(&["schedule", "cancel", &schedule, "--rate", "150/s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let enough = "SELECT count(*) FROM refunds";
        until("some refunds", async || (stack.count(enough).await >= refunds as i64).then_some(())).await;
        child.kill().expect("it still works");
        child.wait().expect("it ended");
    }
    let late = Customer::of(&stack, "late").click(&schedule, None).await.expect("an answer");
    assert_eq!(late.problem(), "schedule-closed", "{}", late.body);

    let done = cancel(&stack, &["--rate", "150", "--wait"], &schedule).await;
    assert_eq!(
        (&done["bookings"], &done["unpaid"], &done["refunds_open"], &done["refunds_succeeded_fen"]),
        (&json!(0), &json!(0), &json!(0), &json!(all_fen)),
        "{done}"
    );
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE status = 'refunded'").await, BOOKINGS as i64);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE status = 'cancelled'").await, UNPAID as i64);

    let ledger = stack.ledger().await;
    let mut refunds: BTreeMap<&str, i64> = BTreeMap::new();
    for refund in ledger["refunds"].as_array().expect("refunds") {
        *refunds.entry(refund["out_trade_no"].as_str().expect("an order")).or_default() +=
            refund["refund"].as_i64().expect("fen");
    }
    assert_eq!(refunds.len(), BOOKINGS);
    assert!(refunds.values().all(|fen| *fen == PRICE_FEN), "somebody was refunded twice: {refunds:?}");

    let again = cancel(&stack, &[], &schedule).await;
    assert_eq!(again, done, "a second time there is nothing left to do");
    stack.holdfast_ok(&["verify"]).await;
}

/// Runs the command to its end.
async fn cancel(stack: &Stack, options: &[&str], schedule: &str) -> Value {
    let arguments = [&["schedule", "cancel", schedule, "--json"], options].concat();
    serde_json::from_str(&stack.holdfast_ok(&arguments).await).expect("one JSON document")
}
