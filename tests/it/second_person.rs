//! One judge for all money that operators move: cumulative per order, whatever the door.

use holdfast::{api::Role, domain::message::Message, domain::message::RefundRequested, domain::money::Fen};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    overrides::stage,
    stack::{Answer, PRICE_FEN, Stack, until},
    story::{order_id, refund_id},
};

impl Stack {
    async fn approve(&self, operator: &str, proposed: &Value) -> Answer {
        let path = format!("/v1/ops/overrides/{}/approve", proposed["override_id"].as_str().expect("an id"));
        Answer::of(self.request(Method::POST, &path).bearer_auth(self.token_of_role(operator, Role::Operator))).await
    }

    async fn proposed_about(&self, order: &str) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM order_overrides WHERE order_id = $1 AND status = 'proposed'")
            .bind(order)
            .fetch_one(&self.db)
            .await
            .expect("a count")
    }
}

/// B7: an operator's refund above the sum waits for a second person, alone and with others of the order.
#[tokio::test]
async fn b7_refunds_of_an_order_add_up_before_the_second_person() {
    let stack = stage("judge_refunds", PRICE_FEN / 2).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    let olga = stack.token_of_role("olga", Role::Operator);
    let whole = stack.ask_refund(&olga, &order, "whole", &json!({ "reason": "r" })).await;
    assert_eq!((whole.status, &whole.body["status"]), (StatusCode::ACCEPTED, &json!("proposed")), "{}", whole.body);
    assert!(whole.body["override_id"].is_string());
    let again = stack.ask_refund(&olga, &order, "whole", &json!({ "reason": "r" })).await;
    assert_eq!(again.body, whole.body, "the same wish is the same override");
    assert_eq!(stack.approve("olga", &whole.body).await.problem(), "second-person-needed");
    assert_eq!(stack.order(&ann, &order).await.body["status"], "confirmed");
    let withdraw = format!("/v1/ops/overrides/{}/withdraw", whole.body["override_id"].as_str().expect("an id"));
    assert_eq!(Answer::of(stack.request(Method::POST, &withdraw).bearer_auth(&olga)).await.status, StatusCode::OK);

    // Two parts that add up.
    let half = json!({ "reason": "r", "amount_fen": PRICE_FEN / 2 });
    let first = stack.ask_refund(&olga, &order, "first", &half).await;
    assert!(first.body["refund_id"].is_string(), "{}", first.body);
    stack.until_refund(first.body["refund_id"].as_str().expect("an id"), "succeeded").await;
    let second = stack.ask_refund(&olga, &order, "second", &json!({ "reason": "r", "amount_fen": 1 })).await;
    assert_eq!(second.body["status"], "proposed", "{}", second.body);
    stack.until_next_refund_may_go().await;
    assert_eq!(stack.approve("otto", &second.body).await.status, StatusCode::ACCEPTED);
    until("it is given back", async || {
        (stack.order(&ann, &order).await.body["refunded_fen"] == PRICE_FEN / 2 + 1).then_some(())
    })
    .await;
    // Overrides count with them.
    let (code, third) = stack.decide(&order, "refund", &["--as", "olga", "--amount-fen", "1"]).await;
    assert_eq!((code, &third["status"]), (0, &json!("proposed")), "{third}");
    stack.verified().await;
    stack.check_money().await;
}

/// B7: the worker judges what no door has judged: two at once, an earlier release's message, a name made up by hand.
#[tokio::test]
async fn b7_the_worker_makes_a_proposal_of_what_is_too_much_for_one() {
    let stack = stage("judge_worker", PRICE_FEN / 2).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    let message = |key: &str, fen: i64| {
        Message::RefundRequested(RefundRequested {
            refund_id: refund_id(&format!("{order}-{key}")),
            order_id: order_id(&order),
            amount_fen: Some(Fen(fen)),
            reason: "r".into(),
            requested_by: "operator:olga".into(),
            requested_at: None,
            request_id: "test".into(),
        })
    };
    stack.lay(&message("a", PRICE_FEN / 2)).await;
    stack.lay(&message("b", PRICE_FEN / 2)).await;
    until("one is proposed", async || (stack.proposed_about(&order).await == 1).then_some(())).await;
    assert_eq!(stack.count("SELECT count(*) FROM refunds").await, 1);
    assert_eq!(stack.order(&ann, &order).await.body["status"], "confirmed");
    stack.verified().await;
}

/// B7: cancelling a session is no way around it: what is above the sum for one of its orders waits for a second person.
#[tokio::test]
async fn b7_a_cancelled_session_asks_a_second_person_where_an_order_is_above_the_sum() {
    let mut stack = stage("judge_session", PRICE_FEN - 1).await;
    stack.spawn("reconcile");
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    let olga = stack.token_of_role("olga", Role::Operator);
    let cancel = stack.request(Method::POST, &format!("/v1/ops/schedules/{schedule}/cancel"));
    assert_eq!(Answer::of(cancel.bearer_auth(&olga).json(&json!({}))).await.status, StatusCode::ACCEPTED);
    until("it is proposed", async || (stack.proposed_about(&order).await == 1).then_some(())).await;
    assert_eq!(stack.order(&ann, &order).await.body["status"], "confirmed", "no money moves by one person");
    let otto = stack.token_of_role("otto", Role::Operator);
    let listed = Answer::of(stack.request(Method::GET, "/v1/ops/overrides?status=proposed").bearer_auth(&otto)).await;
    let proposed = listed.body["items"][0].clone();
    assert_eq!(proposed["proposed_by"], "olga", "{proposed}");
    assert_eq!(stack.approve("otto", &proposed).await.status, StatusCode::ACCEPTED);
    stack.until_status(&ann, &order, "refunded").await;
    stack.check_money().await;
}
