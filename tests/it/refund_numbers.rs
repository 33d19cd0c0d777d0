//! Numbers of refunds, and rows that cannot be read: neither stops the refunds beside them.

use holdfast::domain::ids::RefundId;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    refunds::with_a_booking,
    stack::{Answer, Choice, Stack, until},
    story::{deadlines, order_id},
};

/// B3: with the longest prefix, a refund by an override that WeChat closes goes on under a number that WeChat takes.
#[tokio::test]
async fn a_closed_refund_of_the_longest_number_goes_on() {
    let mut settings = deadlines(600, 1200);
    settings.push(("HOLDFAST_ORDER__ID_PREFIX", "hf123456".into()));
    let stack = Stack::start_with("longest_number", Choice { settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "refund", "refund": "CLOSED", "count": 1 }] })).await;
    let decided = stack.decided(&order, "refund", &["--as", "olga"]).await;
    let id = Uuid::parse_str(decided["override_id"].as_str().expect("an id")).expect("a UUID");
    let first = RefundId::of_override(&order_id(&order), id);
    stack.until_refund(first.as_str(), "closed").await;
    stack.advance_simulator(61).await;
    let next = first.successor();
    until("the next number is refunded", async || {
        stack.lay_refund_due(next.as_str()).await;
        (stack.order(&ann, &order).await.body["status"] == "refunded").then_some(())
    })
    .await;
    assert!(next.as_str().len() <= 64, "{next}");
    assert_eq!(stack.ready_in("refunds.dead").await, 0);
    stack.check_money().await;
}

/// B3: a row that cannot be read is skipped, counted and shown by a case; the refunds beside it go on and are listed.
#[tokio::test]
async fn a_row_that_cannot_be_read_stops_no_other() {
    let (mut stack, ann, order) = with_a_booking("unreadable_row").await;
    stack.kill("refunds");
    let good = stack.lay_refund(&order, "part", Some(5_000)).await;
    stack.spawn("refunds");
    stack.until_refund(&good, "succeeded").await;
    stack.kill("refunds");
    let bad = format!("{order}-{}", "0".repeat(70));
    sqlx::query(
        "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, next_check_at, created_at)
         SELECT number, $1, 'requested', 1, 'test', 'operator:test', now() - interval '1 day', now() - interval '2 days'
           FROM unnest(ARRAY[$2, $3]) AS number",
    )
    .bind(&order)
    .bind(&bad)
    .bind(format!("{order}-beside"))
    .execute(&stack.db)
    .await
    .expect("rows");
    let path = format!("/v1/orders/{order}/refunds");
    let listed = Answer::of(stack.request(Method::GET, &path).bearer_auth(&ann)).await;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(2), "{}", listed.body);
    stack.spawn("reconcile");
    until("the row beside it is swept", async || (stack.ready_in("refunds").await >= 1).then_some(())).await;
    until("a case shows the other", async || {
        let cases = stack.open_cases().await;
        (cases == [("unreadable_row".to_owned(), format!("refunds/{bad}"))]).then_some(())
    })
    .await;
    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    assert!(code == 1 && report.contains("refunds_readable"), "{report}");
}
