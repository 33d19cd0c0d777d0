//! How an order ends without a quarrel: holds and deadlines that run out, callbacks that never come, cancellation,
//! seats that are gone. Each hard case by its name, our books compared with WeChat's at the end.

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    customer::Customer,
    stack::{Choice, PRICE_FEN, Stack, until},
    story::{deadlines, hasty, hasty_with},
};

#[tokio::test]
async fn s3_2_a_hold_that_runs_out_frees_the_seat_for_others() {
    let stack = hasty("hold_runs_out", 1, 600).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, first) = stack.payable("ann", &schedule).await;
    stack.until_status(&ann, &first, "lapsed").await;
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.pay(&second).await;
    stack.until_status(&bob, &second, "confirmed").await;
    until("ann is told", async || stack.messages_to("ann").await.pop()).await;
    // The session is sold out: the lapsed order is closed at WeChat, nobody can pay it any more.
    stack.until_status(&ann, &first, "expired").await;
    assert_eq!(stack.pay(&first).await.status, 409);
    stack.check_money().await;
}

#[tokio::test]
async fn payment_after_the_hold() {
    let stack = hasty("payment_after_the_hold", 1, 600).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.until_status(&ann, &order, "lapsed").await;
    stack.pay(&order).await;
    let confirmed = stack.until_status(&ann, &order, "confirmed").await;
    assert_eq!(confirmed["seat_no"], 1, "the same seat, since it was free");
    stack.check_money().await;
}

#[tokio::test]
async fn s5_1_payment_deadline_closes_the_order_at_wechat() {
    let stack = hasty("payment_deadline", 1, 4).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    // Where everything is slow it may run out before there is a code.
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "expired").await;
    assert_eq!(stack.pay(&order).await.status, 409, "closed at WeChat");
    stack.check_money().await;
}

#[tokio::test]
async fn callback_lost_for_ever() {
    let stack = hasty("callback_lost_for_ever", 600, 1200).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "rate": 1.0 }] })).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.check_money().await;
}

#[tokio::test]
async fn close_answers_orderpaid() {
    let stack = hasty("close_answers_orderpaid", 600, 1200).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "rate": 1.0 }] })).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.lay_cancel("ann", &order).await;
    let confirmed = stack.until_status(&ann, &order, "confirmed").await;
    assert_eq!(confirmed["status"], "confirmed", "paid while cancelling: the seat is theirs");
    stack.check_money().await;
}

#[tokio::test]
async fn cancelled_before_there_is_a_code() {
    let mut stack = hasty_with("cancelled_before_the_code", 600, 1200, &["api", "seats", "expiry"]).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    stack.lay_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    stack.spawn("prepay");
    stack.spawn("payments");
    stack.spawn("notifications");
    stack.booked("bob", &schedule).await;
    assert_eq!(stack.pay(&order).await.body["reason"], "unknown", "WeChat never heard of it");
    stack.check_money().await;
}

#[tokio::test]
async fn two_orders_for_the_last_seat() {
    let stack = hasty("two_orders_for_the_last_seat", 600, 1200).await;
    let (schedule, other) = (stack.add_schedule(1).await, stack.add_schedule(1).await);
    let [ann, bob] = ["ann", "bob"].map(|user| Customer::of(&stack, user));
    let ((one, _), (two, _)) = tokio::join!(ann.order(&schedule, None), bob.order(&schedule, Some(1)));
    let (served, refused) = if one.status == StatusCode::CREATED { (one, two) } else { (two, one) };
    assert_eq!((served.status, refused.status), (StatusCode::CREATED, StatusCode::CONFLICT));
    assert_eq!(refused.problem(), "sold-out");
    assert_eq!(refused.body["alternatives"]["schedules"][0]["schedule_id"], json!(other));
    stack.pay(served.body["order_id"].as_str().expect("an id")).await;
    stack.until_count("one is booked", "SELECT count(*) FROM bookings", 1).await;
    let told = "SELECT count(*) FROM notifications WHERE status = 'sent'";
    stack.until_count("each is told", told, 2).await;
    stack.check_money().await;
}

#[tokio::test]
async fn price_changed_while_queued() {
    let mut stack =
        hasty_with("price_changed_while_queued", 600, 1200, &["api", "prepay", "payments", "notifications"]).await;
    let schedule = stack.add_schedule(3).await;
    stack.spawn("seats");
    let (ann, before) = stack.payable("ann", &schedule).await;
    assert!(stack.terminate("seats").await.success());
    let bob = stack.quick_token("bob");
    let queued = stack.submit(&bob, &schedule).await;
    sqlx::query("UPDATE course_schedules SET price_fen = $1").bind(PRICE_FEN + 5_000).execute(&stack.db).await.unwrap();
    stack.spawn("seats");
    let refused = stack.until_status(&bob, &queued, "rejected").await;
    assert_eq!(refused["reason"], "amount-mismatch");
    assert_eq!(refused["alternatives"]["seats"], json!([2, 3]));
    stack.pay(&before).await;
    let confirmed = stack.until_status(&ann, &before, "confirmed").await;
    assert_eq!(confirmed["amount_fen"], PRICE_FEN, "what was agreed stays agreed");
    until("bob is told", async || stack.messages_to("bob").await.pop()).await;
    stack.check_money().await;
}

#[tokio::test]
async fn session_cancelled_while_queued() {
    let mut stack = hasty_with("cancelled_while_queued", 600, 1200, &["api", "notifications"]).await;
    let (schedule, other) = (stack.add_schedule(1).await, stack.add_schedule(1).await);
    let ann = stack.quick_token("ann");
    let queued = stack.submit(&ann, &schedule).await;
    stack.holdfast_ok(&["schedule", "cancel", &schedule]).await;
    stack.spawn("seats");
    let refused = stack.until_status(&ann, &queued, "rejected").await;
    assert_eq!(refused["reason"], "schedule-closed");
    assert_eq!(refused["alternatives"]["schedules"][0]["schedule_id"], json!(other));
    until("ann is told", async || stack.messages_to("ann").await.pop()).await;
    stack.check_money().await;
}

/// The database's clock, the only one that deadlines are compared with, is ten minutes off ours and the broker's.
#[tokio::test]
async fn clock_skew() {
    for (test, skew) in [("clock_ahead", "10 minutes"), ("clock_behind", "-10 minutes")] {
        let roles = ["api", "seats", "prepay", "payments", "expiry", "notifications"];
        let mut stack =
            Stack::start_with(test, Choice { settings: deadlines(3, 600), roles: vec![], ..Choice::default() }).await;
        // Found before the real one by every session that begins from now on.
        let skewed = format!(
            "CREATE SCHEMA skewed;
             CREATE FUNCTION skewed.now() RETURNS timestamptz STABLE LANGUAGE sql
                 AS $$ SELECT pg_catalog.now() + interval '{skew}' $$;
             CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
                 AS $$ SELECT pg_catalog.clock_timestamp() + interval '{skew}' $$;
             ALTER DATABASE {} SET search_path = skewed, pg_catalog, public",
            stack.name
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(skewed)).execute(&stack.db).await.expect("another clock");
        for role in roles {
            stack.spawn(role);
        }
        stack.until_ready().await;
        let schedule = stack.add_schedule(2).await;
        stack.booked("ann", &schedule).await;
        let (bob, order) = stack.payable("bob", &schedule).await;
        stack.until_status(&bob, &order, "lapsed").await;
        stack.pay(&order).await;
        stack.until_status(&bob, &order, "confirmed").await;
        stack.check_money().await;
    }
}
