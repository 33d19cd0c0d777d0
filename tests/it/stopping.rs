//! Messages that wait, and workers that stop or die in the middle of one: nothing is lost, nothing done twice.

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    queues::Queues,
    stack::{Answer, Choice, Stack, until},
};

/// Holds orders, gives no codes yet.
async fn without_prepay(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: vec!["api", "seats"], ..Choice::default() }).await
}

/// Waits until the script's first rule has struck so often.
pub(crate) async fn until_struck(stack: &Stack, times: u64) {
    until(&format!("the script has struck {times} times"), async || {
        let playing = Answer::of(stack.http.get(format!("{}/_sim/script", stack.simulator.url))).await;
        (playing.body["struck"][0].as_u64()? >= times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p3_a_message_climbs_the_ladder_of_delays_and_counts_its_attempts() {
    let mut stack = without_prepay("stopping-ladder").await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    stack.script(&json!({ "rules": [{ "on": "order", "status": 502, "html": true }] })).await;
    stack.spawn("prepay");
    let order = stack.submit(&ann, &schedule).await;
    let queues = Queues::of(&stack).await;

    let first = queues.look("delay.1s").await;
    assert_eq!((first.header("x-attempt"), first.header("x-error-class")), ("2", "unknown"));
    assert!(!first.headers.contains_key("x-death"));
    let wait: u64 = first.properties.expiration().as_ref().expect("a wait").as_str().parse().expect("milliseconds");
    assert!((800..=1000).contains(&wait), "{wait}");
    stack.script(&json!({ "rules": [{ "on": "order", "status": 429, "code": "FREQUENCY_LIMITED" }] })).await;

    let second = queues.look("delay.5s").await;
    assert_eq!((second.header("x-attempt"), second.header("x-error-class")), ("3", "busy"));
    assert!(!second.headers.contains_key("x-death"), "the broker's own history stays behind: {:?}", second.headers);
    for header in ["x-first-failed-at", "x-schema", "traceparent"] {
        assert_eq!(second.header(header), first.header(header), "{header} stays");
    }
    assert_eq!((&second.body, second.properties.message_id()), (&first.body, first.properties.message_id()));
    // No code, and no conclusion.
    stack.until_status(&ann, &order, "held").await;

    stack.script(&json!({})).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(stack.ledger().await["orders"].as_array().map(Vec::len), Some(1));
    for queue in ["prepay", "prepay.dead", "delay.1s", "delay.5s"] {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn a_worker_told_to_stop_finishes_what_is_in_hand() {
    let mut stack = without_prepay("stopping-term").await;
    let schedule = stack.add_schedule(200).await;
    let mut orders = Vec::new();
    for customer in 0..150 {
        let token = stack.quick_token(&format!("customer-{customer}"));
        let order = stack.submit(&token, &schedule).await;
        orders.push((token, order));
    }
    for (token, order) in &orders {
        stack.until_status(token, order, "held").await;
    }
    stack.script(&json!({ "rules": [{ "on": "order", "latency_ms": 1000 }] })).await;
    stack.spawn("prepay");
    until_struck(&stack, 10).await;
    let ended = stack.terminate("prepay").await;
    assert_eq!(ended.code(), Some(0));
    let coded = "SELECT count(*) FROM payment_orders WHERE status = 'awaiting_payment'";
    let asked = stack.ledger().await["orders"].as_array().map_or(0, Vec::len);
    assert_eq!(
        stack.count(coded).await,
        i64::try_from(asked).expect("few"),
        "each answer that was asked for is stored"
    );
    assert!((10..150).contains(&asked), "it stopped in the middle: {asked}");
    until("the rest is back in the queue", async || {
        let ready = stack.ready_in("prepay").await as usize;
        assert!(ready <= 150 - asked, "{ready} are back, though {asked} of 150 were finished");
        (ready == 150 - asked).then_some(())
    })
    .await;

    stack.script(&json!({})).await;
    stack.spawn("prepay");
    for (token, order) in &orders {
        stack.until_status(token, order, "awaiting_payment").await;
    }
    assert_eq!(stack.ledger().await["orders"].as_array().map(Vec::len), Some(150), "one order at WeChat for each");
    assert_eq!(stack.ready_in("prepay.dead").await, 0);
    for role in ["seats", "prepay", "api"] {
        assert_eq!(stack.terminate(role).await.code(), Some(0), "{role}");
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn crash_between_wechats_deed_and_our_record() {
    let mut stack = without_prepay("stopping-kill").await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    // WeChat makes the order, and the worker dies before it hears of it.
    stack.script(&json!({ "rules": [{ "on": "order", "latency_ms": 60_000 }] })).await;
    stack.spawn("prepay");
    let order = stack.submit(&ann, &schedule).await;
    until_struck(&stack, 1).await;
    stack.kill("prepay");
    stack.until_status(&ann, &order, "held").await;

    stack.script(&json!({})).await;
    for worker in ["prepay", "payments", "notifications"] {
        stack.spawn(worker);
    }
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(stack.ledger().await["orders"].as_array().map(Vec::len), Some(1), "the same number, the same order");
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    stack.until_status(&ann, &order, "confirmed").await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn crash_between_commit_and_publish() {
    let mut stack = without_prepay("stopping-commit").await;
    let schedule = stack.add_schedule(3).await;
    let ann = stack.quick_token("ann");
    // Without its queue the follow-up cannot be published: the seat is committed, the message not acknowledged.
    Queues::of(&stack).await.delete("prepay").await;
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    stack.kill("seats");
    stack.holdfast_ok(&["topology", "apply"]).await;
    assert_eq!(stack.ready_in("prepay").await, 0);
    for worker in ["seats", "prepay"] {
        stack.spawn(worker);
    }
    assert_eq!(stack.until_status(&ann, &order, "awaiting_payment").await["seat_no"], 1);
    assert_eq!(stack.count("SELECT count(*) FROM seat_reservations").await, 1);
    assert_eq!(stack.count("SELECT count(*) FROM payment_audit_log").await, 2);
    stack.check_invariants().await;
}
