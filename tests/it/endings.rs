//! The other ways an order can end: each hard case by its name, our books compared with WeChat's at the end.

use serde_json::{Value, json};

use crate::stack::{Choice, Stack, until};

/// A stack whose hold and payment deadlines are seconds.
async fn hasty(test: &str, hold: u32, payment: u32) -> Stack {
    let settings = vec![
        ("HOLDFAST_ORDER__HOLD_SECONDS", hold.to_string()),
        ("HOLDFAST_ORDER__PAYMENT_SECONDS", payment.to_string()),
        ("HOLDFAST_ORDER__CHECK_SECONDS", "1".into()),
        ("HOLDFAST_ORDER__REFUND_INTERVAL_SECONDS", "1".into()),
    ];
    Stack::start_with(test, Choice { settings, ..Choice::default() }).await
}

impl Stack {
    /// An order of this customer, waiting for its payment.
    async fn payable(&self, user: &str, schedule: &str) -> (String, String) {
        let token = self.quick_token(user);
        let order = self.submit(&token, schedule).await;
        self.until_status(&token, &order, "awaiting_payment").await;
        (token, order)
    }

    async fn check_money(&self) {
        self.check_invariants().await;
        let ledger = self.ledger().await;
        let sum = |list: &str, member: &str| -> i64 {
            ledger[list].as_array().into_iter().flatten().filter_map(|entry| entry[member].as_i64()).sum()
        };
        assert_eq!(
            self.count("SELECT coalesce(sum(total_fen), 0)::bigint FROM payment_transactions").await,
            sum("payments", "total"),
            "payments differ from WeChat's"
        );
        assert_eq!(
            self.count("SELECT coalesce(sum(refunded_fen), 0)::bigint FROM payment_orders").await,
            ledger["refunds"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|refund| refund["status"] == "SUCCESS")
                .filter_map(|refund| refund["refund"].as_i64())
                .sum::<i64>(),
            "refunds differ from WeChat's"
        );
    }
}

#[tokio::test]
async fn s3_2_a_hold_that_runs_out_frees_the_seat_for_others() {
    let stack = hasty("hold_runs_out", 1, 60).await;
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
    let stack = hasty("payment_after_the_hold", 1, 60).await;
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
    let stack = hasty("payment_deadline", 1, 2).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.until_status(&ann, &order, "expired").await;
    assert_eq!(stack.pay(&order).await.status, 409, "closed at WeChat");
    stack.check_money().await;
}

#[tokio::test]
async fn callback_lost_for_ever() {
    let stack = hasty("callback_lost_for_ever", 60, 120).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "rate": 1.0 }] })).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.check_money().await;
}

#[tokio::test]
async fn close_answers_orderpaid() {
    let stack = hasty("close_answers_orderpaid", 60, 120).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "rate": 1.0 }] })).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.publish_cancel("ann", &order).await;
    let confirmed = stack.until_status(&ann, &order, "confirmed").await;
    assert_eq!(confirmed["status"], "confirmed", "paid while cancelling: the seat is theirs");
    stack.check_money().await;
}

#[tokio::test]
async fn late_money_with_no_seat_left_goes_back() {
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned())];
    let stack = Stack::start_with("late_money", Choice { settings, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, first) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&first).await;
    // Paid while a seat was free, but nobody tells us before it is gone.
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "order": first }] })).await;
    stack.pay(&first).await;
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.pay(&second).await;
    stack.until_status(&bob, &second, "confirmed").await;

    let refunded = stack.until_status(&ann, &first, "refunded").await;
    assert_eq!(refunded["refunded_fen"], 20_000);
    until("ann is told of the lapse, of the money and of the refund", async || {
        (stack.messages_to("ann").await.len() == 3).then_some(())
    })
    .await;
    stack.check_money().await;
}

#[tokio::test]
async fn s5_3_a_freed_seat_goes_to_the_first_who_waits() {
    let stack = hasty("waiting_list", 60, 120).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    for user in ["bob", "cid"] {
        stack.publish_waitlist(user, &schedule).await;
    }
    until("both wait", async || {
        (stack.count("SELECT count(*) FROM waitlist WHERE left_at IS NULL").await == 2).then_some(())
    })
    .await;
    stack.publish_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    let offered: String = until("bob is offered the seat", async || {
        sqlx::query_scalar("SELECT order_id FROM payment_orders WHERE user_id = 'bob' AND status = 'awaiting_payment'")
            .fetch_optional(&stack.db)
            .await
            .expect("a look")
    })
    .await;
    stack.pay(&offered).await;
    stack.until_status(&stack.quick_token("bob"), &offered, "confirmed").await;
    until("bob was told of the offer and of the booking", async || {
        (stack.messages_to("bob").await.len() == 2).then_some(())
    })
    .await;
    assert!(stack.messages_to("cid").await.is_empty());
    stack.check_money().await;
}

