//! Money that goes back at WeChat without us: staff refund in the merchant platform. It belongs to the order, whatever the
//! books knew when it came.

use holdfast::api::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    overrides::stage,
    refunds::with_a_booking,
    stack::{Answer, PRICE_FEN, Stack, until},
    story::hasty,
};

impl Stack {
    /// Staff refund in the merchant platform; `told`: WeChat calls us about it. Answers WeChat's number.
    pub(crate) async fn staff_refund(&self, order: &str, fen: Option<i64>, told: bool) -> String {
        let mut wish = json!({ "out_trade_no": order, "refund": fen });
        if told {
            wish["notify_url"] = json!(format!("{}/v1/wechat/notify/refunds", self.api));
        }
        let request = self.http.post(format!("{}/_sim/refund", self.simulator.url)).json(&wish);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["out_refund_no"].as_str().expect("a number").to_owned()
    }

    pub(crate) async fn until_refunded(&self, token: &str, order: &str, fen: i64) -> Value {
        until(&format!("{fen} fen of {order} are back"), async || {
            let answer = self.order(token, order).await;
            (answer.body["refunded_fen"] == fen).then_some(answer.body)
        })
        .await
    }

    async fn until_open_case(&self, kind: &str, subject: &str, order: &str) {
        until(&format!("case {kind} about {subject} names {order}"), async || {
            let known: Option<String> =
                sqlx::query_scalar("SELECT order_id FROM cases WHERE kind = $1 AND subject = $2 AND status = 'open'")
                    .bind(kind)
                    .bind(subject)
                    .fetch_optional(&self.db)
                    .await
                    .expect("a look")?;
            (known.as_deref() == Some(order)).then_some(())
        })
        .await;
    }
}

/// B4: a part that staff refund counts against what is left, and all that is left is the right sum.
#[tokio::test]
async fn a_part_that_staff_refund_counts_against_what_is_left() {
    let (stack, ann, order) = with_a_booking("staff_part").await;
    let number = stack.staff_refund(&order, Some(5_000), true).await;
    let booked = stack.until_refunded(&ann, &order, 5_000).await;
    assert_eq!(booked["status"], "confirmed", "the seat stays");
    stack.until_open_case("unknown_refund", &number, &order).await;

    stack.advance_simulator(61).await;
    let rest = stack.lay_refund(&order, "rest", None).await;
    stack.until_status(&ann, &order, "refunded").await;
    stack.until_refund(&rest, "succeeded").await;
    assert_eq!(stack.count("SELECT amount_fen FROM refunds WHERE reason = 'test'").await, PRICE_FEN - 5_000);
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    stack.check_money().await;
}

/// B4: when staff refund all of it, the seat is free.
#[tokio::test]
async fn all_that_staff_refund_frees_the_seat() {
    let (stack, ann, order) = with_a_booking("staff_all").await;
    stack.staff_refund(&order, None, true).await;
    stack.until_status(&ann, &order, "refunded").await;
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    assert_eq!(stack.count("SELECT count(*) FROM bookings WHERE cancelled_at IS NULL").await, 0);
    stack.check_money().await;
}

