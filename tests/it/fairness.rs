//! The proof of fairness accuses nobody falsely: a seat that is given back, in whatever way, may go to who comes later.

use serde_json::{Value, json};

use crate::{
    overrides::stage,
    stack::{Stack, until},
};

impl Stack {
    /// The session's line, and whether somebody in it was overtaken.
    async fn line(&self, schedule: &str) -> (i32, Vec<Value>) {
        let (code, line, stderr) = self.holdfast(&["schedule", "line", schedule, "--json"]).await;
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{stderr}"));
        (code, line["items"].as_array().expect("items").clone())
    }

    /// One is refused, a seat is given back, who comes later gets it: as long as it was given back in between, all is fair.
    async fn fair_after(&self, how: &str, give_back: impl AsyncFnOnce(&str, &str, &str)) {
        let schedule = self.add_schedule(1).await;
        // Customers of their own, since one may have only so many unpaid orders.
        let name = |who: &str| format!("{who}-{}", how.replace(' ', "-"));
        let (ann, first) = self.payable(&name("ann"), &schedule).await;
        let bob = self.quick_token(&name("bob"));
        let refused = self.submit(&bob, &schedule).await;
        self.until_status(&bob, &refused, "rejected").await;
        give_back(&ann, &first, &schedule).await;
        let cid = self.quick_token(&name("cid"));
        let later = self.submit(&cid, &schedule).await;
        self.until_status(&cid, &later, "awaiting_payment").await;
        let (code, line) = self.line(&schedule).await;
        assert_eq!((code, line.last().map(|last| &last["order_id"])), (0, Some(&json!(later))), "{how}: {line:#?}");
    }
}

/// C5: after a release, a close, a waiver taken back or a refund by an operator the proof named somebody overtaken.
#[tokio::test]
async fn c5_a_seat_that_comes_back_in_whatever_way_is_no_injustice() {
    let stack = stage("fairness", 1_000_000).await;
    for (action, becomes) in [("release", "lapsed"), ("close", "cancelled")] {
        stack
            .fair_after(action, async |ann, order, _| {
                stack.decided(order, action, &["--as", "olga"]).await;
                stack.until_status(ann, order, becomes).await;
            })
            .await;
    }
    stack
        .fair_after("a waiver taken back", async |ann, order, _| {
            stack.decided(order, "waive", &["--as", "olga"]).await;
            stack.until_status(ann, order, "confirmed").await;
            stack.decided(order, "release", &["--as", "olga"]).await;
            stack.until_status(ann, order, "cancelled").await;
        })
        .await;
    stack
        .fair_after("a refund by an operator", async |ann, order, _| {
            stack.pay(order).await;
            stack.until_status(ann, order, "confirmed").await;
            stack.decided(order, "refund", &["--as", "olga"]).await;
            stack.until_status(ann, order, "refunded").await;
        })
        .await;
    stack
        .fair_after("a customer cancels", async |ann, order, _| {
            stack.cancel(ann, order).await;
            stack.until_status(ann, order, "cancelled").await;
        })
        .await;
    stack
        .fair_after("a deadline", async |ann, order, _| {
            stack.end_deadline(order).await;
            stack.until_status(ann, order, "expired").await;
        })
        .await;
    stack
        .fair_after("an offer that lapses", async |ann, order, schedule| {
            stack.wait_in_line(&["dan"], schedule).await;
            stack.cancel(ann, order).await;
            let offered = stack.offered_to("dan").await;
            stack.end_hold(&offered).await;
            until("the seat is free again", async || {
                let free = sqlx::query("SELECT FROM free_seats WHERE schedule_id = $1::uuid").bind(schedule);
                free.fetch_optional(&stack.db).await.expect("a look").map(drop)
            })
            .await;
        })
        .await;
    stack.verified().await;
}

/// C5: it still sees who was overtaken.
#[tokio::test]
async fn c5_who_is_overtaken_is_still_seen() {
    let stack = stage("fairness_seen", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    stack.payable("ann", &schedule).await;
    let bob = stack.quick_token("bob");
    let refused = stack.submit(&bob, &schedule).await;
    stack.until_status(&bob, &refused, "rejected").await;
    // A seat out of nowhere, which nobody gave back.
    sqlx::raw_sql(
        "UPDATE course_schedules SET capacity = 2; INSERT INTO free_seats SELECT schedule_id, 2 FROM course_schedules",
    )
    .execute(&stack.db)
    .await
    .expect("a seat");
    stack.payable("cid", &schedule).await;
    let (code, line) = stack.line(&schedule).await;
    assert_eq!((code, &line[1]["overtaken"]), (1, &json!(true)), "{line:#?}");
}
