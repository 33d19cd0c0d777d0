//! When a session is on sale, and that nobody pays for a class that has begun.

use holdfast::domain::message::WaitlistWish;
use serde_json::{Value, json};
use sqlx::types::time::OffsetDateTime;

use crate::{
    customer::Customer,
    stack::{PRICE_FEN, Stack, until},
    story::{hasty, hasty_with},
};

impl Stack {
    /// Moves the start of a session, or the ends of its sale, relative to now: an SQL interval such as `20 seconds`.
    pub(crate) async fn move_session(&self, schedule: &str, column: &str, from_now: &str) {
        let set = format!("UPDATE course_schedules SET {column} = now() + '{from_now}' WHERE schedule_id = $1::uuid");
        let moved = sqlx::query(sqlx::AssertSqlSafe(set)).bind(schedule).execute(&self.db).await.expect("moved");
        assert_eq!(moved.rows_affected(), 1);
    }

    async fn deadlines_and_close(&self, order: &str) -> [OffsetDateTime; 3] {
        let (hold, pay, closes) = sqlx::query_as(
            "SELECT o.hold_expires_at, o.pay_before, coalesce(s.sale_closes_at, s.starts_at)
               FROM payment_orders o JOIN course_schedules s USING (schedule_id) WHERE o.order_id = $1",
        )
        .bind(order)
        .fetch_one(&self.db)
        .await
        .expect("an order");
        [hold, pay, closes]
    }
}

/// C6: the hold and the time to pay end with the sale, of an order and of an offer, and WeChat is told so.
#[tokio::test]
async fn c6_hold_and_payment_end_with_the_sale_at_the_latest() {
    let stack = hasty("sale_ends_holds", 900, 1800).await;
    let schedule = stack.add_schedule(1).await;
    stack.move_session(&schedule, "starts_at", "10 minutes").await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    let [hold, pay, closes] = stack.deadlines_and_close(&order).await;
    assert_eq!((hold, pay), (closes, closes));
    let time_expire = stack.ledger().await["orders"][0]["time_expire"].clone();
    if let Some(told) = time_expire.as_str() {
        let parsed = OffsetDateTime::parse(told, &time::format_description::well_known::Rfc3339).expect("a time");
        assert!(parsed <= closes, "{told}");
    }

    stack.move_session(&schedule, "sale_closes_at", "5 minutes").await;
    stack.wait_in_line(&["bob"], &schedule).await;
    stack.lay_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    let offered = stack.offered_to("bob").await;
    let [hold, pay, closes] = stack.deadlines_and_close(&offered).await;
    assert_eq!((hold, pay), (closes, closes));
    stack.check_money().await;
}

/// C6: the end of the sale ends the order, without waiting for its ordinary alarms.
#[tokio::test]
async fn c6_an_order_ends_with_the_sale_and_its_seat_goes_to_nobody() {
    let stack = hasty("sale_ends_orders", 900, 1800).await;
    let schedule = stack.add_schedule(1).await;
    stack.move_session(&schedule, "starts_at", "4 seconds").await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.lay_waitlist("bob", &schedule, WaitlistWish::Join).await;
    stack.until_status(&ann, &order, "expired").await;
    assert_eq!(stack.pay(&order).await.status, 409, "closed at WeChat");
    assert_eq!(stack.count("SELECT count(*) FROM waitlist WHERE offered_order_id IS NOT NULL").await, 0);
    let (late, _) = Customer::of(&stack, "cid").order(&schedule, None).await;
    assert_eq!(late.problem(), "not-on-sale", "{}", late.body);
    stack.check_money().await;
}

/// C6: money that WeChat takes after the start goes back by itself, whether the seat is still held or not.
#[tokio::test]
async fn c6_money_for_a_class_that_has_begun_goes_back() {
    let mut stack = hasty_with(
        "paid_after_the_start",
        900,
        1800,
        &["api", "seats", "prepay", "payments", "refunds", "notifications"],
    )
    .await;
    let schedule = stack.add_schedule(3).await;
    let (ann, held) = stack.payable("ann", &schedule).await;
    let (bob, lapsed) = stack.payable("bob", &schedule).await;
    stack.spawn("expiry");
    stack.lapse_now(&bob, &lapsed).await;
    stack.kill("expiry");
    stack.move_session(&schedule, "starts_at", "-1 second").await;
    for (token, order) in [(&ann, &held), (&bob, &lapsed)] {
        assert_eq!(stack.pay(order).await.status, 200);
        let refunded = stack.until_status(token, order, "refunded").await;
        assert_eq!((&refunded["refunded_fen"], &refunded["reason"]), (&json!(PRICE_FEN), &json!("not-on-sale")));
        assert_eq!(refunded["seat_no"], Value::Null);
    }
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 3);
    assert_eq!(stack.count("SELECT count(*) FROM bookings").await, 0);
    stack.verified().await;
    stack.check_money().await;
}

/// C6: who paid before the start has the seat, however late WeChat says so.
#[tokio::test]
async fn c6_money_from_before_the_start_is_a_seat_however_late_it_is_told() {
    let mut stack = hasty_with("paid_before_the_start", 900, 1800, &["api", "seats", "prepay"]).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    assert_eq!(stack.pay(&order).await.status, 200);
    until("WeChat has called", async || (stack.ready_in("payments").await > 0).then_some(())).await;
    // WeChat's time has whole seconds.
    stack.move_session(&schedule, "starts_at", "1 second").await;
    until("it has begun", async || {
        (stack.count("SELECT count(*) FROM course_schedules WHERE starts_at < now()").await == 1).then_some(())
    })
    .await;
    stack.spawn("payments");
    stack.spawn("notifications");
    stack.until_status(&ann, &order, "confirmed").await;
    stack.check_money().await;
}
