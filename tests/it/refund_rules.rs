//! What customers take back by themselves: what the session's rules say, when they asked, and never an amount of theirs.

use holdfast::{api::Role, domain::message::Message, domain::message::RefundRequested};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::types::time::OffsetDateTime;

use crate::{
    stack::{Answer, PRICE_FEN, Stack},
    story::{hasty, order_id, refund_id},
};

impl Stack {
    pub(crate) async fn set_refund_rules(&self, rules: &str) {
        let set = "UPDATE course_schedules SET refund_rules = $1::jsonb";
        sqlx::query(set).bind(rules).execute(&self.db).await.expect("changed");
    }

    pub(crate) async fn ask_refund(&self, token: &str, order: &str, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, &format!("/v1/orders/{order}/refunds"));
        Answer::of(request.bearer_auth(token).header("Idempotency-Key", key).json(body)).await
    }

    /// WeChat takes one refund of an order a minute, and the worker waits an interval, here of a second: a next one goes
    /// through from now on.
    pub(crate) async fn until_next_refund_may_go(&self) {
        let recent = "SELECT count(*) FROM refunds WHERE sent_at > now() - interval '1.2 seconds'";
        self.until_count("the interval between two refunds is over", recent, 0).await;
        self.advance_simulator(61).await;
    }

    async fn preview(&self, token: &str, order: &str) -> Value {
        let path = format!("/v1/orders/{order}/refunds/preview");
        Answer::of(self.request(Method::GET, &path).bearer_auth(token)).await.body
    }
}

/// B8: no amount by customers, and what they take back ends the booking and frees the seat, also when it is a part.
#[tokio::test]
async fn b8_a_customer_takes_back_the_share_of_the_rules_and_gives_the_seat_up() {
    let stack = hasty("refund_share", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    stack.set_refund_rules(r#"[{"until_hours_before":24,"percent":33}]"#).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    let greedy = stack.ask_refund(&ann, &order, "k", &json!({ "reason": "r", "amount_fen": PRICE_FEN - 1 })).await;
    assert_eq!((greedy.status.as_u16(), greedy.problem()), (422, "amount-not-yours"), "{}", greedy.body);

    let preview = stack.preview(&ann, &order).await;
    assert_eq!(
        (&preview["allowed"], &preview["amount_fen"], &preview["percent"]),
        (&json!(true), &json!(6_600), &json!(33))
    );
    let taken = stack.ask_refund(&ann, &order, "k", &json!({ "reason": "r" })).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.body);
    let refunded = stack.until_status(&ann, &order, "refunded").await;
    assert_eq!((&refunded["refunded_fen"], &refunded["seat_no"]), (&json!(6_600), &Value::Null));
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1, "the seat is free");
    let twice = stack.ask_refund(&ann, &order, "another", &json!({ "reason": "r" })).await;
    assert_eq!(twice.problem(), "nothing-left", "{}", twice.body);
    stack.verified().await;

    // The rest is the studio's, which may give it, too.
    stack.until_next_refund_may_go().await;
    let ops = stack.token_of_role("ops", Role::Operator);
    let rest = stack.ask_refund(&ops, &order, "rest", &json!({ "reason": "r" })).await;
    assert_eq!(rest.status, StatusCode::ACCEPTED, "{}", rest.body);
    let id = rest.body["refund_id"].as_str().expect("an id").to_owned();
    stack.until_refund(&id, "succeeded").await;
    let whole = stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(whole["refunded_fen"], PRICE_FEN);
    stack.verified().await;
    stack.check_money().await;
}

/// B8: after the last rule and after the start a customer takes nothing back; an operator always may.
#[tokio::test]
async fn b8_after_the_last_rule_only_an_operator_gives_back() {
    let stack = hasty("refund_too_late", 600, 1200).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, first) = stack.booked("ann", &schedule).await;
    let (_, second) = stack.booked("bob", &schedule).await;
    for start in ["23 hours", "-1 hour"] {
        stack.move_session(&schedule, "starts_at", start).await;
        let late = stack.ask_refund(&ann, &first, "k", &json!({ "reason": "r" })).await;
        assert_eq!((late.status.as_u16(), late.problem()), (409, "refund-not-allowed"), "{}", late.body);
        let preview = stack.preview(&ann, &first).await;
        assert_eq!((&preview["allowed"], &preview["refusal"]), (&json!(false), &json!("refund-not-allowed")));
    }
    // The worker's own judgement, of a message that no ingress has judged.
    let message = |key: &str, user: &str, amount_fen, requested_at| {
        Message::RefundRequested(RefundRequested {
            refund_id: refund_id(&format!("{first}-{key}")),
            order_id: order_id(&first),
            amount_fen,
            reason: "r".into(),
            requested_by: format!("user:{user}"),
            requested_at,
            request_id: "test".into(),
        })
    };
    for (key, user, amount, why) in [
        ("late", "ann", None, "refund-not-allowed"),
        ("sum", "ann", Some(holdfast::domain::money::Fen(1)), "amount-not-yours"),
        ("not", "bob", None, "not-yours"),
    ] {
        stack.lay(&message(key, user, amount, None)).await;
        let error = stack.until_refund(&format!("{first}-{key}"), "refused").await;
        assert_eq!(error.as_deref(), Some(why));
    }
    // Who asked in time is served in time, however long the message waited.
    let in_time = OffsetDateTime::now_utc() - time::Duration::days(2);
    stack.lay(&message("intime", "ann", None, Some(in_time))).await;
    stack.until_status(&ann, &first, "refunded").await;

    let ops = stack.token_of_role("ops", Role::Operator);
    let part = stack.ask_refund(&ops, &second, "part", &json!({ "reason": "r", "amount_fen": 1_000 })).await;
    assert_eq!(part.status, StatusCode::ACCEPTED, "{}", part.body);
    let id = part.body["refund_id"].as_str().expect("an id").to_owned();
    stack.until_refund(&id, "succeeded").await;
    assert_eq!(stack.count("SELECT count(*) FROM bookings WHERE cancelled_at IS NULL").await, 1, "the seat stays");
    // What leaves nothing paid frees the seat, also as a part.
    stack.until_next_refund_may_go().await;
    let rest = stack.ask_refund(&ops, &second, "rest", &json!({ "reason": "r", "amount_fen": 19_000 })).await;
    assert_eq!(rest.status, StatusCode::ACCEPTED, "{}", rest.body);
    stack.until_count("no seat without a price", "SELECT count(*) FROM bookings WHERE cancelled_at IS NULL", 0).await;
    stack.until_status(&stack.quick_token("bob"), &second, "refunded").await;
    stack.check_money().await;
}
