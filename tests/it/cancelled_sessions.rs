//! A cancelled session is an intent in the books: whatever is killed, it is carried to its end.

use std::process::Stdio;

use holdfast::api::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    stack::{Answer, Stack, until},
    story::hasty,
};

impl Stack {
    async fn open_cancellations(&self) -> (i32, Value) {
        let (code, report, _) = self.holdfast(&["verify", "--json"]).await;
        let report: Value = serde_json::from_str(&report).expect("one JSON document");
        let items = report["items"].as_array().expect("items");
        let item = items.iter().find(|item| item["name"] == "open_cancellations").expect("the item");
        (code, item.clone())
    }
}

/// C7: the command is killed right after the intent was written, and no process that asked is alive: nobody carried it on.
#[tokio::test]
async fn c7_a_killed_cancellation_is_carried_to_its_end() {
    let mut stack = hasty("cancelled_killed", 600, 1200).await;
    let schedule = stack.add_schedule(3).await;
    let (ann, booked) = stack.booked("ann", &schedule).await;
    let (bob, unpaid) = stack.payable("bob", &schedule).await;
    let (cid, lapsed) = stack.payable("cid", &schedule).await;
    stack.lapse_now(&cid, &lapsed).await;
    // A seat is free, so that nobody could join by the ordinary way.
    sqlx::query("INSERT INTO waitlist (schedule_id, user_id) VALUES ($1::uuid, 'cid')")
        .bind(&schedule)
        .execute(&stack.db)
        .await
        .expect("a place");

    // Nothing that could carry it on runs: the command has written the intent and waits when it is killed.
    let mut child = stack
        .command(&["schedule", "cancel", &schedule, "--as", "olga"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    stack.until_count("the intent is in the books", "SELECT count(*) FROM schedule_cancellations", 1).await;
    child.kill().expect("it waits");
    child.wait().expect("it ended");
    let (_, item) = stack.open_cancellations().await;
    assert_eq!((&item["checked"], &item["rows"][0]["orders_left"]), (&json!(1), &json!(3)), "{item}");
    assert_eq!(item["rows"][0]["requested_by"], "operator:olga", "{item}");
    assert_eq!(stack.count("SELECT count(*) FROM waitlist WHERE left_at IS NULL").await, 0, "nobody waits for it");

    // Killed in the middle of it, too.
    stack.spawn("reconcile");
    stack
        .until_count("it was asked", "SELECT count(*) FROM schedule_cancellations WHERE asked_at IS NOT NULL", 1)
        .await;
    stack.kill("reconcile");
    stack.spawn("reconcile");
    stack.until_status(&ann, &booked, "refunded").await;
    stack.until_status(&bob, &unpaid, "cancelled").await;
    stack.until_status(&cid, &lapsed, "cancelled").await;
    until("it is finished", async || {
        let (code, item) = stack.open_cancellations().await;
        (code == 0 && item["checked"] == 0).then_some(())
    })
    .await;

    let operator = stack.token_of_role("olga", Role::Operator);
    let path = format!("/v1/ops/schedules/{schedule}");
    let seen = Answer::of(stack.request(Method::GET, &path).bearer_auth(&operator)).await;
    let cancellation = &seen.body["cancellation"];
    assert_eq!((&cancellation["requested_by"], &cancellation["bookings"]), (&json!("operator:olga"), &json!(0)));
    assert!(cancellation["finished_at"].is_string(), "{cancellation}");
    assert_eq!(stack.audited(&booked, "refund_requested").await.0, "operator:olga");
    stack.check_money().await;
}

/// C7: over HTTP the answer comes at once, with who and why; repeating it changes neither.
#[tokio::test]
async fn c7_the_api_records_the_intent_and_returns() {
    let stack = hasty("cancelled_by_api", 600, 1200).await;
    let schedule = stack.add_schedule(2).await;
    stack.booked("ann", &schedule).await;
    let path = format!("/v1/ops/schedules/{schedule}/cancel");
    let post = async |operator: &str, body: Value| {
        let token = stack.token_of_role(operator, Role::Operator);
        Answer::of(stack.request(Method::POST, &path).bearer_auth(token).json(&body)).await
    };
    let would = post("olga", json!({ "dry_run": true })).await;
    assert_eq!((would.status, &would.body["requested_by"]), (StatusCode::OK, &json!(null)), "{}", would.body);
    assert_eq!(stack.count("SELECT count(*) FROM schedule_cancellations").await, 0);
    let asked = post("olga", json!({ "reason": "老师生病" })).await;
    assert_eq!((asked.status, &asked.body["bookings"]), (StatusCode::ACCEPTED, &json!(1)), "{}", asked.body);
    let again = post("oleg", json!({ "rate": 50 })).await;
    for answer in [asked, again] {
        let told = (&answer.body["requested_by"], &answer.body["reason"], &answer.body["finished_at"]);
        assert_eq!(told, (&json!("operator:olga"), &json!("老师生病"), &json!(null)), "{}", answer.body);
    }
    assert_eq!(stack.count("SELECT rate::bigint FROM schedule_cancellations").await, 50);
}
