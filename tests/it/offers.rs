//! Offers to the waiting list: named by the system alone, and no failed one costs anybody else a seat.

use holdfast::domain::{
    ids::{OrderId, ScheduleId, Ticket},
    message::WaitlistWish,
};
use serde_json::{Value, json};

use crate::{
    queues::Queues,
    stack::{Answer, PRICE_FEN, Stack, until},
    story::hasty,
};

impl Stack {
    /// Takes the name of the offer that a customer's place will become, with an order of somebody else that was rejected.
    async fn occupy_offer_of(&self, user: &str, schedule: &str) -> OrderId {
        let ticket: i64 = sqlx::query_scalar("SELECT ticket FROM waitlist WHERE user_id = $1 AND left_at IS NULL")
            .bind(user)
            .fetch_one(&self.db)
            .await
            .expect("a place");
        let prefix = self.settings().order.id_prefix;
        let name = OrderId::of_offer(&prefix, ScheduleId::parse(schedule).expect("an id"), Ticket(ticket));
        sqlx::query(
            "INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, reason,
                                         audit_head, submitted_at)
             SELECT $1, user_id, schedule_id, 'rejected', channel, amount_fen, 'occupied', 'sold-out', audit_head, now()
               FROM payment_orders ORDER BY arrival LIMIT 1",
        )
        .bind(name.as_str())
        .execute(&self.db)
        .await
        .expect("an order");
        name
    }
}

/// C1: a customer who had used the key that an offer was named by stopped every release and refund of the session.
#[tokio::test]
async fn c1_a_customers_key_cannot_stop_a_seat_from_being_freed() {
    let stack = hasty("offers_key", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, held) = stack.payable("ann", &schedule).await;
    let bob = stack.quick_token("bob");
    // Release 0.1 named the offer of ticket N by the key `waitlist/N` of the customer who waits.
    for ticket in 1..4 {
        let body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
        let taken = Answer::of(stack.submit_request(&bob, &format!("waitlist/{ticket}"), &body)).await;
        assert_eq!(taken.status, 202, "{}", taken.body);
        let order = taken.body["order_id"].as_str().expect("an order_id").to_owned();
        stack.until_status(&bob, &order, "rejected").await;
    }
    stack.wait_in_line(&["bob", "cid"], &schedule).await;
    stack.lay_cancel("ann", &held).await;
    stack.until_status(&ann, &held, "cancelled").await;
    let offered = stack.offered_to("bob").await;
    stack.lay_cancel("bob", &offered).await;
    stack.until_status(&bob, &offered, "cancelled").await;
    let offered = stack.offered_to("cid").await;
    assert_eq!(stack.pay(&offered).await.status, 200);
    stack.until_status(&stack.quick_token("cid"), &offered, "confirmed").await;
    for queue in ["expiry.dead", "refunds.dead", "orders.dead"] {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    stack.holdfast_ok(&["verify"]).await;
    stack.check_money().await;
}

/// C1: an offer that cannot be made is undone alone. The seat is freed, the next in line is offered it, and the place of
/// the first shows in `verify`.
#[tokio::test]
async fn c1_an_offer_that_fails_undoes_neither_the_freeing_nor_the_next_offer() {
    let stack = hasty("offers_fail", 600, 1200).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, booked) = stack.booked("ann", &schedule).await;
    let (dan, held) = stack.payable("dan", &schedule).await;
    stack.wait_in_line(&["bob", "cid", "eve"], &schedule).await;
    let occupied = stack.occupy_offer_of("bob", &schedule).await;
    stack.lay_refund(&booked, "all", None).await;
    stack.until_status(&ann, &booked, "refunded").await;
    let offered = stack.offered_to("cid").await;
    stack.lay_cancel("dan", &held).await;
    stack.until_status(&dan, &held, "cancelled").await;
    stack.offered_to("eve").await;
    assert_eq!(stack.ready_in("refunds.dead").await + stack.ready_in("expiry.dead").await, 0);
    assert_eq!(stack.pay(&offered).await.status, 200);
    stack.until_status(&stack.quick_token("cid"), &offered, "confirmed").await;

    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    assert_eq!(code, 1, "{report}");
    // The order that stands in the way has no history and no message: that is seen as well.
    let broken = broken(&report);
    let passed_over = &broken.iter().find(|item| item["name"] == "no_offer_failed").expect("the check")["rows"][0];
    assert_eq!(passed_over["user_id"], "bob", "{passed_over}");

    // The next free seat is bob's, once nothing stands in its way.
    sqlx::query("DELETE FROM payment_orders WHERE order_id = $1")
        .bind(occupied.as_str())
        .execute(&stack.db)
        .await
        .expect("removed");
    let eves: String = stack.offered_to("eve").await;
    stack.lay_cancel("eve", &eves).await;
    stack.offered_to("bob").await;
    stack.holdfast_ok(&["verify"]).await;
}

fn broken(report: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(report).expect("one JSON document");
    let items = report["items"].as_array().expect("items");
    items.iter().filter(|item| item["broken"].as_i64() > Some(0)).cloned().collect()
}

