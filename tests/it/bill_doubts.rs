//! A day's bill, when WeChat's word about one of its rows is a doubt, or the bill cannot be had at all.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    metrics::Counts,
    reconciliation::{close_day, reconcile},
    stack::{Answer, Choice, Stack, until},
};

/// Kind and remedy of every difference that stands.
fn standing(report: &Value) -> Vec<(&str, &str)> {
    let items = report["items"].as_array().expect("items").iter().filter(|item| item["settled_at"].is_null());
    items.map(|item| (item["kind"].as_str().expect("a kind"), item["remedy"].as_str().expect("a remedy"))).collect()
}

async fn refund(stack: &Stack, token: &str, order: &str) {
    let request = stack.request(Method::POST, &format!("/v1/orders/{order}/refunds")).bearer_auth(token);
    let asked = Answer::of(request.header("Idempotency-Key", "r").json(&json!({ "reason": "ill" }))).await;
    assert_eq!(asked.status, 202, "{}", asked.body);
}

#[tokio::test]
async fn a_row_of_the_bill_heals_only_when_wechat_says_clearly_what_it_is() {
    let roles = vec!["api", "seats", "prepay", "payments", "refunds"];
    let mut stack = Stack::start_with("bill-doubts", Choice { roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(3).await;
    let (ann, unseen) = stack.payable("ann", &schedule).await;
    let (bob, untold) = stack.booked("bob", &schedule).await;
    let (cid, slow) = stack.booked("cid", &schedule).await;
    stack
        .script(&json!({ "rules": [
            { "on": "callback_payment", "callback": "never" },
            { "on": "callback_refund", "callback": "never" },
            { "on": "refund", "order": slow, "refund": { "slow_ms": 600_000 } },
        ] }))
        .await;
    stack.pay(&unseen).await;
    refund(&stack, &bob, &untold).await;
    refund(&stack, &cid, &slow).await;
    stack.until_count("WeChat has both", "SELECT count(*) FROM refunds WHERE status = 'processing'", 2).await;
    // Nobody asks WeChat about them by the clock.
    stack.kill("refunds");
    until("one of them is done at WeChat", async || {
        stack.ledger().await["refunds"].as_array()?.iter().any(|refund| refund["status"] == "SUCCESS").then_some(())
    })
    .await;
    let closed = close_day(&stack, &json!({})).await;
    let date = closed["bill_date"].as_str().expect("a date");

    for on in ["query", "refund_query"] {
        stack.script(&json!({ "rules": [{ "on": on, "status": 502, "html": true }] })).await;
        let (code, words) = reconcile(&stack, date).await;
        assert_eq!(code, 3, "the day stays unfinished: {words}");
    }
    // What is under way on both sides is no difference.
    for said in [json!({ "state": "ACCEPT" }), json!({ "status": 400, "code": "PARAM_ERROR" })] {
        let rules = ["query", "refund_query"].map(|on| {
            let mut rule = said.clone();
            rule["on"] = json!(on);
            rule
        });
        stack.script(&json!({ "rules": rules })).await;
        let (code, report) = reconcile(&stack, date).await;
        assert_eq!((code, standing(&report)), (1, vec![("payment_unseen", "case"), ("refund_unseen", "case")]));
        assert_eq!(stack.count("SELECT count(*) FROM cases WHERE status = 'open'").await, 2);
    }
    assert_eq!(stack.order(&ann, &unseen).await.body["status"], "awaiting_payment");

    stack.script(&json!({})).await;
    let (_, report) = reconcile(&stack, date).await;
    assert_eq!(standing(&report), [("payment_unseen", "heal"), ("refund_unseen", "heal")]);
    stack.spawn("refunds");
    stack.until_status(&ann, &unseen, "confirmed").await;
    stack.until_status(&bob, &untold, "refunded").await;
    let (code, report) = reconcile(&stack, date).await;
    assert_eq!((code, &report["status"]), (0, &json!("balanced")), "{report}");
    assert_eq!(stack.count("SELECT count(*) FROM cases WHERE status = 'open'").await, 0);
    stack.check_invariants().await;
}

#[tokio::test]
async fn a_day_whose_bill_cannot_be_had_is_not_asked_for_again_and_again() {
    let settings =
        vec![("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()), ("HOLDFAST_RECONCILE__BILL_HOUR", "0".to_owned())];
    let mut stack = Stack::start_with("bill-paused", Choice { settings, roles: vec![], ..Choice::default() }).await;
    stack.add_schedule(1).await;
    let aged = sqlx::query("UPDATE course_schedules SET created_at = now() - interval '1 day'").execute(&stack.db);
    aged.await.expect("it is a day old");
    stack.script(&json!({ "rules": [{ "on": "bill", "status": 502, "html": true }] })).await;
    stack.spawn("reconcile");
    until("it has looked three times", async || {
        let counts = Counts::of_worker(&stack, "reconcile").await;
        (counts.sum("reconcile_pass_seconds_count", &[]) >= 3).then_some(())
    })
    .await;
    let counts = Counts::of_worker(&stack, "reconcile").await;
    assert_eq!(counts.sum("books_days_total", &[("status", "unfinished")]), 1);
    assert_eq!(stack.count("SELECT count(*) FROM book_days WHERE error IS NOT NULL").await, 1, "and why is told");

    // A new process asks at once.
    assert!(stack.terminate("reconcile").await.success());
    stack.script(&json!({})).await;
    stack.spawn("reconcile");
    stack.until_count("it is compared", "SELECT count(*) FROM book_days WHERE finished_at IS NOT NULL", 1).await;
}
