//! A customer's look at an unpaid order makes us ask WeChat: soon, once in a while, and never in their way.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    degraded::empty_cache,
    queues::Queues,
    stack::{Choice, Stack, until},
};

#[tokio::test]
async fn s2_4_a_look_at_an_unpaid_order_sets_off_one_question() {
    let stack = Stack::start_with("look-messages", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let (schedule, ann) = (stack.add_schedule(9).await, stack.quick_token("ann"));
    let mut asked = BTreeSet::new();
    for status in ["held", "awaiting_payment", "lapsed", "confirmed", "cancelled", "expired"] {
        let order = stack.stage_order("ann", &schedule, status).await;
        // Twice: the second look is within the same seconds. A stranger's look is none.
        for _ in 0..2 {
            assert_eq!(stack.order(&ann, &order).await.body["status"], status);
        }
        assert_eq!(stack.order(&stack.quick_token("bob"), &order).await.status, 404);
        if ["awaiting_payment", "lapsed"].contains(&status) {
            asked.insert(order);
        }
    }
    // Changed a moment ago: its callback comes first.
    let fresh = stack.stage_order("ann", &schedule, "awaiting_payment").await;
    sqlx::query("UPDATE payment_orders SET updated_at = now() WHERE order_id = $1")
        .bind(&fresh)
        .execute(&stack.db)
        .await
        .expect("changed");
    stack.order(&ann, &fresh).await;

    let last = stack.stage_order("ann", &schedule, "awaiting_payment").await;
    stack.order(&ann, &last).await;
    asked.insert(last);
    let queues = Queues::of(&stack).await;
    let mut seen = BTreeSet::new();
    while seen.len() < asked.len() {
        let message = queues.take("expiry").await;
        let order = message.json()["order_id"].as_str().expect("an id").to_owned();
        assert_eq!(message.json(), json!({ "order_id": order, "alarm": "check", "after_ms": 0 }));
        assert!(seen.insert(order), "each order once");
    }
    assert_eq!(seen, asked);
}

#[tokio::test]
async fn s2_4_a_customer_who_looks_learns_of_a_payment_whose_callback_was_lost() {
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned())];
    let stack = Stack::start_with("look-story", Choice { settings, ..Choice::default() }).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "rate": 1.0 }] })).await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    // As if they had paid slowly: the order has been waiting for a while.
    sqlx::query("UPDATE payment_orders SET updated_at = now() - interval '1 minute' WHERE order_id = $1")
        .bind(&order)
        .execute(&stack.db)
        .await
        .expect("changed");
    empty_cache(&stack).await;
    stack.until_status(&ann, &order, "confirmed").await;
    until("they are told", async || stack.messages_to("ann").await.pop()).await;
    stack.check_invariants().await;
    stack.check_ledger().await;
}
