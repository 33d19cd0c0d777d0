//! `POST /v1/orders/{id}/cancel`: who may, when, and what becomes of it.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    queues::Queues,
    stack::{Answer, Choice, Stack, until},
};

async fn cancel(stack: &Stack, token: &str, order: &str) -> Answer {
    Answer::of(stack.request(Method::POST, &format!("/v1/orders/{order}/cancel")).bearer_auth(token)).await
}

#[tokio::test]
async fn s5_1_an_order_is_cancelled_by_its_owner_while_it_is_unpaid() {
    let stack = Stack::start_with("cancel-answers", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(9).await;
    let (ann, bob) = (stack.quick_token("ann"), stack.quick_token("bob"));
    let queues = Queues::of(&stack).await;

    let mut open = vec![("submitted", stack.submit(&ann, &schedule).await)];
    for status in ["held", "awaiting_payment", "lapsed"] {
        open.push((status, stack.stage_order("ann", &schedule, status).await));
    }
    for (status, order) in open {
        assert_eq!(cancel(&stack, &bob, &order).await.problem(), "no-such-order", "{status}");
        let taken = cancel(&stack, &ann, &order).await;
        assert_eq!(taken.status, StatusCode::ACCEPTED, "{status}: {}", taken.body);
        assert_eq!(taken.body, json!({ "order_id": order, "status": status }));
        assert_eq!(taken.headers["location"], format!("/v1/orders/{order}"));
        let message = queues.take("expiry").await;
        assert_eq!(message.properties.kind().as_ref().map(|kind| kind.as_str()), Some("order.cancel"), "{status}");
        let request_id = taken.headers["x-request-id"].to_str().expect("visible");
        assert_eq!(message.json(), json!({ "order_id": order, "user_id": "ann", "request_id": request_id }));
    }

    for (status, code, problem) in [
        ("cancelled", 202, ""),
        ("rejected", 409, "already-ended"),
        ("expired", 409, "already-ended"),
        ("confirmed", 409, "already-paid"),
        ("refunding", 409, "already-paid"),
        ("refunded", 409, "already-paid"),
    ] {
        let order = stack.stage_order("ann", &schedule, status).await;
        let answer = cancel(&stack, &ann, &order).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (code, problem), "{status}: {}", answer.body);
        let refunds = json!(format!("/v1/orders/{order}/refunds"));
        assert_eq!(answer.body["instead"] == refunds, problem == "already-paid", "{status}: {}", answer.body);
    }
    assert_eq!(cancel(&stack, &ann, "hf0000000000").await.status, StatusCode::NOT_FOUND);
    assert_eq!(stack.ready_in("expiry").await, 0, "nothing to do, nothing said");
}

#[tokio::test]
async fn a_cancellation_that_the_broker_does_not_confirm_is_not_taken() {
    let stack = Stack::start_with("cancel-unconfirmed", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let order = stack.stage_order("ann", &schedule, "held").await;
    Queues::of(&stack).await.delete("expiry").await;
    let refused = cancel(&stack, &stack.quick_token("ann"), &order).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (503, "broker-unavailable"));
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn s5_1_a_cancelled_order_frees_its_seat_and_cannot_be_paid() {
    let stack = Stack::start("cancel-story").await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(cancel(&stack, &ann, &order).await.status, StatusCode::ACCEPTED);
    let cancelled = stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!((&cancelled["seat_no"], &cancelled["code_url"]), (&json!(null), &json!(null)));
    assert_eq!(cancel(&stack, &ann, &order).await.status, StatusCode::ACCEPTED, "again is harmless");
    assert_eq!(stack.pay(&order).await.status, StatusCode::CONFLICT, "closed at WeChat");
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    stack.check_invariants().await;
    stack.check_ledger().await;
}

#[tokio::test]
async fn cancel_while_paying() {
    let stack = Stack::start("cancel-while-paying").await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "rate": 1.0 }] })).await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "awaiting_payment").await;
    assert_eq!(stack.pay(&order).await.status, StatusCode::OK);
    let taken = cancel(&stack, &ann, &order).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "we have not heard of the payment: {}", taken.body);
    stack.until_status(&ann, &order, "confirmed").await;
    let late = until("the payment is known", async || {
        let answer = cancel(&stack, &ann, &order).await;
        (answer.status == StatusCode::CONFLICT).then_some(answer)
    })
    .await;
    assert_eq!(late.problem(), "already-paid");
    stack.check_invariants().await;
    stack.check_ledger().await;
}