/// C1: what was answered 202 and set aside for our fault is seen by `verify` and told by the order's story.
#[tokio::test]
async fn c1_an_accepted_request_that_was_parked_shows_in_verify_and_in_the_orders_story() {
    let mut stack = hasty("offers_parked", 600, 1200).await;
    stack.spawn("reconcile");
    let queues = Queues::of(&stack).await;
    let schedule = stack.add_schedule(2).await;
    let (_, booked) = stack.booked("ann", &schedule).await;
    stack.kill("seats");
    let bob = stack.quick_token("bob");
    let order = stack.submit(&bob, &schedule).await;
    let lane = ScheduleId::parse(&schedule).expect("an id").lane(8);
    let taken = queues.take(&format!("orders.{lane}")).await;
    let id = format!("{order}/submitted");
    queues.put_parked("orders.dead", &format!("orders.{lane}"), "order.submitted", &id, &taken.body).await;
    let refund = format!("{booked}-lost");
    let body = json!({ "refund_id": refund, "order_id": booked, "amount_fen": null, "reason": "r",
        "requested_by": "user:ann", "request_id": "r" });
    let id = format!("{refund}/requested");
    queues.put_parked("refunds.dead", "refunds", "refund.requested", &id, body.to_string().as_bytes()).await;
    stack
        .until_count("both letters are catalogued", "SELECT count(*) FROM dead_letters WHERE state = 'parked'", 2)
        .await;

    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    let broken = broken(&report);
    assert_eq!((code, broken.len(), &broken[0]["name"]), (1, 1, &json!("accepted_is_decided")), "{report}");
    assert_eq!(broken[0]["broken"], 2, "{report}");

    let story = stack.timeline(&order).await;
    assert_eq!((&story["order"]["status"], &story["user_id"]), (&json!("submitted"), &json!("bob")), "{story}");
    assert!(story["answer"].as_str().is_some_and(|answer| answer.contains("set aside")), "{story}");
    let page = stack.holdfast_ok(&["order", "explain", &order]).await;
    assert!(page.contains("order.submitted") && page.contains("a broken release"), "{page}");
    let story = stack.timeline(&booked).await;
    let waits = story["waits_for"].as_array().expect("a list");
    assert!(waits.iter().any(|wait| wait["whom"] == "operator"), "{story}");

    // Replayed, the letters are decided.
    stack.spawn("seats");
    stack.dead_ok(&["replay", "--all"]).await;
    stack.until_status(&bob, &order, "awaiting_payment").await;
    until("the books are clean", async || (stack.holdfast(&["verify"]).await.0 == 0).then_some(())).await;
}

/// C4: who gives a seat back while waiting is not offered that seat.
#[tokio::test]
async fn c4_a_seat_given_back_goes_to_somebody_else_first() {
    let stack = hasty("offers_own", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, held) = stack.payable("ann", &schedule).await;
    stack.wait_in_line(&["ann", "bob"], &schedule).await;
    stack.end_hold(&held).await;
    let offered = stack.offered_to("bob").await;
    stack.until_status(&ann, &held, "expired").await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE user_id = 'ann'").await, 1);
    // Alone in the line she is not offered her own seat either: it is free for everybody.
    stack.lay_cancel("bob", &offered).await;
    let hers = stack.offered_to("ann").await;
    stack.lay_waitlist("ann", &schedule, WaitlistWish::Join).await;
    let waits = "SELECT count(*) FROM waitlist WHERE user_id = 'ann' AND offered_order_id IS NULL";
    stack.until_count("she waits again", waits, 1).await;
    stack.end_hold(&hers).await;
    stack.until_count("the seat is free", "SELECT count(*) FROM free_seats", 1).await;
    assert_eq!(stack.count(waits).await, 1);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE user_id = 'ann'").await, 2);
    stack.check_money().await;
}

/// C4: a session that is cancelled, or has begun, has no waiting list.
#[tokio::test]
async fn c4_what_is_over_has_no_waiting_list() {
    let stack = hasty("offers_over", 600, 1200).await;
    for over in ["cancelled", "begun"] {
        let schedule = stack.add_schedule(1).await;
        stack.payable("ann", &schedule).await;
        let bob = stack.quick_token("bob");
        let path = format!("/v1/schedules/{schedule}/waitlist");
        let joined = Answer::of(stack.request(reqwest::Method::POST, &path).bearer_auth(&bob)).await;
        assert_eq!((joined.status.as_u16(), &joined.body["position"]), (202, &json!(1)), "{over}");
        if over == "cancelled" {
            let operator = stack.token_of_role("olga", holdfast::api::Role::Operator);
            let cancel = format!("/v1/ops/schedules/{schedule}/cancel");
            let request = stack.request(reqwest::Method::POST, &cancel).bearer_auth(operator).json(&json!({}));
            assert_eq!(Answer::of(request).await.status, 202);
            assert_eq!(stack.count("SELECT count(*) FROM waitlist WHERE left_at IS NULL").await, 0);
        } else {
            sqlx::query(
                "UPDATE course_schedules SET starts_at = now() - interval '1 minute' WHERE schedule_id = $1::uuid",
            )
            .bind(&schedule)
            .execute(&stack.db)
            .await
            .expect("moved");
        }
        let place = Answer::of(stack.request(reqwest::Method::GET, &path).bearer_auth(&bob)).await;
        assert_eq!((place.status.as_u16(), &place.body["position"]), (200, &json!(null)), "{over}");
        let cid = stack.quick_token("cid");
        let refused = Answer::of(stack.request(reqwest::Method::POST, &path).bearer_auth(&cid)).await;
        assert_eq!((refused.status.as_u16(), refused.problem()), (409, "schedule-closed"), "{over}: {}", refused.body);
        // Past the ingress, too: a message that was on its way.
        stack.lay_waitlist("dan", &schedule, WaitlistWish::Join).await;
        let eve = stack.quick_token("eve");
        let last =
            Answer::of(stack.submit_request(&eve, over, &json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN })))
                .await;
        if last.status == 202 {
            stack.until_status(&eve, last.body["order_id"].as_str().expect("an id"), "rejected").await;
        }
        stack
            .until_count(
                "dan does not wait",
                "SELECT count(*) FROM waitlist WHERE user_id = 'dan' AND left_at IS NULL",
                0,
            )
            .await;
    }
    // The cancelled session's order and its place are gone; the books hold.
    stack.check_invariants().await;
}