#[tokio::test]
async fn s5_4_partial_and_whole_refunds_once_each() {
    let stack = hasty("refunds", 60, 120).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;

    // two partial refunds together exceeding the sum; each request twice
    for _ in 0..2 {
        stack.publish_refund(&order, "first", Some(15_000)).await;
        stack.publish_refund(&order, "second", Some(15_000)).await;
    }
    let partly = until("one of them is refunded", async || {
        let answer = stack.order(&ann, &order).await;
        (answer.body["refunded_fen"] == 15_000).then_some(answer.body)
    })
    .await;
    assert_eq!(partly["status"], "confirmed");
    until("the other one is refused", async || {
        (stack.count("SELECT count(*) FROM refunds WHERE status = 'refused'").await == 1).then_some(())
    })
    .await;

    stack.advance_simulator(120).await;
    stack.publish_refund(&order, "rest", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1, "the seat is free again");
    stack.check_money().await;
}

#[tokio::test]
async fn refund_in_doubt() {
    let stack = hasty("refund_in_doubt", 60, 120).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.script(&json!({ "rules": [{ "on": "refund", "answer_lost": true, "count": 2 }] })).await;
    stack.publish_refund(&order, "all", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    let refunds = stack.ledger().await["refunds"].as_array().map(Vec::len);
    assert_eq!(refunds, Some(1), "one number for ever");
    stack.check_money().await;
}

impl Stack {
    async fn publish_cancel(&self, user: &str, order: &str) {
        let body = json!({ "order_id": order, "user_id": user, "request_id": "test" });
        self.publish("expiry", "order.cancel", &body).await;
    }

    async fn publish_waitlist(&self, user: &str, schedule: &str) {
        let lane = holdfast::domain::ids::ScheduleId::parse(schedule).expect("an id").lane(8);
        let body = json!({
            "schedule_id": schedule, "user_id": user, "openid": format!("openid-{user}"), "wish": "join", "request_id": user,
        });
        self.publish(&format!("orders.{lane}"), "waitlist.change", &body).await;
    }

    async fn publish_refund(&self, order: &str, key: &str, amount_fen: Option<i64>) {
        let body = json!({
            "refund_id": format!("{order}-{key}"), "order_id": order, "amount_fen": amount_fen, "reason": "test",
            "requested_by": "operator:test", "request_id": "test",
        });
        self.publish("refunds", "refund.requested", &body).await;
    }

    /// Publishes one message as any client of the broker could.
    async fn publish(&self, queue: &str, kind: &str, body: &Value) {
        let connection = lapin::Connection::connect(&self.amqp_url, lapin::ConnectionProperties::default()).await;
        let connection = connection.expect("the broker");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(Default::default()).await.expect("confirms");
        let properties = lapin::BasicProperties::default().with_type(kind.into()).with_delivery_mode(2);
        let body = body.to_string();
        let confirm = channel.basic_publish("".into(), queue.into(), Default::default(), body.as_bytes(), properties);
        confirm.await.expect("sent").await.expect("confirmed");
        let _ = connection.close(200, "done".into()).await;
    }

    async fn advance_simulator(&self, seconds: u64) {
        let url = format!("{}/_sim/clock", self.simulator.url);
        let answer = self.http.post(url).json(&json!({ "advance_seconds": seconds })).send().await.expect("an answer");
        assert!(answer.status().is_success());
    }

    /// Makes an order lapse as the worker would, without waiting for its hold.
    async fn lapse_now(&self, order: &str) {
        sqlx::query("UPDATE payment_orders SET hold_expires_at = now() WHERE order_id = $1")
            .bind(order)
            .execute(&self.db)
            .await
            .expect("changed");
        let body = json!({ "order_id": order, "alarm": "hold", "after_ms": 0 });
        self.publish("expiry", "order.alarm", &body).await;
        until("it lapsed", async || {
            let status: String = sqlx::query_scalar("SELECT status::text FROM payment_orders WHERE order_id = $1")
                .bind(order)
                .fetch_one(&self.db)
                .await
                .expect("a look");
            (status == "lapsed").then_some(())
        })
        .await;
    }
}
