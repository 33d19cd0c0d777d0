//! What stands between a held order and its code: a payer whom nobody named, a key that is not at hand yet, an hour that
//! runs out while WeChat is asked.

use holdfast::domain::{
    ids::ScheduleId,
    message::{Message, OrderHeld, OrderSubmitted},
    money::Fen,
    order::Channel,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    late_money::order_late,
    metrics::Counts,
    queues::Queues,
    stack::{Choice, PRICE_FEN, Stack, until},
    stopping::until_struck,
    story::{hasty_with, order_id, user_id},
};

/// An order inside WeChat of somebody whom no token named to WeChat: no ingress lets it in.
fn nameless(user: &str, schedule: &str) -> OrderSubmitted {
    OrderSubmitted {
        order_id: order_id("hfnameless"),
        user_id: user_id(user),
        openid: None,
        schedule_id: ScheduleId::parse(schedule).expect("a UUID"),
        seat_no: None,
        amount_fen: Fen(PRICE_FEN),
        channel: Channel::Jsapi,
        request_hash: "hash".into(),
        submitted_at: OffsetDateTime::now_utc(),
        request_id: "test".into(),
    }
}

#[tokio::test]
async fn an_order_that_nobody_can_be_asked_to_pay_is_set_aside() {
    let stack = Stack::start("codes_nobody").await;
    let queues = Queues::of(&stack).await;
    stack.lay(&Message::OrderHeld(OrderHeld { order_id: order_id("hfnobodys1") })).await;
    assert_eq!(queues.take("prepay.dead").await.header("x-error-class"), "no_such_order");

    let schedule = stack.add_schedule(2).await;
    stack.lay(&Message::OrderSubmitted(nameless("ann", &schedule))).await;
    let letter = queues.take("prepay.dead").await;
    assert_eq!((letter.header("x-error-class"), letter.key()), ("no_openid", "hfnameless/held"));
    let ann = stack.quick_token("ann");
    // The seat is theirs for the while.
    stack.until_status(&ann, "hfnameless", "held").await;

    // Who she is to WeChat is known from her next order on; the letter is put back.
    stack.booked("ann", &schedule).await;
    queues.shovel(&letter, letter.header("x-queue")).await;
    let payable = stack.until_status(&ann, "hfnameless", "awaiting_payment").await;
    assert!(payable["jsapi"]["package"].is_string(), "{payable}");
    stack.pay("hfnameless").await;
    stack.until_status(&ann, "hfnameless", "confirmed").await;
    stack.check_money().await;
}

/// Keys are changed process by process: one has sealed with the new key before another has read it.
#[tokio::test]
async fn a_payer_sealed_under_a_key_that_is_not_at_hand_yet_waits_for_it() {
    let roles = vec!["api", "prepay"];
    let mut stack = Stack::start_with("codes_key", Choice { roles, ..Choice::default() }).await;
    let old = stack.environment["HOLDFAST_PERSONAL__KEY"].clone();
    let both = format!("may bm90IHNvIHJhbmRvbSwgYnV0IDMyIGJ5dGVzIGxvbmc=\n{old}");
    stack.environment.insert("HOLDFAST_PERSONAL__KEY".into(), both);
    stack.spawn("seats");
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN, "channel": "jsapi" });
    stack.submit_request(&ann, "k", &body).send().await.expect("an answer");
    let waiting = Queues::of(&stack).await.look_waiting("early").await;
    let order = waiting.json()["order_id"].as_str().expect("an order").to_owned();
    stack.until_status(&ann, &order, "held").await;
    assert_eq!(stack.ledger().await["orders"], json!([]), "WeChat was not asked for somebody else");

    assert!(stack.terminate("prepay").await.success());
    stack.spawn("prepay");
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(stack.ready_in("prepay.dead").await, 0);
    stack.check_invariants().await;
}

/// WeChat claims that the number is another order's, and has an unpaid one there. While it was asked, the hour has run
/// out: there is nothing left for a person to decide, the deadline closes it.
#[tokio::test]
async fn a_claim_about_an_order_whose_time_ran_out_meanwhile_is_left_to_its_deadline() {
    let mut stack = hasty_with("codes_too_late", 600, 1200, &["api", "seats"]).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    order_late(&stack, &order).await;
    let used = json!({ "on": "order", "status": 403, "code": "OUT_TRADE_NO_USED", "latency_ms": 1500 });
    stack.script(&json!({ "rules": [used] })).await;
    stack.spawn("prepay");
    until_struck(&stack, 1).await;
    stack.end_deadline(&order).await;
    until("the claim was looked into", async || {
        let counts = Counts::of_worker(&stack, "prepay").await;
        (counts.sum("messages_total", &[("queue", "prepay"), ("outcome", "done")]) == 1).then_some(())
    })
    .await;
    assert_eq!(stack.ready_in("prepay.dead").await, 0, "nobody is asked");
    stack.until_status(&ann, &order, "held").await;
    stack.spawn("expiry");
    stack.until_status(&ann, &order, "expired").await;
    assert_eq!(stack.pay(&order).await.body["reason"], "closed");
    stack.check_money().await;
}