/// B4: money that went back before the books knew of the payment counts as soon as they do.
#[tokio::test]
async fn money_that_went_back_before_the_payment_was_known_counts() {
    let stack = stage("staff_early", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never" }] })).await;
    stack.pay(&order).await;
    let number = stack.staff_refund(&order, Some(5_000), true).await;
    let booked = stack.until_refunded(&ann, &order, 5_000).await;
    assert_eq!(booked["status"], "confirmed");
    stack.until_open_case("unknown_refund", &number, &order).await;
    assert_eq!(stack.ready_in("refunds.dead").await, 0);
    stack.check_money().await;
}

/// B4: a refund of ours that WeChat can no more accept gives way, and the rest is asked for under the next number.
#[tokio::test]
async fn a_refund_of_ours_gives_way_to_what_staff_refunded() {
    let (stack, ann, order) = with_a_booking("staff_gives_way").await;
    stack.script(&json!({ "rules": [{ "on": "refund", "refund": "NOT_ENOUGH" }] })).await;
    let ours = stack.lay_refund(&order, "all", None).await;
    stack.case_of(&ours).await;
    stack.until_status(&ann, &order, "refunding").await;
    stack.staff_refund(&order, Some(5_000), true).await;
    stack.until_refunded(&ann, &order, 5_000).await;
    assert_eq!(stack.until_refund(&ours, "refused").await.as_deref(), Some("more-than-left"));
    stack.script(&json!({})).await;
    stack.advance_simulator(61).await;
    let next = format!("{ours}-n2");
    until("the rest is refunded", async || {
        stack.lay_refund_due(&next).await;
        (stack.order(&ann, &order).await.body["status"] == "refunded").then_some(())
    })
    .await;
    stack.check_money().await;
}

/// B4: what only the merchant platform knows, an operator takes into the books; WeChat is asked first.
#[tokio::test]
async fn an_operator_takes_a_refund_into_the_books() {
    let (stack, ann, order) = with_a_booking("staff_taken_in").await;
    let number = stack.staff_refund(&order, None, false).await;
    until("WeChat has given it back", async || {
        (stack.ledger().await["refunds"][0]["status"] == "SUCCESS").then_some(())
    })
    .await;
    let arguments = ["order", "take-refund", &order, "--reason", "asked by phone", "--as", "olga", "--out-refund-no"];
    let (code, _, words) = stack.holdfast(&[&arguments[..], &["5030"]].concat()).await;
    assert_eq!(code, 1, "{words}");
    let operator = stack.token_of_role("olga", Role::Operator);
    let take = async |number: &str| {
        let path = format!("/v1/ops/orders/{order}/wechat-refunds");
        let wish = json!({ "out_refund_no": number, "reason": "asked by phone" });
        Answer::of(stack.request(Method::POST, &path).bearer_auth(&operator).json(&wish)).await
    };
    assert_eq!(take("5030").await.problem(), "invalid-request");
    assert_eq!(stack.order(&ann, &order).await.body["refunded_fen"], 0);

    let taken = take(&number).await;
    assert_eq!((taken.status, &taken.body["refund_fen"]), (StatusCode::ACCEPTED, &json!(PRICE_FEN)), "{}", taken.body);
    stack.until_status(&ann, &order, "refunded").await;
    let (actor, reason) = stack.audited(&order, "refund_at_wechat").await;
    let why = format!("asked by phone (WeChat refund {number})");
    assert_eq!((&*actor, reason), ("operator:olga", Some(why)));
    // Again, by the command line: nothing changes.
    stack.holdfast_ok(&[&arguments[..], &[&number]].concat()).await;
    until("it is worked off", async || (stack.ready_in("refunds").await == 0).then_some(())).await;
    stack.check_money().await;
}

/// B4: WeChat reports the payment as refunded and not how much: a case names the order until the refund is taken in.
#[tokio::test]
async fn a_payment_that_reads_refunded_is_a_case_until_its_refund_is_known() {
    let stack = hasty("staff_by_query", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack
        .script(
            &json!({ "rules": [{ "on": "query", "status": 503 }, { "on": "callback_payment", "callback": "never" }] }),
        )
        .await;
    let paid = stack.pay(&order).await;
    let number = stack.staff_refund(&order, Some(5_000), false).await;
    stack.script(&json!({})).await;
    stack.until_status(&ann, &order, "confirmed").await;
    let transaction = paid.body["transaction_id"].as_str().expect("a number");
    stack.until_open_case("refund_at_wechat", transaction, &order).await;

    let arguments = ["order", "take-refund", &order, "--reason", "a complaint", "--out-refund-no", &number];
    stack.holdfast_ok(&arguments).await;
    stack.until_refunded(&ann, &order, 5_000).await;
    let closed = "SELECT count(*) FROM cases WHERE kind = 'refund_at_wechat' AND status = 'closed'";
    stack.until_count("the case is closed", closed, 1).await;
    stack.check_money().await;
}

/// B9: a booking whose price was waived ends with its session, and nothing is asked of WeChat.
#[tokio::test]
async fn a_waived_booking_ends_with_its_session() {
    let mut stack = stage("waived_session", 1_000_000).await;
    stack.spawn("reconcile");
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.decided(&order, "waive", &["--as", "olga"]).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.holdfast_ok(&["schedule", "cancel", &schedule]).await;
    stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!(stack.count("SELECT count(*) FROM refunds").await, 0);
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    assert_eq!(stack.ledger().await["refunds"], json!([]));
    stack.check_money().await;
}
